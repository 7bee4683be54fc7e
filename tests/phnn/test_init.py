"""Initialisation: the weight W, and so the output, starts with the real layer's variance, for every algebra."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn
from phnn import init
from phnn.algebras import algebra

ALGEBRAS = [
    "complex",
    "split_complex",
    "dual",
    "cyclic(4)",
    "quaternion",
    "split_quaternion",
    "tessarine",
    "klein4",
    "octonion",
    "split_octonion",
    "dual_quaternion",
    "biquaternion",
    "sedenion",
    "clifford(2,1)",
    "clifford(3,0,1)",
    "ph2",
    "ph4",
    "ph8",
    "ph16",
]
DRAWS, BATCH = 50, 16


def over(name: str) -> dict[str, Any]:
    """The keywords of an algebra; ph4 is the learned one with n=4."""
    return {"algebra": "ph", "n": int(name[2:])} if name.startswith("ph") else {"algebra": name}


def pooled_std(outputs: list[Tensor], n: int = 1) -> Tensor:
    """The root mean square over draws, batch and index within a component: one for each component."""
    return torch.stack(outputs).unflatten(2, (n, -1)).square().mean((0, 1, *range(3, outputs[0].dim() + 2))).sqrt()


def has_zero_block(name: str) -> bool:
    return not name.startswith("ph") and bool((algebra(name).rule == 0).all(axis=0).any())


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("name", ALGEBRAS)
def test_outputs_at_init_have_the_real_layers_standard_deviation(name: str, width: int) -> None:
    outputs = []
    with torch.no_grad():
        for _ in range(DRAWS):
            layer = phnn.PHLinear(width, width, bias=False, **over(name))
            outputs.append(layer(torch.randn(BATCH, width)))
    real = math.sqrt(1 / 3)  # of nn.Linear on standard normal inputs: in * 1 / (3 in)
    stds = pooled_std(outputs, layer.n)
    assert stds.square().mean().sqrt() == pytest.approx(real, rel=0.05)
    if not has_zero_block(name):
        assert stds.tolist() == pytest.approx([real] * layer.n, rel=0.05)


def test_the_real_layer_has_the_standard_deviation_that_the_others_are_held_to() -> None:
    with torch.no_grad():
        outputs = [nn.Linear(256, 256, bias=False)(torch.randn(BATCH, 256)) for _ in range(DRAWS)]
    assert float(pooled_std(outputs)) == pytest.approx(math.sqrt(1 / 3), rel=0.05)


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"])
@pytest.mark.parametrize("name", ["dual", "quaternion", "dual_quaternion", "ph4"])
@pytest.mark.parametrize("groups", [1, 2])
def test_weights_of_convolutions_have_torchs_variance(kind: str, name: str, groups: int) -> None:
    arguments = (64, 32, 3)
    real = phnn.create_layer(kind, *arguments, groups=groups, algebra="real").weight.detach()  # type: ignore[operator, union-attr]
    draws = [phnn.create_layer(kind, *arguments, groups=groups, **over(name)) for _ in range(10)]
    std = torch.stack([layer.weight.detach() for layer in draws]).std()  # type: ignore[operator, union-attr]
    assert float(std) == pytest.approx(float(real.std()), rel=0.05)
    bound = max(float(layer.bias.detach().abs().max()) for layer in draws)  # type: ignore[arg-type, union-attr, operator]
    fan_in = real.shape[1] * real[0, 0].numel()
    assert 0.8 / math.sqrt(fan_in) < bound <= 1 / math.sqrt(fan_in)


SCHEMES: list[tuple[Any, Any, dict[str, Any]]] = [
    (init.kaiming_normal_, nn.init.kaiming_normal_, {"mode": "fan_in", "nonlinearity": "relu"}),
    (init.kaiming_normal_, nn.init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "tanh"}),
    (init.kaiming_uniform_, nn.init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "leaky_relu", "a": 0.3}),
    (init.kaiming_uniform_, nn.init.kaiming_uniform_, {"mode": "fan_in", "nonlinearity": "linear"}),
    (init.xavier_normal_, nn.init.xavier_normal_, {"gain": 2.0}),
    (init.xavier_uniform_, nn.init.xavier_uniform_, {}),
]


@pytest.mark.parametrize(("ours", "torchs", "options"), SCHEMES)
@pytest.mark.parametrize("name", ["dual", "octonion", "ph4"])
@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
def test_a_scheme_gives_the_weight_the_variance_that_torch_gives_it(
    ours: Any, torchs: Any, options: dict[str, Any], name: str, kind: str
) -> None:
    arguments: dict[str, Any] = {} if kind == "linear" else {"kernel_size": 3}
    draws = []
    for _ in range(10):
        layer = phnn.create_layer(kind, 128, 64, **arguments, **over(name))
        ours(layer, **options)
        draws.append(layer.weight.detach())  # type: ignore[operator, union-attr]
    real = torch.empty(draws[0].shape)
    torchs(real, **options)
    assert float(torch.stack(draws).std()) == pytest.approx(float(real.std()), rel=0.06)


def test_a_scheme_fills_a_torch_layer_as_torch_does() -> None:
    layer, twin = nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3)
    init.kaiming_normal_(layer, "fan_in", "relu", generator=torch.Generator().manual_seed(3))
    nn.init.kaiming_normal_(
        twin.weight, mode="fan_in", nonlinearity="relu", generator=torch.Generator().manual_seed(3)
    )
    torch.testing.assert_close(layer.weight, twin.weight)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean fan_in"):
        init.kaiming_uniform_(phnn.PHLinear(4, 4, n=2), mode="fan_inn")  # type: ignore[arg-type]


def test_torchs_seed_alone_decides_and_is_used_up() -> None:
    def draw() -> list[Tensor]:
        return [p.detach() for p in phnn.PHConv2d(8, 8, 3, n=4).parameters()]

    torch.manual_seed(5)
    first, second = draw(), draw()
    torch.manual_seed(5)
    again = draw()
    for a, b, c in zip(first, second, again, strict=True):
        assert torch.equal(a, c)
        assert not torch.equal(a, b)


# ----------------------------------------------------------------------------------------------- learned rules


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_the_default_rule_gives_every_block_norm_one(n: int) -> None:
    A = phnn.PHLinear(n, n, n=n).A
    torch.testing.assert_close(A.square().sum(0), torch.ones(n, n))
    assert A.unique().numel() == n**3


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_a_signed_permutation_rule_covers_every_block_once(n: int) -> None:
    A = init.learned_rule(n, "signed_permutation").detach()
    for dim in range(3):
        assert torch.equal(A.abs().sum(dim), torch.ones(n, n))
    assert set(A.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert not torch.equal(A, init.learned_rule(n, "signed_permutation"))


@pytest.mark.parametrize("rule_init", ["octonion", algebra("octonion")])
def test_a_rule_can_start_from_an_algebra(rule_init: Any) -> None:
    layer = phnn.PHLinear(16, 16, n=8, rule_init=rule_init)
    assert torch.equal(layer.A, torch.tensor(algebra("octonion").rule, dtype=torch.float32))
    assert isinstance(layer.A, nn.Parameter)


def test_a_rule_can_start_from_an_algebra_and_noise() -> None:
    rule = torch.tensor(algebra("octonion").rule, dtype=torch.float32)
    noise = init.learned_rule(8, "octonion+0.1").detach() - rule
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    assert init.learned_rule(8, "octonion+1e-3").sub(rule).abs().max() < 0.01


@pytest.mark.parametrize("rule_init", ["dual_quaternion", "octonion+0.5", "signed_permutation"])
def test_outputs_keep_their_scale_whatever_the_rule_starts_from(rule_init: str) -> None:
    with torch.no_grad():
        layers = [phnn.PHLinear(256, 256, bias=False, n=8, rule_init=rule_init) for _ in range(DRAWS)]
        outputs = [layer(torch.randn(BATCH, 256)) for layer in layers]
    assert float(pooled_std(outputs)) == pytest.approx(math.sqrt(1 / 3), rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 4, "rule_init": "octonion"}, "n=8, the layer has n=4"),
        ({"n": 4, "rule_init": "quaternoin"}, "did you mean quaternion"),
        ({"n": 4, "rule_init": "randm"}, "random"),
        ({"n": 4, "rule_init": "quaternion+much"}, "standard deviation"),
        ({"n": 4, "rule_init": "quaternion+"}, "standard deviation"),
        ({"algebra": "quaternion", "rule_init": "random"}, "fixed"),
        ({"algebra": "quaternion", "rule": init.learned_rule(4)}, "fixed"),
        ({"n": 2, "rule": init.learned_rule(4)}, "shape"),
        ({"n": 4, "rule": init.learned_rule(4), "rule_init": "random"}, "leave rule_init out"),
        ({"rule": init.learned_rule(4, dtype=torch.float64)}, "float64"),
        ({"rule": init.learned_rule(4, device="meta")}, "meta"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phnn.PHLinear(8, 8, **options)


def test_a_rule_must_be_a_parameter() -> None:
    with pytest.raises(TypeError, match="Parameter"):
        phnn.PHLinear(8, 8, n=2, rule=torch.zeros(2, 2, 2))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- the shared rule


def shared() -> nn.Sequential:
    rule = phnn.learned_rule(4)
    conv = phnn.PHConv2d(4, 8, 1, rule=rule)
    return nn.Sequential(
        conv, nn.ReLU(), phnn.PHConv2d(8, 4, 1, rule=rule), phnn.PHConvTranspose2d(4, 4, 1, rule=rule)
    )


def test_a_shared_rule_is_one_parameter_that_all_layers_train() -> None:
    net = shared()
    rules = [name for name, _ in net.named_parameters() if name.endswith("A")]
    assert rules == ["0.A"]
    rule = net[0].A
    x = torch.randn(2, 4, 3, 3)
    net(x).square().sum().backward()
    assert rule.grad is not None
    apart = copy.deepcopy(net)
    for layer in (apart[0], apart[2], apart[3]):
        layer.A = nn.Parameter(rule.detach().clone())
    apart(x).square().sum().backward()
    torch.testing.assert_close(rule.grad, apart[0].A.grad + apart[2].A.grad + apart[3].A.grad)


def test_a_shared_rule_survives_deepcopy_pickle_and_a_strict_state_dict() -> None:
    net = shared()
    x = torch.randn(2, 4, 3, 3)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin[0].A is twin[2].A is twin[3].A
        assert twin[0].A is not net[0].A
        assert torch.equal(twin(x), net(x))
    other = shared()
    other.load_state_dict(net.state_dict(), strict=True)
    assert other[0].A is other[2].A
    assert torch.equal(other(x), net(x))
    other.double()
    assert other[0].A is other[2].A
    torch.testing.assert_close(other(x.double()).float(), net(x))


def test_no_cache_goes_stale_when_another_layer_changes_the_shared_rule() -> None:
    net = shared()
    x = torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        before = net(x)
        net[0].A.mul_(2)
        after = net(x)
        twin = copy.deepcopy(net)
        for layer in (twin[0], twin[2], twin[3]):
            layer.clear_cache()
        assert torch.equal(after, twin(x))
    assert not torch.allclose(before, after)


def test_making_or_resetting_a_layer_leaves_a_shared_rule_alone() -> None:
    rule = phnn.learned_rule(4, "quaternion")
    layer = phnn.PHLinear(8, 8, rule=rule)
    layer.reset_parameters()
    assert torch.equal(rule, torch.tensor(algebra("quaternion").rule, dtype=torch.float32))


@pytest.mark.parametrize(
    "scheme", [init.kaiming_normal_, init.kaiming_uniform_, init.xavier_normal_, init.xavier_uniform_]
)
@pytest.mark.parametrize(
    "make",
    [
        lambda: phnn.QuaternionRotationLinear(8, 8),
        lambda: phnn.PHMultiheadAttention(8, 2, n=2),
        lambda: nn.Sequential(phnn.PHLinear(8, 8, n=2)),
        lambda: phnn.PHBatchNorm2d(8, n=2),
    ],
)
def test_a_scheme_refuses_what_it_would_not_fill(scheme: Any, make: Any) -> None:
    module = make()
    with pytest.raises(TypeError, match=type(module).__name__):
        scheme(module)


def test_a_rule_init_that_is_no_name_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a name or an Algebra, not 5"):
        phnn.PHLinear(8, 8, n=4, rule_init=5)


def test_a_shared_rule_that_was_untied_is_tied_and_drawn_anew_as_documented() -> None:
    rule = phnn.learned_rule(4, device="meta")
    net = nn.Sequential(*(phnn.PHLinear(256, 256, bias=False, rule=rule, device="meta") for _ in range(2)))
    net.to_empty(device="cpu")
    rule = phnn.learned_rule(4)
    for layer in net:
        layer.A = rule
        layer.reset_parameters()
    assert len(list(net.parameters())) == 3
    before = rule.detach().clone()
    for layer in net:
        layer.reset_parameters()
        assert float(layer.weight.detach().std()) == pytest.approx(1 / (3 * 256) ** 0.5, rel=0.1)
    assert torch.equal(rule, before)  # it belongs to who made it
