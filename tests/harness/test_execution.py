"""Compiled subjects: what is compiled, what is refused, how long it took, and that the answer is held to the same."""

import os
from dataclasses import replace

import pytest
import torch

from bench.measure import memory, numerics
from bench.plan.case import Case
from bench.plan.sweep import Protocol
from bench.task import execution, static, timing, worker
from bench.task.execution import CannotCompileError
from bench.task.protocol import Request
from bench.task.subject import build
from phnn.registry import find
from phnn.tolerances import tolerance

needs_compiler = pytest.mark.system("g++")  # inductor's on a CPU


def case(subject, algebra="quaternion", n=4, **factors):
    spec = find(subject)
    own = {key: factors.pop(key) for key in list(factors) if key in spec.shape}
    shape = tuple(sorted({**spec.shape, "batch": 2, **own}.items()))
    path = "none" if algebra == "real" or not spec.paths else factors.pop("path", "auto")
    return Case(subject, spec.kind, algebra, n, shape, path=path, **{"compile": "default", **factors})


def request(cases, kind, metrics):
    return Request(
        kind=kind, cases=[c.factors for c in cases], metrics=metrics, repetition=0, device="cpu", threads=1,
        protocol=Protocol(budget=0.02, precision=0.9),
    )  # fmt: skip


@pytest.fixture
def eager(monkeypatch):
    """Compiled by Dynamo and AOTAutograd, without inductor's C++: in a tenth of the time, on any machine."""
    torch._dynamo.reset()
    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode=None, **how: compile_it(f, backend="aot_eager", **how))


@pytest.mark.parametrize("phase", ["infer", "forward_backward", "train_step"])
@pytest.mark.parametrize(("subject", "algebra", "n"), [
    ("linear", "quaternion", 4), ("conv2d", "ph", 2), ("attention", "real", 1), ("resnet8", "quaternion", 4),
])  # fmt: skip
@pytest.mark.parametrize("precision", ["none", "amp_bf16"])
def test_what_is_compiled_is_right(eager, subject, algebra, n, phase, precision):
    asked = case(subject, algebra, n, phase=phase, precision=precision)
    errors = numerics.errors(build(asked, "cpu"))
    for of, error in errors.items():
        assert 0 < error <= tolerance(execution.rounded_to(asked), asked.kind, of), of


@needs_compiler
@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_what_inductor_compiles_is_right_and_its_dropout_draws_the_masks_of_the_reference(phase):
    asked = case("dropout", "real", 1, phase=phase)
    with execution.same_draws():
        assert max(numerics.errors(build(asked, "cpu")).values()) <= tolerance("float32")
    (result,) = static.measured(request([case("linear", phase=phase, channels=8)], "static", ["numeric_error"]))
    assert (result.status, result.path_built) == ("ok", "dense")
    assert 0 < result.values["numeric_error"] <= result.details["tolerances"]["output"] * 5


@needs_compiler
def test_compile_time_is_that_of_a_cold_cache_every_time():
    """The second of two equal cases finds nothing of the first."""
    folders = []

    def call():
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])

    ticks = iter(range(100))
    for _ in range(2):
        assert execution.compile_time(call, "cpu", clock=lambda: next(ticks)) == 1
    assert len(set(folders)) == 2
    assert not any(os.path.exists(folder) for folder in folders)


@needs_compiler
def test_a_compiled_case_is_timed_beside_others_and_says_how_long_it_took_to_compile():
    cases = [case("linear", *variant, channels=8) for variant in (("real", 1), ("quaternion", 4), ("ph", 2))]
    results = timing.measured(request(cases, "timing", ["latency", "compile_time"]))
    assert [(r.status, r.path_built) for r in results] == [("ok", "torch"), ("ok", "dense"), ("ok", "dense")]
    assert all(r.values["compile_time"] > 0 for r in results)
    assert all(len(r.seconds) >= 8 for r in results)


def test_what_cannot_be_compiled_whole_is_unsupported_with_the_reason_and_costs_itself_alone(eager, monkeypatch):
    """torch's GRU is one that Dynamo steps around: what would be timed is not compiled."""
    monkeypatch.setattr(execution, "_load_compiler", lambda device: None)
    cases = [case("gru", *variant, channels=8, length=2) for variant in (("real", 1), ("quaternion", 4))]
    real, quaternion = timing.measured(request(cases, "timing", ["latency"]))
    assert real.status == "unsupported"
    assert real.reason.startswith("torch.compile cannot take it as one graph: ")
    assert (quaternion.status, quaternion.path_built) == ("ok", "dense")
    (counted,) = static.measured(request(cases[:1], "static", ["params", "numeric_error"]))
    assert (counted.status, set(counted.values)) == ("ok", {"params"})
    assert counted.unsupported == {"numeric_error": real.reason}


def test_a_machine_without_a_compiler_says_so(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found\nand a long story")

    execution._load_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(CannotCompileError, match=r"does not work on this machine: No working C\+\+ compiler found$"):
        execution.compile_time(lambda: None, "cpu")


def test_variants_that_share_their_code_are_compiled_apart(eager):
    """More of them than Dynamo's limit, each of another width, each compiled for its own shapes."""
    for channels in range(4, 4 * 11, 4):
        subject = build(case("linear", channels=channels), "cpu")
        assert subject.call().shape == (2, channels)


def test_a_learned_rule_that_was_decomposed_runs_along_dense_in_a_graph_and_says_so(eager):
    asked = case("linear", "ph", 4, path="bilinear")
    assert build(asked, "cpu").path_built == "dense"
    subject = build(replace(asked, compile="none"), "cpu")
    subject.call()
    assert subject.path_built == "bilinear"


def test_counts_are_of_the_module_whether_it_is_compiled_or_not(eager):
    counts = ["params", "macs", "macs_dense", "macs_weight_build", "flops_torch", "macs_fvcore", "weight_bytes"]
    compiled = case("conv2d", channels=8, size=6)
    found = [
        static.measured(request([c], "static", counts))[0] for c in (compiled, replace(compiled, compile="none"))
    ]
    assert found[0].values == found[1].values
    assert set(found[0].values) == set(counts)


def test_peak_memory_of_a_compiled_case_repeats_to_the_byte(eager):
    asked = case("conv2d", channels=8, size=6, phase="train_step")
    peaks = {memory.peak_bytes(lambda: build(asked, "cpu"), "cpu") for _ in range(3)}
    assert len(peaks) == 1


@pytest.mark.parametrize(("precision", "allowed"), [("none", False), ("amp_bf16", False), ("tf32", True)])
def test_tf32_is_allowed_where_it_is_asked_for_and_nowhere_else(precision, allowed, tmp_path):
    asked = request([case("linear", "real", 1, precision=precision, compile="none")], "static", ["params"])
    worker.main(asked.model_dump_json(), tmp_path / "reply.json")
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    execution.set_tf32(False)


def test_a_graph_is_judged_by_the_precision_it_was_asked_for():
    assert [execution.rounded_to(case("linear", precision=p)) for p in ("none", "amp_bf16", "amp_fp16", "tf32")] == [
        "float32", "bfloat16", "float16", "float16",
    ]  # fmt: skip
