"""Linear, convolution and transposed convolution: what they compute, keep, save and refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

import phnn
from phnn.algebras import algebra
from phnn.functional import ph_conv, ph_conv_transpose, ph_linear, ph_weight, regroup, ungroup

F64 = torch.float64


def hamilton(q: list[Tensor], p: list[Tensor]) -> list[Tensor]:
    """The product of two quaternions, written out."""
    (a, b, c, d), (e, f, g, h) = q, p
    return [
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    ]


def test_a_quaternion_linear_is_the_hamilton_product_written_by_hand() -> None:
    layer = phnn.PHLinear(4, 4, bias=False, algebra="quaternion", dtype=F64)
    x = torch.randn(7, 4, dtype=F64)
    expected = hamilton([layer.F[i, 0, 0] for i in range(4)], list(x.T))
    torch.testing.assert_close(layer(x), torch.stack(expected, 1), rtol=0, atol=1e-12)


def test_a_wide_quaternion_linear_sums_hamilton_products() -> None:
    layer = phnn.PHLinear(12, 8, bias=False, algebra="quaternion", dtype=F64)
    x = torch.randn(5, 12, dtype=F64)
    y = torch.zeros(5, 8, dtype=F64)
    for p in range(2):
        for q in range(3):
            w = [layer.F[i, p, q] for i in range(4)]
            for k, part in enumerate(hamilton(w, [x[:, j * 3 + q] for j in range(4)])):
                y[:, k * 2 + p] += part
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
def test_ph_with_hamiltons_rule_equals_the_quaternion_layer(kind: str) -> None:
    arguments: dict[str, Any] = {} if kind == "linear" else {"kernel_size": 3}
    H = phnn.create_layer(kind, 8, 12, algebra="quaternion", dtype=F64, **arguments)
    ph = phnn.create_layer(kind, 8, 12, algebra="ph", n=4, rule_init="quaternion", dtype=F64, **arguments)
    ph.load_state_dict({"A": ph.A, **H.state_dict()})
    x = torch.randn(3, 8, dtype=F64) if kind == "linear" else torch.randn(3, 8, 5, 5, dtype=F64)
    torch.testing.assert_close(ph(x), H(x), rtol=0, atol=1e-14)


def test_a_side_for_right_products_comes_from_the_opposite_algebra() -> None:
    H = algebra("quaternion")
    layer = phnn.PHLinear(4, 4, bias=False, algebra=H.opposite, dtype=F64)
    x = torch.randn(3, 4, dtype=F64)
    expected = hamilton(list(x.T), [layer.F[i, 0, 0] for i in range(4)])
    torch.testing.assert_close(layer(x), torch.stack(expected, 1), rtol=0, atol=1e-12)


REAL: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("linear", (6, 5), {}, (3, 6)),
    ("conv1d", (6, 4, 3), {"padding": 1, "padding_mode": "circular"}, (2, 6, 7)),
    ("conv2d", (6, 4, 3), {"groups": 2, "bias": False}, (2, 6, 7, 7)),
    ("conv3d", (2, 4, 3), {"stride": 2}, (2, 2, 5, 5, 5)),
    ("conv_transpose1d", (6, 4, 3), {"stride": 2}, (2, 6, 7)),
    ("conv_transpose2d", (6, 4, 3), {"groups": 2, "output_padding": 1, "stride": 2}, (2, 6, 7, 7)),
    ("conv_transpose3d", (2, 4, 3), {}, (2, 2, 5, 5, 5)),
]


@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), REAL, ids=[case[0] for case in REAL])
def test_real_is_torchs_layer_bit_for_bit(
    kind: str, arguments: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    for spelled in ("real", algebra("real"), algebra("cyclic(1)")):
        torch.manual_seed(1)
        ours = phnn.create_layer(kind, *arguments, algebra=spelled, n=1, path="auto", **options)
        torch.manual_seed(1)
        namesake = getattr(nn, _camel(kind))
        theirs = namesake(*arguments, **options)
        assert type(ours) is namesake
        assert list(ours.state_dict()) == list(theirs.state_dict())
        x = torch.randn(shape)
        assert torch.equal(ours(x), theirs(x))


def _camel(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


@pytest.mark.parametrize("options", [{"n": 2}, {"path": "dens"}, {"rule_init": "random"}])
def test_real_refuses_what_only_a_hypercomplex_layer_takes(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"real|path"):
        phnn.PHLinear(4, 4, algebra="real", **options)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", ["quaternion", "octonion", "dual", "ph"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_transposed_convolution_is_the_adjoint_of_the_one_with_transposed_rule(
    dims: int, name: str, groups: int
) -> None:
    layer = phnn.create_layer(
        f"conv_transpose{dims}d", 16, 32, 3, stride=2, padding=1, dilation=1, groups=groups, bias=False,
        algebra=name, n=4 if name == "ph" else None, dtype=F64,
    )  # fmt: skip
    x = torch.randn(2, 16, *[3] * dims, dtype=F64)
    y = torch.randn(2, 32, *[5] * dims, dtype=F64)
    adjoint = ph_conv(y, layer.A.transpose(1, 2), layer.F, stride=2, padding=1, groups=groups)
    torch.testing.assert_close((layer(x) * y).sum(), (x * adjoint).sum(), rtol=1e-12, atol=1e-10)


def test_for_quaternions_the_adjoint_is_the_convolution_with_the_conjugate_weight() -> None:
    layer = phnn.PHConvTranspose2d(8, 8, 3, bias=False, algebra="quaternion", dtype=F64)
    x, y = torch.randn(2, 8, 4, 4, dtype=F64), torch.randn(2, 8, 6, 6, dtype=F64)
    conjugate = layer.F * torch.tensor([1.0, -1, -1, -1], dtype=F64).reshape(4, 1, 1, 1, 1)
    adjoint = ph_conv(y, layer.A, conjugate)
    torch.testing.assert_close((layer(x) * y).sum(), (x * adjoint).sum(), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("size", [9, 10])
def test_output_size_chooses_the_output_padding_as_torch_does(size: int) -> None:
    layer = phnn.PHConvTranspose2d(8, 4, 3, stride=2, padding=1, algebra="quaternion")
    real = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1)
    real.weight.data, real.bias.data = layer.weight.detach(), layer.bias.detach()  # type: ignore[union-attr]
    x = torch.randn(2, 8, 5, 5)
    for output_size in ([size, size], [2, 4, size, size]):
        torch.testing.assert_close(layer(x, output_size), real(x, output_size))
    for wrong in ([8, 9], [11, 9], [9]):
        with pytest.raises(ValueError, match="output_size"):
            layer(x, wrong)
        with pytest.raises(ValueError, match=r"output.size"):
            real(x, wrong)


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("name", ["quaternion", "ph"])
@pytest.mark.parametrize("groups", [2, 3])
def test_groups_are_that_many_separate_layers(kind: str, name: str, groups: int) -> None:
    n, dims = 4, int(kind[-2])
    options: dict[str, Any] = {"algebra": name, "n": n, "dtype": F64}
    layer = phnn.create_layer(kind, 4 * groups, 8 * groups, 3, groups=groups, **options)
    x = torch.randn(2, 4 * groups, *[5] * dims, dtype=F64)
    # group g holds channels g * size … of every component
    parts = x.unflatten(1, (n, groups, -1)).unbind(2)
    bias = layer.bias.unflatten(0, (n, groups, -1)).unbind(1)
    ys = []
    for g, part in enumerate(parts):
        single = phnn.create_layer(kind, 4, 8, 3, **options)
        rows = layer.F.shape[1] // groups
        state = {"F": layer.F[:, g * rows : (g + 1) * rows], "bias": bias[g].flatten()}
        single.load_state_dict(state | ({"A": layer.A} if name == "ph" else {}))
        ys.append(single(part.flatten(1, 2)).unflatten(1, (n, -1)))
    expected = torch.stack(ys, 2).flatten(1, 3)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_regroup_and_ungroup_are_inverse() -> None:
    x = torch.arange(24.0).reshape(1, 24, 1)
    assert torch.equal(ungroup(regroup(x, 4, 3, 1), 4, 3, 1), x)
    assert regroup(x, 4, 3, 1).flatten()[:4].tolist() == [0, 1, 6, 7]


GRADCHECKS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("linear", (4, 6), {}, (2, 4)),
    ("conv1d", (4, 4, 2), {"padding": 1, "padding_mode": "reflect", "groups": 2}, (1, 4, 4)),
    ("conv2d", (2, 4, 2), {"stride": 2, "dilation": 2, "padding": 1}, (1, 2, 4, 4)),
    ("conv_transpose1d", (4, 4, 2), {"stride": 2, "output_padding": 1, "groups": 2}, (1, 4, 3)),
    ("conv_transpose2d", (2, 2, 2), {"stride": 2, "dilation": 2}, (1, 2, 2, 2)),
]


@pytest.mark.parametrize("path", ["dense", "kron"])
@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), GRADCHECKS, ids=[case[0] for case in GRADCHECKS])
def test_gradients_are_those_of_finite_differences(
    kind: str, arguments: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], path: str
) -> None:
    layer = phnn.create_layer(kind, *arguments, algebra="ph", n=2, path=path, dtype=F64, **options)
    names = list(dict(layer.named_parameters()))

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(shape, dtype=F64, requires_grad=True)
    torch.autograd.gradcheck(call, (x, *layer.parameters()), fast_mode=True)


def test_the_functions_equal_the_layers() -> None:
    linear = phnn.PHLinear(8, 4, n=4)
    x = torch.randn(3, 8)
    torch.testing.assert_close(ph_linear(x, linear.A, linear.F, linear.bias), linear(x))
    conv = phnn.PHConv2d(8, 4, 3, padding=1, n=2, groups=2)
    x = torch.randn(3, 8, 6, 6)
    torch.testing.assert_close(ph_conv(x, conv.A, conv.F, conv.bias, padding=1, groups=2), conv(x))
    up = phnn.PHConvTranspose2d(8, 4, 3, stride=2, output_padding=1, n=2, groups=2)
    y = ph_conv_transpose(x, up.A, up.F, up.bias, stride=2, output_padding=1, groups=2)
    torch.testing.assert_close(y, up(x))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_weight_is_the_sum_of_kronecker_products(groups: int) -> None:
    A, F = torch.randn(3, 3, 3, dtype=F64), torch.randn(3, 4, 2, 3, 3, dtype=F64)
    W = ph_weight(A, F, groups=groups)
    rows = 4 // groups
    for g in range(groups):
        part = F[:, g * rows : (g + 1) * rows]
        expected = torch.zeros(3 * rows, 6, 3, 3, dtype=F64)
        for u in range(3):
            for v in range(3):
                expected[:, :, u, v] = sum(torch.kron(A[i], part[i, :, :, u, v]) for i in range(3))
        torch.testing.assert_close(W[g * 3 * rows : (g + 1) * 3 * rows], expected)
    torch.testing.assert_close(ph_weight(A, F, groups=groups, path="kron"), W)


def test_an_unbatched_input_works_as_in_torch() -> None:
    for kind, shape in (("linear", (8,)), ("conv2d", (8, 5, 5)), ("conv_transpose2d", (8, 5, 5))):
        options: dict[str, Any] = {} if kind == "linear" else {"kernel_size": 3, "groups": 2}
        layer = phnn.create_layer(kind, 8, 8, algebra="quaternion", **options)
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), layer(x.unsqueeze(0)).squeeze(0))


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: phnn.PHLinear(6, 8, algebra="quaternion"), r"in_features=6 \(nearest: 4 or 8\)"),
        (lambda: phnn.PHLinear(8, 2, n=4), r"out_features=2 \(nearest: 4\)"),
        (lambda: phnn.PHConv2d(8, 8, 3, n=4, groups=4), "in_channels per group=2"),
        (lambda: phnn.PHConvTranspose2d(8, 6, 3, n=4), "out_channels=6"),
        (lambda: phnn.PHLinear(8, 8, algebra="quaternion", n=2), "n=4, not n=2"),
        (lambda: phnn.PHLinear(8, 8), "give n="),
        (lambda: phnn.PHLinear(8, 8, algebra="quaternoin"), "did you mean quaternion"),
        (lambda: phnn.PHLinear(8, 8, n=2, path="dens"), "did you mean dense"),
        (lambda: phnn.PHConv2d(8, 8, 3, n=2, padding_mode="zeroes"), "padding_mode"),
        (lambda: phnn.PHConvTranspose2d(8, 8, 3, n=2, padding_mode="reflect"), "zeros"),
        (lambda: phnn.create_layer("linaer", 8, 8), "did you mean linear"),
    ],
)
def test_impossible_arguments_are_refused_with_what_would_fit(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
def test_a_wrong_dtype_or_device_is_the_error_that_torch_gives(kind: str) -> None:
    options: dict[str, Any] = {} if kind == "linear" else {"kernel_size": 3}
    layer = phnn.create_layer(kind, 8, 8, n=4, algebra="ph", **options)
    real = phnn.create_layer(kind, 8, 8, algebra="real", **options)
    x = torch.randn(2, 8) if kind == "linear" else torch.randn(2, 8, 5, 5)
    for wrong in (x.double(), x.bfloat16(), x.to("meta")):
        for context in (torch.enable_grad, torch.no_grad):
            assert _error(layer, wrong, context) == _error(real, wrong, context)
    assert _error(layer, x.double(), torch.no_grad) is RuntimeError


def _error(layer: nn.Module, x: Tensor, context: Any) -> type | None:
    with context():
        try:
            layer(x)
        except (RuntimeError, NotImplementedError) as error:
            return type(error)
    return None


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["same", "valid", 2, (2, 1)])
def test_padding_modes_pad_every_component_as_torch_pads_channels(mode: str, padding: Any) -> None:
    layer = phnn.PHConv2d(8, 4, (5, 3), padding=padding, padding_mode=mode, algebra="quaternion")
    real = nn.Conv2d(8, 4, (5, 3), padding=padding, padding_mode=mode)
    x = torch.randn(2, 8, 7, 7)
    y = real._conv_forward(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), y)


def test_autocast_runs_the_product_in_bf16_and_builds_the_weight_in_fp32() -> None:
    layer = phnn.PHLinear(64, 64, algebra="ph", n=4)
    x = torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype is torch.bfloat16
        assert torch.equal(y, nnf.linear(x, layer.weight, layer.bias))
        assert layer.weight.dtype is torch.float32


@pytest.mark.parametrize("name", ["real", "Real", " REAL ", "cyclic(1)", "clifford(0)"])
def test_the_real_numbers_are_torchs_layer_by_whatever_name(name: str) -> None:
    assert type(phnn.PHLinear(3, 5, algebra=name)) is nn.Linear
    assert type(phnn.PHLinear(3, 5, algebra=phnn.algebra(name))) is nn.Linear


def test_a_subclass_is_itself_over_the_real_numbers_too() -> None:
    class Own(phnn.PHLinear):
        def __init__(self, width: int, algebra: str) -> None:
            super().__init__(width, width, algebra=algebra)

    for layer in (Own(4, "real"), Own(4, algebra="real")):
        assert type(layer) is Own
        x = torch.randn(2, 4)
        torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)


def test_a_fixed_rule_takes_the_dtype_of_filters_that_were_assigned() -> None:
    layer = phnn.PHLinear(8, 8, algebra="quaternion")
    layer.load_state_dict(phnn.PHLinear(8, 8, algebra="quaternion", dtype=torch.float64).state_dict(), assign=True)
    assert layer.A.dtype is layer.F.dtype is torch.float64
    assert layer(torch.randn(2, 8, dtype=torch.float64)).dtype is torch.float64
