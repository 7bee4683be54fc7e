"""Each metric against a count or a computation done by hand."""

import os
import signal
import sys
from dataclasses import replace

import pytest
import torch
from asked import CONV, LINEAR, case

import phnn
import phnn.cost
from bench.measure import flops, memory, numerics, params
from bench.plan.sweep import Protocol
from bench.task import answer, execution, static, timing
from bench.task.protocol import Request, Result
from bench.task.subject import SLIM_TOLERANCE, build, build_module, count_params, slim_scale
from phnn.registry import find
from phnn.tolerances import tolerance


def peak(subject):
    return memory.peak_bytes(lambda: build(subject, "cpu"), "cpu")


def test_peak_memory_of_inference_is_weights_inputs_and_outputs_to_the_byte():
    """Outputs of one call are freed before the next: weight, bias, input and output are all that lives."""
    expected = 4 * (32 * 64 + 64 + 16 * 32 + 16 * 64)
    assert peak(case("linear", "real", **LINEAR)) == expected


@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_peak_memory_repeats_to_the_byte(phase):
    subject = case("conv2d", "quaternion", 4, phase=phase, **CONV)
    assert peak(subject) == peak(subject)


@pytest.mark.parametrize(
    ("changes", "peak"),
    [
        ([(1, 5), (2, 7), (3, -7)], 12),
        ([(1, 5), (2, 7), (2, -7)], 12),  # allocated, then freed, within one step of the clock
        ([(1, 5), (2, -5), (2, 7)], 7),  # freed, then allocated
        ([(1, 5), (3, -5), (2, 7)], 12),  # recorded by two threads, one after the other
        ([(0, 90), (0, -90), (1, 5), (4, 80)], 5),  # before and after the call
    ],
)
def test_the_peak_follows_the_order_in_which_memory_was_taken_and_freed(changes, peak):
    assert memory.largest_live(changes, 0, 3) == peak


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_resident_set_that_cannot_be_measured_says_why(monkeypatch):
    def broken():
        raise ValueError("it cannot be built")

    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="ValueError: it cannot be built"):
        memory.rss_bytes(broken)
    with pytest.raises(RuntimeError, match="ended with code -9"):
        memory.rss_bytes(killed)
    monkeypatch.setattr(memory, "_status", dict)
    result = Result(case_id="c")
    static._rss(result, case("linear", "real"), "cpu", None)
    assert "which Linux alone has" in result.unsupported["rss_bytes"]


def test_training_takes_more_memory_than_inference():
    assert peak(case("resnet8", "real", phase="train_step", batch=2)) > 2 * peak(case("resnet8", "real", batch=2))


@pytest.mark.parametrize("phase", ["infer", "forward_backward", "train_step"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("quaternion", 4), ("ph", 2)])
def test_the_numeric_error_of_a_right_layer_is_within_its_tolerance(algebra, n, dtype, phase):
    error = numerics.numeric_error(build(case("conv2d", algebra, n, phase=phase, dtype=dtype, **CONV), "cpu"))
    assert 0 <= error <= tolerance(dtype)
    assert dtype == "float64" or error > 0, "an error of exactly zero would mean that nothing was compared"


