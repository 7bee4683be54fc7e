"""convert: which layers change and why others stay, what a change keeps, and what project finds."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

import phnn
from phnn.layers.groups import ContiguousGroups
from phnn.tolerances import tolerance


class Net(nn.Module):
    """A stem that n=4 does not divide, a grouped and a depthwise convolution, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding="same", padding_mode="circular", bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, groups=2, dilation=2),
            nn.Conv2d(16, 16, 3, groups=16, padding=1),
            nn.ConvTranspose2d(16, 8, 2, stride=2, output_padding=1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.pool(self.body(self.stem(x))).flatten(1))))


def becomes(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, str]:
    """The layers by name: the class that each became, or the reason why it stays."""
    layers = phnn.convert(model, *args, **kwargs).conversion.layers
    return {layer.name: layer.became or layer.reason for layer in layers}


def reason_of(layer: nn.Module, **kwargs: Any) -> str:
    """Why a layer in front of another stays real; empty if it changes."""
    report = phnn.convert(nn.ModuleList([layer, nn.Linear(8, 8)]), **kwargs).conversion
    return report.layers[0].reason or ""


# ------------------------------------------------------------------------------------------- what changes, or not


def test_every_layer_whose_widths_fit_changes_and_the_classifier_stays() -> None:
    assert becomes(Net()) == {
        "stem": "n=4 does not divide in_channels=3 (nearest: 4)",
        "body.0": "PHConv2d",
        "body.3": "PHConv2d",
        "body.4": "depthwise: one channel in each of its 16 groups",
        "body.5": "PHConvTranspose2d",
        "hidden": "PHLinear",
        "head": "the last layer (last='real')",
    }


def test_the_ends_follow_their_rules() -> None:
    found = becomes(Net(), n=2, first="real", last="convert")
    assert found["stem"] == "n=2 does not divide in_channels=3 (nearest: 2 or 4)"
    assert found["head"] == "PHLinear"
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert becomes(net, n=2, first="real") == {
        "0": "the first layer (first='real')",
        "1": "PHLinear",
        "2": "the last layer (last='real')",
    }


def test_a_model_that_is_one_layer_changes_itself() -> None:
    converted = phnn.convert(nn.Linear(8, 8), n=2, first="real")
    assert type(converted) is phnn.PHLinear
    assert converted.conversion.converted[0].name == ""


def test_a_last_layer_that_is_no_classifier_changes() -> None:
    assert becomes(nn.Sequential(nn.Linear(8, 8), nn.GRU(8, 8)))["1"] == "PHGRU"


@pytest.mark.parametrize(
    ("patterns", "changed"),
    [
        ({"include": "body.*"}, {"body.0", "body.3", "body.5"}),
        ({"include": ["body.0", "h*"]}, {"body.0", "hidden"}),
        ({"exclude": "body.*"}, {"hidden"}),
        ({"include": "body.*", "exclude": ("body.[03]",)}, {"body.5"}),
        ({"include": ()}, set()),
    ],
)
def test_patterns_choose_layers_by_name(patterns: dict[str, Any], changed: set[str]) -> None:
    report = phnn.convert(Net(), **patterns).conversion
    assert {layer.name for layer in report.converted} == changed


def test_a_pattern_says_that_it_kept_a_layer() -> None:
    assert becomes(Net(), exclude="hid*")["hidden"] == "excluded by 'hid*'"
    assert becomes(Net(), include="body.*")["hidden"] == "not included by 'body.*'"


def test_over_the_real_numbers_nothing_changes() -> None:
    net = Net()
    converted = phnn.convert(net, "real")
    assert not converted.conversion.converted
    assert list(converted.state_dict()) == list(net.state_dict())


class MyLinear(nn.Linear):
    pass


def _tied() -> nn.Module:
    pair = nn.ModuleList([nn.Embedding(8, 8), nn.Linear(8, 8)])
    pair[1].weight = pair[0].weight
    return pair


def _with(layer: Any, change: Any) -> Any:
    change(layer)
    return layer


