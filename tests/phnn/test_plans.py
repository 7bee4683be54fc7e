"""Every plan of a layer computes the same: memory formats, packed weights, chunks, and the compiled mixing."""

from __future__ import annotations

import copy
import subprocess
import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import phnn
from phnn import kernels
from phnn.mixing import TORCH
from phnn.plan import Plan

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
KINDS: dict[str, tuple[type, dict[str, Any], tuple[int, ...]]] = {
    "linear": (phnn.PHLinear, {}, ()),
    "conv2d": (phnn.PHConv2d, {"kernel_size": 3, "stride": 2, "padding": 1}, (6, 5)),
    "conv2d 1x1": (phnn.PHConv2d, {"kernel_size": 1, "bias": False}, (4, 4)),
    "conv2d grouped": (phnn.PHConv2d, {"kernel_size": 3, "groups": 2, "padding": 1}, (5, 5)),
    "conv2d reflected": (phnn.PHConv2d, {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, (5, 5)),
    "conv3d": (phnn.PHConv3d, {"kernel_size": 2}, (4, 4, 4)),
    "conv_transpose2d": (phnn.PHConvTranspose2d, {"kernel_size": 3, "stride": 2}, (4, 4)),
}


@pytest.fixture(scope="module")
def kernel() -> kernels.Mixing:
    assert kernels.build() is None
    return kernels.KERNEL


def make(kind: str, **options: Any) -> tuple[Any, Tensor]:
    layer, arguments, size = KINDS[kind]
    if not options:
        options = {"algebra": "quaternion"}
    return layer(16, 24, **arguments, **options), torch.randn(3, 16, *size)


def formats(x: Tensor) -> list[Tensor]:
    return [x, x.contiguous(memory_format=LAST[x.dim()])] if x.dim() in LAST else [x, x.expand(2, *x.shape)]


# every pair of the last four columns, not every combination
PLANS = [
    Plan("dense", "keep"),
    Plan("dense", "channels_last", packed=True),
    Plan("factored", "contiguous"),
    Plan("bilinear", "keep", chunk=2),
    Plan("bilinear", "contiguous", packed=True, chunk=1),
    Plan("bilinear", "channels_last", packed=True),
    Plan("bilinear", "channels_last", chunk=2),
    Plan("bilinear", "keep", packed=True, chunk=2, fused=True),
    Plan("bilinear", "contiguous", fused=True),
    Plan("bilinear", "channels_last", packed=True, chunk=1, fused=True),
    Plan("bilinear", "channels_last", packed=True, fused=True),
]


@pytest.mark.system("g++")
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("kernel")
def test_every_plan_computes_the_same_with_and_without_gradients(kind, plan):
    layer, x = make(kind)
    layer._tuned = {"infer": plan, "train": plan}
    for given in formats(x):
        given = given.detach().requires_grad_()
        expected = torch.func.functional_call(layer, dict(layer.named_parameters()), (given,))
        layer._tuned = {}
        reference = layer(given)
        wanted = [given, *layer.parameters()]
        cotangent = torch.randn_like(reference)
        gradients = torch.autograd.grad(reference, wanted, cotangent)
        layer._tuned = {"infer": plan, "train": plan}
        with torch.inference_mode():
            torch.testing.assert_close(layer(given.detach()), reference.detach(), rtol=1e-4, atol=1e-5)
        assert layer.path_built == plan.path
        torch.testing.assert_close(expected, reference, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(layer(given), wanted, cotangent), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.system("g++")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
@pytest.mark.usefixtures("kernel")
def test_every_plan_in_half_precision_is_within_three_times_the_dense_error(kind, plan, dtype):
    layer, x = make(kind, algebra="quaternion", dtype=dtype)
    x = x.to(dtype)
    exact = copy.deepcopy(layer).double()
    errors = []
    with torch.inference_mode():
        for followed in (Plan("dense"), plan):
            layer._tuned = {"infer": followed}
            expected = exact(x.double())
            errors.append(float((layer(x).double() - expected).norm() / expected.norm()))
            assert layer.path_built == followed.path
    assert errors[1] <= 3 * errors[0], errors


@pytest.mark.system("g++")
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "plan", [p for p in PLANS if p.path == "bilinear" and p.memory_format != "contiguous"], ids=str
)
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_a_rule_of_factors_learns_and_predicts_alike_along_every_plan(kind, plan):
    layer, x = make(kind, n=4, rank=5)
    reference = layer(x)
    gradients = torch.autograd.grad(reference.square().sum(), list(layer.parameters()))
    layer._tuned = {"infer": plan, "train": plan}
    with torch.no_grad():
        torch.testing.assert_close(layer(x), reference.detach(), rtol=1e-4, atol=1e-5)
    again = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for ours, theirs in zip(again, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.system("g++")
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
@pytest.mark.parametrize("path", ["dense", "bilinear"])
def test_packed_weights_follow_the_parameters_and_fit_other_sizes(kind, path):
    layer, x = make(kind)
    layer._tuned = {"infer": Plan(path, "channels_last", packed=True, fused=path == "bilinear")}
    other = torch.randn(5, 16, *((9, 8) if kind == "conv2d" else ()))
    fresh, _ = make(kind)
    with torch.no_grad():
        layer(x)
        layer.F.mul_(2)
        fresh.load_state_dict(layer.state_dict())
        for given in (x, other):
            torch.testing.assert_close(layer(given), fresh(given), rtol=1e-4, atol=1e-5)
        assert layer(x[:0]).shape == fresh(x[:0]).shape


SPECIAL = [
    Plan("dense", "channels_last", packed=True),
    Plan("bilinear", "keep", chunk=2),
    Plan("bilinear", "channels_last", packed=True, chunk=2, fused=True),
]


@pytest.fixture(params=[(kind, plan) for kind in ("linear", "conv2d") for plan in SPECIAL], ids=str)
def special(request, kernel) -> tuple[Any, Any, Tensor]:
    """A layer that follows a plan of inference alone, the same without a plan, and an input."""
    kind, plan = request.param
    layer, x = make(kind)
    plain = copy.deepcopy(layer)
    plain.path = "dense"
    layer._tuned = {"infer": plan}
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)
    return layer, plain, x


@pytest.mark.system("g++")
def test_a_new_bias_is_seen_by_packed_weights(special):
    layer, plain, x = special
    for bias in (torch.nn.Parameter(torch.randn(24)), None):
        layer.bias = plain.bias = bias
        with torch.no_grad():
            torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.system("g++")
def test_a_plan_for_inference_casts_as_autocast_says(special):
    layer, plain, x = special
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            y = layer(given)
            assert y.dtype == torch.bfloat16
            torch.testing.assert_close(y, plain(given), rtol=0.1, atol=0.1)


@pytest.mark.system("g++")
def test_a_plan_for_inference_batches_and_derives_as_torch_does(special):
    layer, plain, x = special
    stacked = torch.stack([x, 2 * x])
    several = {name: torch.stack([p.detach(), p.detach() + 1]) for name, p in layer.named_parameters()}

    def called(layer: Any) -> Any:
        return lambda parameters: torch.func.functional_call(layer, parameters, (x,))

    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(layer)(stacked), torch.vmap(plain)(stacked), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            torch.vmap(called(layer))(several), torch.vmap(called(plain))(several), rtol=1e-4, atol=1e-4
        )
        for (y, tangent), (expected, wanted) in [
            [torch.func.jvp(one, (x,), (x,)) for one in (layer, plain)],
            [_forward_mode(one, x) for one in (layer, plain)],
        ]:
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(tangent, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


def _forward_mode(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autograd.forward_ad.dual_level():
        y, tangent = torch.autograd.forward_ad.unpack_dual(layer(torch.autograd.forward_ad.make_dual(x, x)))
        assert tangent is not None, "the derivative was lost"
        return y.clone(), tangent.clone()


@pytest.mark.system("g++")
def test_a_plan_for_inference_is_counted(special):
    layer, _, x = special
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() > 0


@pytest.mark.system("g++")
@pytest.mark.usefixtures("kernel")
def test_a_fused_plan_runs_under_autocast_and_in_graphs():
    layer, x = make("conv2d")
    layer._tuned = {phase: Plan("bilinear", "channels_last", fused=True) for phase in ("infer", "train")}
    expected = layer(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
    program = torch.export.export(layer, (x,))
    assert "phnn" not in str(program.graph), "an exported program must not need our kernel"
    torch.testing.assert_close(program.module()(x), expected)


def test_mixing_keeps_the_memory_format():
    layer, x = make("conv2d", algebra="quaternion", path="bilinear")
    with torch.no_grad():
        y = layer(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "bad", [{"path": "dence"}, {"path": "dense", "memory_format": "nhwc"}, {"path": "dense", "chunk": -1}]
)
def test_a_plan_that_cannot_be_followed_is_refused(bad):
    with pytest.raises(ValueError, match=r"unknown|chunk"):
        Plan(**bad)


# -------------------------------------------------------------------------------------------------------- the kernel

SHAPES = [(3, 840), (2, 840, 5, 5), (2, 840, 1, 1), (1, 840, 700), (2, 840, 3, 3, 3), (0, 840, 4, 4)]


@pytest.mark.system("g++")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 10])
def test_the_kernel_mixes_as_torch_does(kernel, shape, n, dtype):
    m = torch.randn(7, n, dtype=dtype)
    for x in formats(torch.randn(shape, dtype=dtype)):
        if x.dim() > len(shape):
            continue
        y, expected = kernel.mixed(m, x), TORCH.mixed(m, x)
        # in half precision torch may sum in the product's own precision: compare with float64
        exact = TORCH.mixed(m.double(), x.double())
        assert (y.double() - exact).norm() <= 1.01 * (expected.double() - exact).norm() + 1e-7 * exact.norm()
        assert y.is_contiguous() or y.stride() == expected.stride()
        for target in formats(torch.empty(expected.shape, dtype=dtype)):
            if target.dim() == y.dim():
                kernel.into(m, x, target)
                torch.testing.assert_close(target, y, rtol=0, atol=0)
        torch.testing.assert_close(kernel.mixed(m.t().contiguous().t(), x), y, rtol=0, atol=0)


@pytest.mark.system("g++")
def test_the_kernel_has_first_and_second_derivatives(kernel):
    m, x = torch.randn(7, 4, dtype=torch.double), torch.randn(2, 8, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: kernel.mixed(m, x), x)
    assert torch.autograd.gradgradcheck(lambda x: kernel.mixed(m, x).square(), x)


@pytest.mark.system("g++")
def test_the_kernel_refuses_what_it_cannot_mix(kernel):
    with pytest.raises(RuntimeError, match="3 components do not divide 8 channels"):
        kernel.mixed(torch.randn(2, 3), torch.randn(1, 8, 2))
    with pytest.raises(RuntimeError, match="m is Double, x is Float"):
        kernel.mixed(torch.randn(2, 4, dtype=torch.double), torch.randn(1, 8, 2))


@pytest.fixture
def nothing_built(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for function in (kernels.load, kernels.build):
        monkeypatch.setattr(kernels, function.__name__, function.__wrapped__)


@pytest.mark.usefixtures("nothing_built")
def test_a_machine_without_a_compiler_says_so_and_mixes_with_torch(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert kernels.build() == "no C++ compiler: no-such-compiler is not installed"
    assert not kernels.load()


@pytest.mark.usefixtures("nothing_built")
def test_a_library_that_cannot_be_loaded_is_as_good_as_none(monkeypatch):
    monkeypatch.setattr(kernels, "_LOADED", [])
    library = kernels._library()
    library.parent.mkdir(parents=True)
    library.write_bytes(b"half a library")
    assert not kernels.load()


@pytest.mark.system("g++")
@pytest.mark.usefixtures("kernel")
def test_threads_that_load_at_once_register_the_kernel_once(monkeypatch):
    """An operator is registered once in a process: what counts is how often it is tried."""
    registered: list[None] = []
    monkeypatch.setattr(kernels, "_LOADED", [])
    # not really: a second copy of the library, from another cache folder, would end the process
    monkeypatch.setattr(torch.ops, "load_library", lambda library: None)
    monkeypatch.setattr(kernels, "_derive", lambda: registered.append(None))
    together = threading.Barrier(4)

    def first() -> None:
        together.wait()
        kernels.load.__wrapped__()

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registered) == 1


@pytest.mark.usefixtures("nothing_built")
def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(monkeypatch, tmp_path):
    def failing(command, **_kwargs):
        raise subprocess.CalledProcessError(1, command, stderr="mixing.cpp:1: no such header\nmore")

    monkeypatch.setattr(subprocess, "run", failing)
    monkeypatch.setattr(kernels.shutil, "which", lambda name: name)
    assert kernels.build() == "g++ failed: mixing.cpp:1: no such header"
    assert not list(tmp_path.rglob("*.so"))