@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_a_wrong_layer_is_found_wrong(phase, monkeypatch):
    """A weight that is off by a thousandth in one block of sixteen."""
    from phnn import functional

    right = functional._weight_by_product

    def wrong(A, F, groups):
        W = right(A, F, groups)
        return W + torch.nn.functional.pad(
            1e-3 * W[:2, :2], (0, 0) * (W.dim() - 2) + (0, W.shape[1] - 2, 0, W.shape[0] - 2)
        )

    monkeypatch.setattr(functional, "_weight_by_product", wrong)
    error = numerics.numeric_error(build(case("conv2d", "quaternion", 4, phase=phase, **CONV), "cpu"))
    assert error > tolerance("float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_of_a_net_that_learns_nothing_is_found_wrong(dtype):
    """One of many: the norm of all gradients hardly changes, and half precision would hide it."""
    asked = case("resnet8", "quaternion", 4, phase="train_step", dtype=dtype, batch=4, size=8)
    right, dead = build(asked, "cpu"), build(asked, "cpu")
    dead.module.layer2[0].conv2.F.register_hook(torch.zeros_like)
    limit = tolerance(dtype, "model", "gradient", depth=numerics.depth(right.module))
    assert numerics.errors(right)["gradient"] <= limit
    assert numerics.errors(dead)["gradient"] >= 1 > limit


def test_a_gradient_that_is_lost_in_the_rounding_of_the_others_has_not_vanished():
    large, small = torch.ones(100), torch.full((100,), 1e-4)
    assert numerics.gradient_error([(large, large.double()), (0 * small, small.double())]) < 1e-3
    assert numerics.gradient_error([(large, large.double()), (0 * large, 0.01 * large.double())]) == 1.0


@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_the_numeric_error_of_a_right_net_is_within_its_tolerance(phase):
    error = numerics.numeric_error(build(case("resnet20", "quaternion", 4, phase=phase, batch=4), "cpu"))
    assert 0 < error <= tolerance("float32", "model", "output" if phase == "infer" else "gradient")


@pytest.mark.parametrize("phase", ["infer", "train_step"])
@pytest.mark.parametrize("algebra", ["real", "quaternion"])
@pytest.mark.parametrize("name", phnn.list_layers())
def test_every_layer_of_the_registry_can_be_measured(name, algebra, phase):
    """Built, fed, trained a step, counted and found right: dropout, shared inputs and tuple outputs included."""
    measured = case(name, algebra, 1 if algebra == "real" else 4, phase=phase, batch=2)
    if reason := find(name).constraints(phnn.algebra(algebra), dict(measured.shape)):
        assert find(name).algebras is not None, reason
        return
    error = numerics.numeric_error(build(measured, "cpu"))
    assert error <= tolerance("float32", "layer", "output" if phase == "infer" else "gradient")
    cost = flops.costs(build(measured, "cpu"))
    assert cost.macs >= 0 <= cost.macs_dense


@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("ph", 2)])
def test_file_bytes_are_those_of_the_saved_file_and_load_again(algebra, n, tmp_path):
    module = build(case("resnet8", algebra, n, batch=1), "cpu").module
    torch.save(module.state_dict(), tmp_path / "archive")  # the name is part of the file
    assert params.file_bytes(module) == (tmp_path / "archive").stat().st_size
    module.load_state_dict(torch.load(tmp_path / "archive", weights_only=True), strict=True)
    assert params.file_bytes(module) > 4 * count_params(module)


@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("quaternion", 4)])
def test_the_gradient_of_a_deep_net_is_held_to_what_its_depth_allows(algebra, n):
    """Units that fall on the other side of a ReLU: torch's own deep nets are beyond what a shallow one is held to."""
    subject = build(case("resnet50", algebra, n, phase="train_step", batch=4, size=16), "cpu")
    assert numerics.depth(subject.module) == 54
    error = numerics.numeric_error(subject)
    assert error <= tolerance("float32", "model", "gradient", depth=54) < 0.05
    assert tolerance("float32", "model", "gradient") < tolerance("float32", "model", "gradient", depth=8) < 0.01
    assert tolerance("bfloat16", "model", "gradient", depth=150) == 0.5


def test_what_was_built_is_read_back():
    for path, expected in (("kron", "kron"), ("auto", "dense")):
        subject = build(case("linear", "quaternion", 4, path=path), "cpu")
        subject.call()
        assert subject.path_built == expected
    assert build(case("linear", "real"), "cpu").path_built == "torch"


def test_phases_do_what_they_are_called():
    def changed(phase):
        subject = build(case("linear", "quaternion", 4, phase=phase), "cpu")
        before = subject.module.F.detach().clone()
        subject.call()
        return subject.module.F.grad is not None, not torch.equal(before, subject.module.F)

    assert changed("infer") == (False, False)
    assert changed("forward_backward") == (True, False)
    assert changed("train_step") == (True, True)


def test_channels_last_reaches_weights_and_inputs():
    subject = build(replace(case("conv2d", "real", **CONV), memory_format="channels_last"), "cpu")
    assert subject.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert subject.module.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("model", ["resnet8", "resnet20", "resnet18"])
