"""Normalisation per component and whitening, component-shared dropout, quaternion rotations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn
from phnn.layers.rotation import rotation_matrix

F64 = torch.float64
NORMS = [phnn.PHBatchNorm2d, phnn.PHWhitening2d]


def correlated(n: int, channels: int, batch: int = 16, size: int = 5) -> Tensor:
    """Images whose components are mixed, shifted and scaled."""
    x = torch.randn(batch, n, channels, size, size, dtype=F64)
    mixed = torch.einsum("kj,bjchw->bkchw", torch.randn(n, n, dtype=F64) + torch.eye(n, dtype=F64), x)
    return mixed.flatten(1, 2) * 3 + 7


def numbers(x: Tensor, n: int) -> Tensor:
    """(channel, component, sample)."""
    return x.unflatten(1, (n, -1)).permute(2, 1, 0, 3, 4).flatten(2)


# ------------------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("method", ["cholesky", "zca"])
def test_whitened_components_have_the_identity_as_covariance(n: int, method: str) -> None:
    layer = phnn.PHWhitening2d(3 * n, eps=1e-12, n=n, method=method, dtype=F64)
    y = numbers(layer(correlated(n, 3)), n)
    cov = y @ y.mT / y.shape[-1]
    torch.testing.assert_close(y.mean(-1), torch.zeros(3, n, dtype=F64), atol=1e-9, rtol=0)
    torch.testing.assert_close(cov, torch.eye(n, dtype=F64).expand(3, n, n), atol=1e-7, rtol=0)


def test_zca_is_the_symmetric_whitening_and_cholesky_the_triangular_one() -> None:
    x = correlated(4, 1)
    centred = numbers(x, 4) - numbers(x, 4).mean(-1, keepdim=True)
    for method in ("zca", "cholesky"):
        layer = phnn.PHWhitening2d(4, n=4, method=method, dtype=F64)
        y = numbers(layer(x), 4)
        K = torch.linalg.lstsq(centred[0].T, y[0].T).solution.T
        if method == "zca":
            torch.testing.assert_close(K, K.T)
        else:
            torch.testing.assert_close(K, K.tril())


def test_per_component_statistics_are_those_of_torchs_batch_norm() -> None:
    layer, real = phnn.PHBatchNorm2d(8, n=4, dtype=F64), nn.BatchNorm2d(8, dtype=F64)
    for _ in range(3):
        x = correlated(4, 2)
        torch.testing.assert_close(layer(x), real(x))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(layer, name), getattr(real, name))
    layer.eval(), real.eval()
    torch.testing.assert_close(layer(x), real(x))
    assert layer.weight.shape == (2,)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_are_the_unbiased_moments(momentum: float | None) -> None:
    whitening = phnn.PHWhitening2d(8, n=4, momentum=momentum, dtype=F64)
    norm = phnn.PHBatchNorm2d(8, n=4, momentum=momentum, dtype=F64)
    real = nn.BatchNorm2d(8, momentum=momentum, dtype=F64)
    cov = torch.eye(4, dtype=F64).expand(2, 4, 4)
    for step in range(3):
        x = correlated(4, 2)
        for layer in (whitening, norm, real):
            layer(x)
        new = torch.stack([torch.cov(channel) for channel in numbers(x, 4)])
        weight = 1 / (step + 1) if momentum is None else momentum
        cov = (1 - weight) * cov + weight * new
    torch.testing.assert_close(whitening.running_cov, cov)
    torch.testing.assert_close(whitening.running_mean, real.running_mean)
    torch.testing.assert_close(norm.running_mean, real.running_mean)
    torch.testing.assert_close(norm.running_var, real.running_var)
    assert int(whitening.num_batches_tracked) == int(norm.num_batches_tracked) == 3


@pytest.mark.parametrize("kind", NORMS)
def test_eval_uses_running_statistics_so_that_batch_one_equals_its_row(kind: Any) -> None:
    layer = kind(8, n=4, dtype=F64)
    for _ in range(100):
        layer(correlated(4, 2))
    x = correlated(4, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    loaded = kind(8, n=4, dtype=F64)
    loaded(x)
    loaded.load_state_dict(before, strict=True)
    torch.testing.assert_close(loaded.eval()(x), layer(x))


def test_what_whitening_keeps_in_eval_follows_every_change() -> None:
    layer = phnn.PHWhitening2d(8, n=4)
    x = correlated(4, 2).float()
    layer(x)
    layer.eval()
    with torch.no_grad():
        before = layer(x)
        assert torch.equal(layer(x), before)
        for name in ("weight", "bias", "running_mean", "running_cov"):
            getattr(layer, name).mul_(2).add_(0.5 if name != "running_cov" else 0)
            after = layer(x)
            assert not torch.allclose(after, before), name
            torch.testing.assert_close(after, layer.requires_grad_(True).train(False)(x))
            before = after
        layer.train()(x), layer.eval()
        assert not torch.allclose(layer(x), before)
        before = layer(x)
    torch.testing.assert_close(layer(x), before)  # with gradients nothing is kept
    assert layer.double()(x.double()).dtype is F64


@pytest.mark.parametrize("kind", NORMS)
def test_training_at_batch_one_takes_the_pixels_as_samples(kind: Any) -> None:
    layer = kind(4, n=4, dtype=F64)
    y = layer(correlated(4, 1, batch=1, size=12))
    assert y.isfinite().all()
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4, dtype=F64), atol=1e-8, rtol=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(1, 4, 1, 1, dtype=F64))


def test_statistics_of_the_batch_are_used_in_eval_where_none_are_kept() -> None:
    for kind in NORMS:
        layer = kind(8, n=4, track_running_stats=False, dtype=F64).eval()
        y = layer(correlated(4, 2))
        assert float(y.detach().mean().abs()) < 1e-8
        assert not list(layer.buffers())


def test_equal_eigenvalues_do_not_upset_the_gradient_of_zca() -> None:
    layer = phnn.PHWhitening1d(2, n=2, method="zca", dtype=F64)
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=F64, requires_grad=True)
    layer(x)[0].square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    torch.autograd.gradcheck(layer, torch.randn(6, 2, dtype=F64, requires_grad=True))


@pytest.mark.parametrize("method", ["cholesky", "zca"])
def test_gradients_of_whitening_are_those_of_finite_differences(method: str) -> None:
    layer = phnn.PHWhitening2d(4, n=2, method=method, dtype=F64)
    x = torch.randn(3, 4, 2, 2, dtype=F64, requires_grad=True)
    names = list(dict(layer.named_parameters()))
    values = [torch.randn_like(p).requires_grad_() for p in layer.parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    torch.autograd.gradcheck(call, (x, *values))


@pytest.mark.parametrize("kind", NORMS)
def test_norms_refuse_what_they_cannot_take(kind: Any) -> None:
    with pytest.raises(ValueError, match="num_features=6"):
        kind(6, algebra="quaternion")
    with pytest.raises(ValueError, match="4D"):
        kind(8, n=4)(torch.randn(2, 8))
    with pytest.raises(RuntimeError):
        kind(8, n=4)(torch.randn(2, 8, 3, 3, dtype=F64))
    assert type(kind(6, algebra="real")) is nn.BatchNorm2d


def test_whitening_refuses_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="did you mean zca"):
        phnn.PHWhitening2d(8, n=4, method="zac")


# ----------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("dim", [-1, 1])
def test_dropout_keeps_or_drops_a_number_whole(dim: int) -> None:
    layer = phnn.PHDropout(0.3, n=4, dim=dim)
    x = torch.ones(64, 32, 32)
    y = layer(x)
    parts = y.unflatten(dim, (4, -1)).movedim(dim - 1 if dim < 0 else dim, 0)
    assert all(torch.equal(part, parts[0]) for part in parts)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_channel_dropout_drops_a_map_of_numbers_whole(dims: int) -> None:
    layer = getattr(phnn, f"PHDropout{dims}d")(0.5, n=4)
    for shape in ((16, 64, *[3] * dims), (64, *[3] * dims)):
        y = layer(torch.ones(shape))
        channel = y.dim() - dims - 1
        numbers = y.unflatten(channel, (4, -1)).flatten(channel + 2).movedim(channel, -1)
        assert (numbers.flatten(-2).std(-1) == 0).all()
        assert 0 < float((y == 0).float().mean()) < 1
    kept = y.new_ones(2, 256, *[3] * dims)
    assert not torch.equal(*layer(kept))  # each example has a draw of its own


def test_dropout_leaves_its_input_alone_in_eval_unless_told_in_place() -> None:
    x = torch.ones(8, 8)
    assert phnn.PHDropout(0.5, n=4).eval()(x) is x
    phnn.PHDropout(0.5, n=4)(x)
    assert torch.equal(x, torch.ones(8, 8))
    y = phnn.PHDropout(0.5, inplace=True, n=4)(x)
    assert y is x
    assert (x == 0).any()


def test_dropout_of_p_one_drops_all_and_bad_arguments_are_refused() -> None:
    assert phnn.PHDropout(1.0, n=2)(torch.ones(4, 4)).abs().sum() == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        phnn.PHDropout(1.5, n=2)
    with pytest.raises(ValueError, match="does not divide"):
        phnn.PHDropout(0.5, n=4)(torch.ones(2, 6))
    with pytest.raises(ValueError, match="4D or 5D"):
        phnn.PHDropout3d(0.5, n=4)(torch.ones(2, 4))
    assert type(phnn.PHDropout(0.5, algebra="real", dim=1)) is nn.Dropout
    assert type(phnn.PHDropout2d(0.5, algebra="real")) is nn.Dropout2d


# --------------------------------------------------------------------------------------------------- rotations


def test_a_rotation_turns_by_twice_the_angle_about_its_axis_and_keeps_the_real_part() -> None:
    half = math.pi / 6
    u = torch.tensor([math.cos(half), 0, 0, math.sin(half)], dtype=F64) * 5  # about z by 60°, whatever the norm
    R = rotation_matrix(u)
    c, s = math.cos(2 * half), math.sin(2 * half)
    expected = torch.tensor([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]], dtype=F64)
    torch.testing.assert_close(R, expected)


def test_rotations_are_orthogonal_of_determinant_one() -> None:
    R = rotation_matrix(torch.randn(4, 10, dtype=F64)).permute(2, 0, 1)
    torch.testing.assert_close(R @ R.mT, torch.eye(4, dtype=F64).expand(10, 4, 4))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(10, dtype=F64))


def test_outputs_of_rotation_layers_start_with_the_real_layers_standard_deviation() -> None:
    with torch.no_grad():
        ys = [phnn.QuaternionRotationLinear(256, 256, bias=False)(torch.randn(16, 256)) for _ in range(50)]
    stds = torch.stack(ys).unflatten(2, (4, -1)).square().mean((0, 1, 3)).sqrt()
    assert stds.tolist() == pytest.approx([math.sqrt(1 / 3)] * 4, rel=0.05)


def test_groups_of_a_rotation_convolution_are_that_many_separate_ones() -> None:
    layer = phnn.QuaternionRotationConv2d(8, 16, 3, groups=2, padding=1, padding_mode="reflect", dtype=F64)
    x = torch.randn(2, 8, 5, 5, dtype=F64)
    ys = []
    for g, part in enumerate(x.unflatten(1, (4, 2, 1)).unbind(2)):
        single = phnn.QuaternionRotationConv2d(4, 8, 3, padding=1, padding_mode="reflect", dtype=F64)
        rows = slice(2 * g, 2 * g + 2)
        bias = layer.bias.unflatten(0, (4, 2, -1))[:, g].flatten()
        single.load_state_dict({"F": layer.F[:, rows], "scale": layer.scale[rows], "bias": bias})
        ys.append(single(part.flatten(1, 2)).unflatten(1, (4, -1)))
    torch.testing.assert_close(layer(x), torch.stack(ys, 2).flatten(1, 3))


def test_a_rotation_convolution_prints_its_geometry() -> None:
    text = repr(phnn.QuaternionRotationConv2d(8, 8, 3, padding=1, dilation=2, groups=2, bias=False))
    for part in ("padding=(1, 1)", "dilation=(2, 2)", "groups=2", "bias=False"):
        assert part in text


def test_rotations_are_for_quaternions_alone() -> None:
    for make in (phnn.QuaternionRotationLinear, lambda *a, **k: phnn.QuaternionRotationConv2d(*a, 3, **k)):
        with pytest.raises(ValueError, match="rotates quaternions"):
            make(8, 8, algebra="octonion")
        with pytest.raises(ValueError, match="=6"):
            make(6, 8)
        make(8, 8, algebra="clifford(0,2)")
    assert type(phnn.QuaternionRotationLinear(3, 5, algebra="real")) is nn.Linear
