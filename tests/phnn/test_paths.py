"""Every path computes the same function: against float64, in gradients, in graphs, and after every kind of change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from along_paths import LAYERS, assert_right, float64_reference, make
from ph_reference import relative_error
from torch import nn

import phnn
from phnn.functional import PATHS, ph_conv, ph_conv_transpose, ph_linear
from phnn.tolerances import tolerance

F64 = torch.float64
pytestmark = pytest.mark.usefixtures("own_cache")

ALGEBRAS = [
    "complex",
    "dual",
    "cyclic(3)",
    "quaternion",
    "split_quaternion",
    "tessarine",
    "octonion",
    "clifford(2,1)",
]
RANKED = [(2, 2), (4, 5), (4, 7)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("algebra", ALGEBRAS)
@pytest.mark.parametrize("kind", LAYERS)
def test_every_path_is_the_layer_in_value_and_gradient(kind, algebra, path):
    layer, x = make(kind, algebra, path=path)
    assert_right(layer, x, tolerance("float32", path=path))
    assert layer.path_built == path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("n", "rank"), RANKED)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_rule_made_of_factors_is_right_along_every_path(kind, n, rank, path):
    layer, x = make(kind, n=n, rank=rank, path=path)
    assert_right(layer, x, tolerance("float32", path=path))
    assert layer.path_built == path


@pytest.mark.parametrize("path", ["factored", "dense"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_learned_rule_is_right_where_nothing_is_decomposed(kind, path):
    layer, x = make(kind, n=4, path=path)
    assert_right(layer, x, tolerance("float32", path=path))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_learned_rule_runs_bilinear_in_inference_once_decomposed(kind):
    layer, x = make(kind, n=4, path="bilinear")
    with torch.no_grad():
        layer(x)
        assert layer.path_built == "dense"
        assert layer.decompose().rank == 7
        y = layer(x)
    assert layer.path_built == "bilinear"
    assert relative_error(y, float64_reference(layer, x.double())[0]) <= tolerance("float32", path="bilinear")


def test_a_learned_rule_runs_dense_with_gradients_on_after_a_change_and_beyond_the_residual():
    layer, x = make("linear", n=4, path="bilinear")
    layer.decompose()
    assert_right(layer, x, tolerance("float32"))
    assert layer.path_built == "dense"
    with torch.no_grad():
        layer(x)
        assert layer.path_built == "bilinear"
        layer.A[0, 0, 0] += 1e-3
        y = layer(x)
        assert layer.path_built == "dense"
        assert relative_error(y, float64_reference(layer, x.double())[0]) <= tolerance("float32")
        layer.decompose()
        layer(x)
        assert layer.path_built == "bilinear"
        assert layer.decompose(rank=5).residual > 1e-3
        layer(x)
        assert layer.path_built == "dense"


def test_forward_never_searches(monkeypatch):
    def never(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr("phnn.rank.search", never)
    monkeypatch.setattr("phnn.layers._paths.decompose", never)
    layer, x = make("conv2d", n=4, path="bilinear")
    with torch.no_grad():
        layer(x)
    assert layer.path_built == "dense"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", ["factored", "bilinear"])
@pytest.mark.parametrize("algebra", ["quaternion", "ph"])
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_half_precision_is_within_three_times_the_dense_error(kind, algebra, path, dtype):
    name, arguments, size = LAYERS[kind]
    layer = phnn.create_layer(name, 64, 64, algebra=algebra, n=4, dtype=dtype, **arguments)
    x = torch.randn(8, 64, *size).to(dtype)
    expected, _ = float64_reference(layer, x.double())
    if algebra == "ph":
        layer.decompose()
    errors = {}
    with torch.no_grad():
        for layer.path in ("dense", path):
            errors[layer.path] = relative_error(layer(x), expected)
            assert layer.path_built == layer.path
    assert errors[path] <= 3 * errors["dense"], errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", ["factored", "bilinear"])
@pytest.mark.parametrize("options", [{"algebra": "quaternion"}, {"n": 4, "rank": 5}], ids=["H", "rank"])
@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
def test_gradients_in_half_precision_are_within_three_times_the_dense_error(kind, options, path, dtype):
    name, arguments, size = LAYERS[kind]
    layer = phnn.create_layer(name, 64, 64, dtype=dtype, **options, **arguments)
    given = torch.randn(8, 64, *size).to(dtype)
    x64 = given.double().requires_grad_()
    expected, params = float64_reference(layer, x64)
    weight = torch.randn(expected.shape, dtype=F64)
    exact = torch.autograd.grad((expected * weight).sum(), [x64, *params.values()])
    errors: dict[str, list[float]] = {}
    for layer.path in ("dense", path):
        x = given.clone().requires_grad_()
        y = layer(x)
        assert layer.path_built == layer.path
        found = torch.autograd.grad(y, [x, *layer.parameters()], weight.to(dtype))
        errors[layer.path] = [relative_error(*pair) for pair in zip(found, exact, strict=True)]
    assert all(ours <= 3 * dense for ours, dense in zip(errors[path], errors["dense"], strict=True)), errors


@pytest.mark.parametrize("path", PATHS)
def test_autocast_multiplies_in_bf16_along_every_path(path):
    layer, x = make("conv2d", "quaternion", path=path)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(y, float64_reference(layer, x.double())[0]) <= 3 * tolerance("bfloat16")


@pytest.mark.parametrize("path", PATHS)
def test_the_functions_take_every_path(path):
    found = phnn.decompose("quaternion")
    factors = tuple(torch.tensor(m) for m in (found.a, found.b, found.c))
    A = torch.tensor(phnn.algebra("quaternion").rule)
    options: dict[str, Any] = {"path": path, "factors": factors}
    F, x = torch.randn(4, 3, 2, dtype=F64), torch.randn(5, 8, dtype=F64)
    torch.testing.assert_close(ph_linear(x, A, F, **options), ph_linear(x, A, F))
    F, x = torch.randn(4, 3, 2, 3, dtype=F64), torch.randn(2, 8, 6, dtype=F64)
    torch.testing.assert_close(ph_conv(x, A, F, **options), ph_conv(x, A, F))
    F = torch.randn(4, 2, 3, 3, dtype=F64)
    torch.testing.assert_close(ph_conv_transpose(x, A, F, **options), ph_conv_transpose(x, A, F))


def test_the_bilinear_function_says_what_it_lacks():
    A, F, x = torch.randn(2, 2, 2), torch.randn(2, 3, 3), torch.randn(1, 6)
    with pytest.raises(ValueError, match="needs factors"):
        ph_linear(x, A, F, path="bilinear")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv2d grouped", "conv_transpose2d"])
@pytest.mark.parametrize("options", [{"algebra": "quaternion"}, {"n": 4}, {"n": 4, "rank": 5}])
def test_every_path_compiles_without_a_break_and_exports(kind, path, options):
    torch._dynamo.reset()
    layer, x = make(kind, path=path, **options)
    expected = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    compiled(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), expected)
        exported = torch.export.export(layer, (x,))
        torch.testing.assert_close(exported.module()(x), expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["linear", "conv2d grouped", "conv_transpose2d"])
def test_an_input_that_does_not_fit_is_refused_in_torchs_words(kind, path):
    """Along factored, rows of half or twice the width could be taken for more or fewer rows."""
    layer, x = make(kind, "quaternion", path=path, bias=False)
    plain, _ = make(kind, "quaternion", path="dense", bias=False)
    axis = -layer.F.dim() + 2
    for wrong in (x.narrow(axis, 0, 8), torch.cat([x, x], axis), x.narrow(axis, 0, 9)):
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                with pytest.raises(RuntimeError) as ours:
                    layer(wrong)
                with pytest.raises(RuntimeError) as torchs:
                    plain(wrong)
            assert str(ours.value) == str(torchs.value)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d 1x1", "conv_transpose2d"])
def test_an_empty_batch_gives_an_empty_batch_along_every_path(kind, path):
    layer, x = make(kind, "quaternion", path=path)
    y = layer(x[:0].requires_grad_())
    assert y.shape == (0, *layer(x).shape[1:])
    y.sum().backward()
    with torch.no_grad():
        assert layer(x[:0]).shape == y.shape


@pytest.mark.parametrize("path", ["auto", *PATHS])
def test_a_layer_is_exported_for_any_batch(path):
    """Untuned, too, where a batch of this size would run bilinear and a smaller one would not."""
    layer = phnn.PHLinear(512, 512, algebra="quaternion", path=path)
    batch = torch.export.Dim("batch", min=1, max=1000)
    program = torch.export.export(layer, (torch.randn(100, 512),), dynamic_shapes=({0: batch},))
    for rows in (1, 7, 300):
        x = torch.randn(rows, 512)
        torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- rules of given rank


def test_a_rank_is_a_dial_for_parameters_and_arithmetic():
    costs, params = [], []
    for rank in (4, 5, 7):
        layer, x = make("conv2d", n=4, rank=rank, path="bilinear")
        y = layer(x)
        cost = layer.cost(x, y)
        costs.append(cost.macs / cost.macs_dense)
        params.append(sum(p.numel() for p in layer.parameters()))
    full = sum(p.numel() for p in make("conv2d", n=4)[0].parameters())
    assert costs == sorted(costs)
    assert params == sorted(params)
    assert params[0] < full


def test_a_rule_of_factors_starts_with_the_variance_of_torchs_layer():
    layer = phnn.PHLinear(256, 256, n=4, rank=5, bias=False)
    assert float(layer.weight.detach().std()) == pytest.approx(
        float(nn.Linear(256, 256).weight.detach().std()), rel=0.1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algebra": "quaternion", "rank": 8}, "rank is for 'ph' alone"),
        ({"n": 2, "rank": 0}, "at least one term"),
        ({"n": 2, "rank": 2, "rule_init": "complex"}, "leave rule and rule_init out"),
        ({"algebra": "real", "rank": 2}, "leave rank out"),
    ],
)
def test_a_rank_that_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        phnn.PHLinear(8, 8, **options)


def test_a_rule_of_factors_needs_no_preparation():
    with pytest.raises(ValueError, match="already"):
        phnn.PHLinear(8, 8, n=2, rank=2).decompose()


def test_a_user_made_algebra_is_searched_for_when_it_is_told_to_run_bilinear():
    rng = np.random.default_rng(0)
    T = rng.integers(-1, 2, (3, 3, 3)).astype(float)
    T[0] = T[:, 0] = np.eye(3)
    layer = phnn.PHLinear(6, 6, algebra=phnn.Algebra("mine", 3, T), path="bilinear")
    x = torch.randn(4, 6)
    assert_right(layer, x, tolerance("float32", path="bilinear"))
    assert layer.path_built == "bilinear"


@pytest.mark.parametrize("path", PATHS)
def test_every_path_runs_on_the_meta_device(path):
    """Shapes and counts of any size can be had without its numbers."""
    for layer in (
        phnn.PHConv2d(8, 8, 3, algebra="quaternion", path=path, device="meta"),
        phnn.PHConv2d(8, 8, 3, n=4, rank=7, path=path, device="meta"),
    ):
        with torch.no_grad():
            assert layer(torch.empty(2, 8, 9, 9, device="meta")).shape == (2, 8, 7, 7)
        assert layer.path_built == path
