"""convert: what a change keeps, what the report says of it, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
import torch
from converted import Net
from torch import Tensor, nn

import phnn
from phnn.layers.groups import ContiguousGroups


def test_the_original_is_not_touched() -> None:
    net = Net()
    net.body.eval()
    net.stem.weight.requires_grad_(False)
    before = {name: (value, value.clone(), value._version) for name, value in net.state_dict(keep_vars=True).items()}
    classes = {name: type(module) for name, module in net.named_modules()}
    for init in ("random", "project"):
        phnn.convert(net, n=2, init=init)
    assert {name: type(module) for name, module in net.named_modules()} == classes
    assert not hasattr(net, "conversion")
    assert not net.body.training
    for name, value in net.state_dict(keep_vars=True).items():
        same, values, version = before[name]
        assert value is same
        assert torch.equal(value, values)
        assert value._version == version


def test_nothing_is_shared_with_the_original() -> None:
    net = Net()
    own = {t.data_ptr() for t in net.state_dict().values()}
    assert not own & {t.data_ptr() for t in phnn.convert(net, n=2).state_dict().values()}


@pytest.mark.parametrize("place", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modes_dtype_and_requires_grad_stay_layer_by_layer(place: Any) -> None:
    net = Net().double()
    net.body.eval()
    net.hidden.weight.requires_grad_(False)
    net.body[3].bias.requires_grad_(False)
    with place():
        converted = phnn.convert(net)
    assert not converted.body[0].training
    assert converted.hidden.training
    assert {p.dtype for p in converted.parameters()} == {torch.float64}
    frozen = {name for name, p in converted.named_parameters() if not p.requires_grad}
    assert frozen == {"hidden.A", "hidden.F", "body.3.layer.bias"}
    with place():
        real = phnn.to_real(converted)
    assert {name for name, p in real.named_parameters() if not p.requires_grad} == {"hidden.weight", "body.3.bias"}
    assert not any(p.is_inference() for m in (converted, real) for p in m.parameters())


def test_parts_of_attention_freeze_by_themselves() -> None:
    attention = nn.MultiheadAttention(16, 2, kdim=8, vdim=12, add_bias_kv=True)
    attention.k_proj_weight.requires_grad_(False)
    attention.bias_v.requires_grad_(False)
    converted = phnn.convert(attention)
    frozen = {name for name, p in converted.named_parameters() if not p.requires_grad}
    assert frozen == {"k_proj.A", "k_proj.F", "bias_v"}


def test_a_frozen_layer_with_a_rank_is_frozen_whole() -> None:
    converted = phnn.convert(nn.Linear(8, 8).requires_grad_(False), rank=5)
    assert not any(p.requires_grad for p in converted.parameters())


def test_what_is_no_module_is_refused() -> None:
    for call in (phnn.convert, phnn.to_real):
        with pytest.raises(TypeError, match="a torch.nn.Module, not dict"):
            call({})


def test_hooks_of_other_modules_and_buffers_stay() -> None:
    net, seen = Net(), []
    net.pool.register_forward_hook(lambda *_: seen.append(1))
    net.body[1].running_mean.fill_(3)
    converted = phnn.convert(net)
    converted(torch.randn(2, 3, 8, 8))
    assert seen == [1]
    assert (phnn.convert(net).body[1].running_mean == 3).all()


@pytest.mark.parametrize("over", [{"algebra": "quaternion"}, {"n": 4}, {"n": 2, "rank": 3}, {"algebra": "complex"}])
def test_every_parameter_of_a_converted_net_learns(over: dict[str, Any]) -> None:
    converted = phnn.convert(Net(), last="convert", **over)
    y = converted(torch.randn(2, 3, 8, 8))
    y.square().sum().backward()
    for name, parameter in converted.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_group_meets_the_channels_that_it_met_before() -> None:
    real = nn.Conv2d(16, 8, 3, groups=2, padding=1)
    converted = phnn.convert(real, n=2)
    assert type(converted) is ContiguousGroups

    def meets(conv: nn.Module) -> Tensor:
        x = torch.zeros(1, 16, 4, 4, requires_grad=True)
        return torch.stack([torch.autograd.grad(y.sum(), x, retain_graph=True)[0].abs().sum((0, 2, 3)) for y in conv(x)[0]]) > 0  # fmt: skip

    assert torch.equal(meets(converted), meets(real))
    assert converted.weight.shape == real.weight.shape
    expected = nn.functional.conv2d(
        x := torch.randn(2, 16, 4, 4), converted.weight, converted.bias, padding=1, groups=2
    )
    torch.testing.assert_close(converted(x), expected)
    torch.testing.assert_close(converted(x[0]), expected[0])


def test_options_of_the_layers_are_passed_on() -> None:
    converted = phnn.convert(Net(), n=2, path="kron", rule_init="complex")
    assert converted.hidden.path == "kron"
    torch.testing.assert_close(converted.hidden.A.detach(), torch.tensor(phnn.algebra("complex").rule).float())
    assert converted.body[3].layer.path == "kron"
    assert phnn.convert(Net(), rank=5).hidden.rank == 5


def test_one_rule_can_serve_all_layers() -> None:
    rule = phnn.learned_rule(2, "complex")
    for init in ("random", "project"):
        converted = phnn.convert(Net(), rule=rule, init=init)
        assert converted.hidden.A is converted.body[0].A is rule
        assert torch.equal(rule.detach(), torch.tensor(phnn.algebra("complex").rule).float())


def test_a_second_conversion_takes_other_layers_over_another_algebra() -> None:
    converted = phnn.convert(phnn.convert(Net(), include="body.*"), "complex", include="hidden")
    assert (converted.body[0].n, converted.hidden.n) == (4, 2)
    assert [layer.name for layer in converted.conversion.converted] == ["hidden"]


# ------------------------------------------------------------------------------------------------------- report


def test_the_report_counts_parameters_of_each_layer_and_of_the_whole() -> None:
    net = Net()
    converted = phnn.convert(net)
    report = converted.conversion
    assert report.params_before == sum(p.numel() for p in net.parameters())
    assert report.params_after == sum(p.numel() for p in converted.parameters())
    rows = {layer.name: layer for layer in report.layers}
    assert (rows["hidden"].params_before, rows["hidden"].params_after) == (8 * 16 + 16, 64 + 8 * 16 // 4 + 16)
    assert rows["head"].params_before == rows["head"].params_after
    changed = sum(row.params_before - row.params_after for row in report.converted)
    assert report.params_before - report.params_after == changed
    assert report.removed == changed / report.convertible


def test_the_report_is_a_value_that_survives_the_model() -> None:
    converted = phnn.convert(Net(), init="project")
    report = converted.conversion
    assert isinstance(report, phnn.Conversion)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.n = 5
    assert not any("conversion" in name for name in converted.state_dict())
    for twin in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert twin.conversion == report
    text = json.dumps(report.as_dict())
    assert json.loads(text)["layers"][1]["became"] == "PHConv2d"


def test_the_table_has_a_line_for_each_layer_and_one_for_the_whole() -> None:
    lines = str(phnn.convert(Net(), init="project").conversion).splitlines()
    assert len(lines) == 1 + 7 + 1
    assert lines[0].split() == ["layer", "was", "is", "params", "error"]
    assert lines[1].endswith("real: n=4 does not divide in_channels=3 (nearest: 4)")
    assert lines[2].split()[:6] == ["body.0", "Conv2d", "PHConv2d", "1,152", "→", "352"]
    assert lines[-1].startswith("ph, n=4: 4 of 7 layers, whose parameters shrink by")


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "projct"}, "unknown init 'projct': did you mean project?"),
        ({"first": "keep"}, "unknown first 'keep'"),
        ({"last": False}, "unknown last False"),
        ({"algebra": "quaternoin"}, "unknown algebra 'quaternoin'"),
        ({"algebra": "complex", "n": 4}, "'complex' has n=2, not n=4"),
        ({"path": "densee"}, "unknown path 'densee'"),
        ({"include": "boddy.0"}, r"include: no layer is called 'boddy.0': did you mean body.0"),
        ({"exclude": ["hidden", "fc"]}, "exclude: no layer is called 'fc'"),
        ({"rule_init": "quaternoin"}, "unknown algebra 'quaternoin'"),
        ({"init": "project", "rule_init": "quaternion"}, "finds A itself: leave rule_init out"),
        ({"init": "project", "rank": 7}, "not its factors: leave rank out"),
        ({"algebra": "quaternion", "rank": 7}, "rank is for 'ph' alone"),
        ({"rule": phnn.learned_rule(2), "n": 4}, "has n=4, not n=2: leave n out"),
        ({"rule": phnn.learned_rule(4, dtype=torch.float64)}, "body.0: PHConv2d: rule is torch.float64"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_right(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phnn.convert(Net(), **arguments)


def test_values_that_are_not_there_cannot_be_projected() -> None:
    with pytest.raises(ValueError, match=r"hidden.weight is on the meta device: choose init='random'"):
        phnn.convert(Net().to("meta"), include="hidden", init="project")
    net = Net()
    nn.init.constant_(net.hidden.bias, torch.nan)
    with pytest.raises(ValueError, match=r"hidden.bias is not finite"):
        phnn.convert(net, init="project")


def test_a_lazy_layer_must_have_its_shape_first() -> None:
    with pytest.raises(ValueError, match=r"0.weight has no shape yet: run a batch"):
        phnn.convert(nn.Sequential(nn.LazyLinear(8)))


def test_a_model_with_a_conversion_of_its_own_keeps_it() -> None:
    net = Net()
    net.conversion = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="attribute 'conversion'"):
        phnn.convert(net)
