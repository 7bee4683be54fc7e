"""Norms where numbers go wrong: singular batches, half precision, memory formats, and derivatives of any order."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn
from phnn.layers._roots import inverse_factor, inverse_root
from phnn.tolerances import tolerance

F64 = torch.float64
METHODS = ["cholesky", "zca"]
NORMS = [phnn.PHBatchNorm2d, phnn.PHWhitening2d]
over_methods = pytest.mark.parametrize("method", METHODS)


@over_methods
@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("std", [1.0, 10.0, 100.0, 1e4])
def test_a_batch_of_lower_rank_is_whitened_and_trained_on(method: str, n: int, std: float) -> None:
    for _ in range(5):
        layer = phnn.PHWhitening2d(2 * n, n=n, method=method)
        x = (torch.randn(1, 2 * n, 2, 2) * std).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        assert y.isfinite().all()
        assert float(y.detach().square().mean()) < 2
        assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *layer.parameters()))
        assert layer.eval()(x).isfinite().all()


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_call_that_fails_moves_no_statistics(kind: Any, momentum: float | None) -> None:
    layer = kind(8, n=4, momentum=momentum)
    layer(torch.randn(5, 8, 2, 2))
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(1, 8, 1, 1))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_a_covariance_that_cannot_be_factored_moves_no_statistics() -> None:
    layer = phnn.PHWhitening2d(8, n=4)
    x = torch.randn(5, 8, 2, 2)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(RuntimeError):
        layer(x)
    assert int(layer.num_batches_tracked) == 0
    assert layer.running_cov.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_of_half_precision_are_torchs(dtype: torch.dtype, momentum: float | None) -> None:
    layer, real = (
        norm(8, momentum=momentum, dtype=dtype, **own)
        for norm, own in ((phnn.PHBatchNorm2d, {"n": 4}), (nn.BatchNorm2d, {}))
    )
    for std in (300.0, 3.0):  # 300^2 is beyond half precision
        x = (torch.randn(8, 8, 4, 4) * std).half()
        torch.testing.assert_close(layer(x), real(x))
    torch.testing.assert_close(layer.running_var, real.running_var)
    torch.testing.assert_close(layer.running_mean, real.running_mean)


@over_methods
def test_in_eval_the_running_mean_is_subtracted(method: str) -> None:
    layer = phnn.PHWhitening2d(4, n=4, eps=0.0, method=method, dtype=F64).eval()
    mean = torch.tensor([1.0, -2.0, 3.0, 5.0], dtype=F64)
    layer.running_mean.copy_(mean)
    x = torch.randn(2, 4, 3, 3, dtype=F64)
    torch.testing.assert_close(layer(x), x - mean[:, None, None])
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x - mean[:, None, None])


@over_methods
def test_what_is_kept_is_neither_copied_nor_pickled(method: str) -> None:
    layer = phnn.PHWhitening2d(8, n=4, method=method).eval()
    with torch.no_grad():
        layer(torch.randn(2, 8, 3, 3))
    assert layer._cache is not None
    assert copy.deepcopy(layer)._cache is None
    assert pickle.loads(pickle.dumps(layer))._cache is None


# ---------------------------------------------------------------------------------------------- memory formats


@over_methods
@pytest.mark.parametrize("n", [2, 4, 8, 16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_output_has_the_inputs_format_and_does_not_depend_on_it(
    method: str, n: int, training: bool, dims: int
) -> None:
    form: Any = torch.channels_last if dims == 2 else torch.channels_last_3d
    layer = (phnn.PHWhitening2d if dims == 2 else phnn.PHWhitening3d)(3 * n, n=n, method=method, dtype=F64)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn_like(p))
    layer(torch.randn(9, 3 * n, *[3] * dims, dtype=F64))
    layer.train(training)
    x = torch.randn(5, 3 * n, *[3, 4, 2][:dims], dtype=F64)
    probe = torch.randn_like(x)
    results = []
    for memory_format in (torch.contiguous_format, form):
        leaf = x.clone(memory_format=memory_format).requires_grad_()
        y = copy.deepcopy(layer)(leaf)
        assert y.is_contiguous(memory_format=memory_format)
        for grad in (probe, probe.clone(memory_format=memory_format)):
            results.append((y, *torch.autograd.grad(y, leaf, grad, retain_graph=True)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_inputs_of_any_strides_are_taken() -> None:
    layer = phnn.PHWhitening2d(8, n=4, dtype=F64).eval()
    layer.running_cov.mul_(torch.rand(2, 1, 1, dtype=F64) + 1)
    x = torch.randn(3, 4, 8, 5, dtype=F64).transpose(1, 2)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))
    torch.testing.assert_close(layer(x[:, :, ::2]), layer(x.contiguous())[:, :, ::2])


# ------------------------------------------------------------------------------------------------- derivatives


@over_methods
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_second_derivatives_of_whitening_are_those_of_finite_differences(
    method: str, channels_last: bool, training: bool
) -> None:
    layer = phnn.PHWhitening2d(4, n=2, method=method, dtype=F64).train(training)
    layer(torch.randn(3, 4, 2, 2, dtype=F64)) if training else None
    x = torch.randn(3, 4, 2, 2, dtype=F64)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    weight = torch.randn_like(layer.weight).requires_grad_()

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    torch.autograd.gradgradcheck(call, (x.requires_grad_(), weight))


@pytest.mark.parametrize("root", [inverse_factor, inverse_root])
def test_roots_of_covariances_have_all_derivatives_even_of_equal_eigenvalues(root: Any) -> None:
    a = torch.randn(2, 3, 3, dtype=F64)

    def of(a: Tensor) -> Tensor:
        return root(a @ a.mT + torch.eye(3, dtype=F64))

    K, V = of(a), a @ a.mT + torch.eye(3, dtype=F64)
    torch.testing.assert_close(K @ V @ K.mT, torch.eye(3, dtype=F64).expand(2, 3, 3))
    torch.autograd.gradcheck(of, a.requires_grad_())
    torch.autograd.gradgradcheck(of, a)
    torch.autograd.gradgradcheck(of, torch.eye(3, dtype=F64).expand(1, 3, 3).clone().requires_grad_())


def test_the_inverse_root_stands_an_eigenvalue_that_rounding_made_negative() -> None:
    K = inverse_root(torch.diag(torch.tensor([1.0, -1e-9])).unsqueeze(0))
    assert K.isfinite().all()


@over_methods
@pytest.mark.parametrize("channels_last", [False, True])
def test_whitening_runs_under_vmap_as_in_a_loop(method: str, channels_last: bool) -> None:
    layer = phnn.PHWhitening2d(8, n=4, method=method, track_running_stats=False, dtype=F64)
    xs = torch.randn(3, 9, 8, 2, 2, dtype=F64)
    xs = xs.movedim(2, -1).contiguous().movedim(-1, 2) if channels_last else xs
    expected = torch.stack([layer(x) for x in xs])
    torch.testing.assert_close(torch.func.vmap(layer)(xs), expected)
    slopes = torch.func.vmap(torch.func.grad(lambda x: layer(x)[0].square().sum()))(xs)
    for x, slope in zip(xs, slopes, strict=True):
        leaf = x.clone().requires_grad_()
        torch.testing.assert_close(slope, torch.autograd.grad(layer(leaf)[0].square().sum(), leaf)[0])


# -------------------------------------------------------------------------------------------------- the border


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("track", [True, False])
def test_an_empty_batch_is_trained_on_as_torchs(kind: Any, track: bool) -> None:
    layer = kind(8, n=4, track_running_stats=track)
    y = layer(torch.randn(0, 8, 3, 3))
    assert y.shape == nn.BatchNorm2d(8, track_running_stats=track)(torch.randn(0, 8, 3, 3)).shape
    y.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_an_empty_batch_moves_no_statistics_of_whitening() -> None:
    layer = phnn.PHWhitening2d(8, n=4)
    layer(torch.randn(5, 8, 3, 3))
    before = copy.deepcopy(layer.state_dict())
    layer(torch.randn(0, 8, 3, 3))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_a_wrong_number_of_channels_is_named(kind: Any, training: bool) -> None:
    with pytest.raises(RuntimeError, match="to have 8 channels"):
        kind(8, n=4).train(training)(torch.randn(2, 4, 3, 3))


def test_the_real_layer_takes_whitenings_method() -> None:
    assert type(phnn.PHWhitening2d(8, algebra="real", method="zca")) is nn.BatchNorm2d


@over_methods
def test_a_mean_far_from_zero_costs_no_precision(method: str) -> None:
    x = torch.randn(16, 8, 4, 4) + 1000
    exact = phnn.PHWhitening2d(8, n=4, method=method, dtype=F64)(x.double())
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = phnn.PHWhitening2d(8, n=4, method=method)(x.to(memory_format=memory_format))
        error = float((y.double() - exact).norm() / exact.norm())
        assert error < 100 * tolerance("float32", "composite")