_X = nn.Parameter(torch.zeros(2))
STAYS = {
    "a subclass": (lambda: MyLinear(8, 8), "MyLinear is a subclass of Linear"),
    "a hook": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_forward_hook(lambda *_: None)), "it has hooks"),
    "a backward hook": (
        lambda: _with(nn.Linear(8, 8), lambda m: m.register_full_backward_hook(lambda *_: None)),
        "it has hooks",
    ),
    "a hook on its state": (
        lambda: _with(nn.Linear(8, 8), lambda m: m.register_state_dict_post_hook(lambda *_: None)),
        "it has hooks",
    ),
    "old weight norm": (lambda: weight_norm(nn.Conv1d(8, 8, 1)), "it has hooks"),
    "pruning": (lambda: prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5), "it has hooks"),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 8)), "its weight is parametrized"),
    "a forward": (lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "forward", abs)), "it has a forward of its own"),
    "a parameter": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_parameter("lora", _X)), "not torch's: lora"),
    "a buffer": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_buffer("seen", _X.data)), "buffers.*: seen"),
    "a part": (lambda: _with(nn.Linear(8, 8), lambda m: m.add_module("more", nn.ReLU())), "parts.*: more"),
    "a weight of another shape": (
        lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "weight", nn.Parameter(torch.zeros(4, 8)))),
        "parameters are not torch's: weight",
    ),
    "complex numbers": (lambda: nn.Linear(8, 8, dtype=torch.complex64), "weights are Parameter of torch.complex64"),
    "two dtypes": (
        lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "bias", nn.Parameter(m.bias.double()))),
        "differ in device or dtype",
    ),
    "projections of an LSTM": (lambda: nn.LSTM(8, 8, proj_size=4), "proj_size=4 is not supported"),
    "heads": (lambda: nn.MultiheadAttention(8, 4), "embed_dim per head=2"),
    "a cut encoder layer": (
        lambda: _with(nn.TransformerEncoderLayer(8, 2, 8), lambda m: setattr(m, "norm1", nn.Identity())),
        "its encoder layer.* stays: its parameters are not torch's: norm1.bias, norm1.weight",
    ),
    "groups": (lambda: nn.Conv2d(16, 16, 1, groups=8), "in_channels per group=2"),
}  # fmt: skip


@pytest.mark.parametrize("case", STAYS)
def test_what_is_not_torchs_own_layer_stays_as_it_is(case: str) -> None:
    make, expected = STAYS[case]
    layer = make()
    converted = phnn.convert(nn.ModuleList([layer, nn.Linear(8, 8)]), n=4)
    reasons = [change.reason or "" for change in converted.conversion.layers]
    assert any(re.search(expected, reason) for reason in reasons), reasons
    assert type(converted[0]) is type(layer)


def test_a_tied_weight_stays_tied() -> None:
    model = nn.Sequential(_tied(), nn.Linear(8, 8))
    converted = phnn.convert(model, n=2)
    assert converted.conversion.layers[0].reason == "its weight is also 0.0.weight"
    assert converted[0][0].weight is converted[0][1].weight
    assert converted[0][0].weight is not model[0][0].weight


def test_a_module_used_at_several_places_stays_one_module() -> None:
    shared = nn.Linear(8, 8)
    model = nn.Module()
    model.a, model.b, model.c = shared, nn.Sequential(shared), nn.Linear(8, 8)
    model.plain = [shared, {"again": shared}]
    converted = phnn.convert(model, n=2)
    assert type(converted.a) is phnn.PHLinear
    assert converted.a is converted.b[0] is converted.plain[0] is converted.plain[1]["again"]
    row = converted.conversion.layers[0]
    assert (row.name, row.aliases) == ("a", ("b.0",))
    assert converted.conversion.params_after == sum(p.numel() for p in converted.parameters())
    assert becomes(model, n=2, exclude="b.0")["a"] == "excluded by 'b.0'"


def test_a_part_that_the_model_uses_elsewhere_too_is_not_torn_out() -> None:
    model = nn.Module()
    model.block = nn.TransformerEncoderLayer(16, 2, 32)
    model.again = model.block.linear1
    converted = phnn.convert(model)
    assert converted.again is converted.block.linear1
    assert type(converted.again) is phnn.PHLinear
    assert becomes(model)["block.self_attn"].endswith("stays: its linear1 is also again")


def test_an_encoder_layer_changes_whole_or_in_parts() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    assert set(becomes(encoder).values()) == {"PHTransformerEncoderLayer"}
    found = becomes(encoder, exclude="layers.0.self_attn")
    assert found["layers.0.self_attn"] == "excluded by 'layers.0.self_attn'"
    assert found["layers.0.linear1"] == "PHLinear"
    assert found["layers.1"] == "PHTransformerEncoderLayer"
    assert "layers.0.linear1" not in becomes(encoder, exclude="layers.0")
    found = becomes(encoder, rank=3)
    assert found["layers.0.linear1"] == "PHLinear"
    assert found["layers.0.self_attn"].endswith("PHMultiheadAttention takes no rank")


@pytest.mark.parametrize("options", [{}, {"exclude": "*.self_attn"}, {"n": 8}])
def test_an_encoder_runs_padded_in_every_mode(options: dict[str, Any]) -> None:
    """torch's encoder has a fast path, which reads weights by their names and makes nested tensors."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2)
    converted = phnn.convert(encoder, **{"n": 4, **options})
    assert converted.conversion.converted
    x, padding = torch.randn(3, 5, 16), torch.tensor([[0] * 5, [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]).bool()
    expected = converted(x, src_key_padding_mask=padding)
    converted.eval()
    with torch.no_grad():
        y = converted(x, src_key_padding_mask=padding)
    seen = ~padding[:, : y.shape[1]]
    assert (y[seen] - expected[:, : y.shape[1]][seen]).norm() <= tolerance("float32", "composite") * expected.norm()


# ---------------------------------------------------------------------------------------------- what a change keeps


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