@pytest.mark.parametrize(("algebra", "n"), [("quaternion", 4), ("ph", 2), ("ph", 4)])
def test_a_slim_control_has_the_parameters_of_what_it_controls(model, algebra, n):
    controlled = case(model, algebra, n, in_channels=1, size=8)
    target = count_params(build_module(controlled, "meta"))
    slim = count_params(build_module(controlled.slim_control(), "meta", controlled))
    assert abs(slim - target) <= SLIM_TOLERANCE * target
    assert 0 < slim_scale(controlled) < 1


def test_a_slim_control_that_cannot_be_is_refused():
    """A first stage of one channel has no step small enough to come within two per cent."""
    controlled = case("resnet8", "ph", 2, widths="2-2-2")
    with pytest.raises(ValueError, match="no real net of integer widths comes within 2%"):
        slim_scale(controlled)


def test_a_slim_control_may_have_to_be_wider_than_the_net():
    """Where the rules are larger than the filters, the real net of as many parameters is the wider one."""
    controlled = case("resnet8", "ph", 16, widths="16-16-16", in_channels=1, size=8)
    target = count_params(build_module(controlled, "meta"))
    slim = count_params(build_module(controlled.slim_control(), "meta", controlled))
    assert abs(slim - target) <= SLIM_TOLERANCE * target
    assert slim_scale(controlled) > 1


@pytest.mark.parametrize("phase", ["forward_backward", "train_step"])
def test_half_precision_trains_within_its_tolerance_at_large_batches(phase):
    """The gradient that enters is of order one whatever the batch: nothing overflows, nothing underflows."""
    subject = build(case("linear", "real", phase=phase, dtype="float16", batch=512, channels=256), "cpu")
    assert numerics.numeric_error(subject) <= tolerance("float16")


def test_the_same_seed_builds_the_same_subject():
    first, second = (build(case("linear", "ph", 2), "cpu") for _ in range(2))
    assert torch.equal(first.module.F, second.module.F)
    assert torch.equal(first.inputs[0], second.inputs[0])
    assert isinstance(first.module, phnn.PHLinear)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d", "rotation_conv2d", "whitening2d", "resnet8"])
def test_hypercomplex_subjects_run_channels_last(name):
    shape = {"batch": 2, "size": 8} | ({"channels": 8} if find(name).kind == "layer" else {})
    last = replace(case(name, "quaternion", 4, **shape), memory_format="channels_last")
    if not find(name).paths:
        last = replace(last, path="none")
    subject = build(last, "cpu")
    y = subject.module(*subject.inputs)
    assert subject.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("precision", ["amp_bf16", "amp_fp16"])
@pytest.mark.parametrize("name", ["conv2d", "gru", "attention", "resnet8"])
@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_a_precision_is_followed_and_judged_by_its_own_tolerance(name, precision, phase):
    if precision == "amp_fp16" and phase != "infer":
        return
    asked = replace(case(name, "quaternion", 4, phase=phase, batch=2), precision=precision)
    errors = numerics.errors(build(asked, "cpu"))
    rounded = execution.rounded_to(asked)
    assert set(errors) == ({"output"} if phase == "infer" else {"output", "gradient"})
    for of, error in errors.items():
        assert tolerance("float32", asked.kind, "output") < error <= tolerance(rounded, asked.kind, of), of


def test_the_output_of_a_training_call_is_checked_as_its_gradient_is(monkeypatch):
    """A bias that is off reaches the output and no gradient."""
    subject = build(case("linear", "real", phase="train_step", **LINEAR), "cpu")
    call = subject.call
    subject.call = lambda: call() + 1.0
    errors = numerics.errors(subject)
    assert errors["gradient"] <= tolerance("float32", of="gradient")
    assert errors["output"] > 0.1
    assert worker_status(subject) == ("wrong", True)


def worker_status(subject):
    result = Result(case_id=subject.case.id)
    answer.check_against_float64(result, subject)
    return result.status, result.reason.startswith("output: relative error")


def asked_of(asked, kind, *metrics):
    return Request(
        kind=kind, cases=[asked.factors], metrics=list(metrics), repetition=0, device="cpu", threads=1,
        protocol=Protocol(budget=0.01, precision=0.5),
    )  # fmt: skip


def test_a_metric_that_fails_costs_no_other(monkeypatch):
    def broken(module, inputs):
        raise RuntimeError("a second opinion broke\nat length")

    monkeypatch.setattr(flops, "macs_fvcore", broken)
    (found,) = static.measured(
        asked_of(case("linear", "quaternion", 4), "static", "params", "macs_fvcore", "numeric_error")
    )
    assert found.status == "ok"
    assert set(found.values) == {"params", "numeric_error"}
    assert {name: (f.status, f.reason) for name, f in found.failed.items()} == {
        "macs_fvcore": ("error", "RuntimeError: a second opinion broke")
    }


def test_a_tuned_case_is_checked_with_the_plans_that_were_timed(monkeypatch):
    asked = asked_of(case("linear", "quaternion", 4, path="tuned", channels=16), "timing", "latency")
    (right,) = timing.measured(asked)
    assert right.status == "ok"
    assert right.details["errors"]["output"] < right.details["tolerances"]["output"]
    monkeypatch.setattr(numerics, "errors", lambda subject: {"output": 0.1})
    (wrong,) = timing.measured(asked)
    assert wrong.status == "wrong"
    assert wrong.seconds


def timed_beside(monkeypatch, change, threads=2, repetition=0, **factors):
    """A timing task in which ``change`` makes another call of each subject's."""
    real_build = timing.build

    def changed(*args):
        subject = real_build(*args)
        subject.call = change(subject.call)
        return subject

    asked = asked_of(replace(case("linear", "quaternion", 4), **factors), "timing", "latency")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(timing, "build", changed)
            (found,) = timing.measured(asked.model_copy(update={"threads": threads, "repetition": repetition}))
    finally:
        torch.set_num_threads(before)
    return found


def off_by_threads(call):
    return lambda: call() * (1.0 if torch.get_num_threads() == 1 else 1.001)


@pytest.mark.parametrize("phase", ["infer", "train_step"])
def test_an_answer_that_is_wrong_only_as_it_is_timed_is_found_wrong(phase, monkeypatch):
    """A static task checks it on one thread, and finds it right."""
    right = timed_beside(monkeypatch, lambda call: call, phase=phase)
    assert right.status == "ok"
    assert right.details["departure"]["error"] <= right.details["departure"]["tolerance"] == 2 * tolerance("float32")
    assert timed_beside(monkeypatch, off_by_threads, threads=1, phase=phase).status == "ok"
    wrong = timed_beside(monkeypatch, off_by_threads, phase=phase)
    assert wrong.status == "wrong"
    assert wrong.reason.startswith("as it is timed, its output departs by 1.00e-03")
    assert wrong.seconds
    assert timed_beside(monkeypatch, off_by_threads, phase=phase, repetition=1).status == "ok", (
        "the first tells for all"
    )


def test_a_graph_that_replays_an_old_answer_is_found_wrong(monkeypatch):
    subject = build(case("linear", "quaternion", 4), "cpu")
    stale = subject.call().clone()
    assert numerics.departure(subject, lambda: stale) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        subject.module.F.mul_(1.5)
    assert numerics.departure(subject, lambda: stale) > 0.1
    assert numerics.departure(subject, subject.call) <= tolerance("float32")


def test_the_step_that_a_call_takes_is_not_in_its_answer():
    subject = build(case("linear", "ph", 2, phase="train_step"), "cpu")
    assert numerics.departure(subject, subject.call) <= 2 * tolerance("float32")


def test_what_draws_random_numbers_is_not_compared():
    subject = build(case("dropout", "quaternion", 4, phase="train_step", path="none"), "cpu")
    threads = torch.get_num_threads()
    assert numerics.departure(subject, subject.call) is None
    assert torch.get_num_threads() == threads


def test_a_comparison_that_fails_withholds_no_time(monkeypatch):
    def broken(subject, call):
        raise RuntimeError("no memory left for it")

    monkeypatch.setattr(numerics, "departure", broken)
    found = timed_beside(monkeypatch, lambda call: call)
    assert (found.status, found.details["departure"]) == ("ok", {"unknown": "RuntimeError: no memory left for it"})
    assert found.seconds
    assert found.failed == {}
