"""Tuning fixes what was measured fastest, changes no value, and can be saved."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import phnn
from phnn.plan import Plan
from phnn.tuning import Tuning, _mixed, candidates, tunable_layers, tune


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Net(nn.Module):
    def __init__(self, **algebra: Any) -> None:
        super().__init__()
        self.conv = phnn.PHConv2d(8, 16, 3, padding=1, **algebra)
        self.real = nn.Conv2d(16, 16, 3, padding=1)
        self.up = phnn.PHConvTranspose2d(16, 8, 2, stride=2, **algebra)
        self.fixed = phnn.PHConv2d(8, 8, 1, path="kron", **algebra)
        self.head = phnn.PHLinear(8, 12, **algebra)

    def forward(self, x):
        return self.head(self.fixed(self.up(self.real(self.conv(x)).relu())).mean((2, 3)))


@pytest.fixture(params=[{"algebra": "quaternion"}, {"n": 4}, {"n": 4, "rank": 5}], ids=["H", "ph", "rank"])
def net(request) -> Net:
    return Net(**request.param).eval()


@pytest.fixture
def favour(monkeypatch):
    """Make the sampler find one path fastest, without a clock."""

    def choose(wanted: str) -> None:
        def pretend(calls, *_args, **_kwargs):
            times = {name: [0.5 if name.startswith(wanted) or name == "contiguous" else 1.0] for name in calls}
            return type("Samples", (), {"seconds": staticmethod(times.__getitem__)})

        monkeypatch.setattr("phnn.tuning.sample", pretend)

    return choose


@pytest.mark.parametrize("phase", ["infer", "train"])
def test_tuning_changes_no_value(net, phase):
    x = torch.randn(3, 8, 6, 6)
    before = net(x).detach()
    tuning = tune(net, (x,), phase=phase, seconds_per_plan=1e-4)
    with torch.inference_mode(phase == "infer"):
        torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5)
    assert set(tuning.plans) == {"conv", "up", "head"}


@pytest.mark.parametrize("path", ["dense", "factored", "bilinear"])
def test_the_fastest_plan_is_what_runs(path, favour):
    net, x = Net(algebra="quaternion").eval(), torch.randn(3, 8, 6, 6)
    favour(path)
    tuning = tune(net, (x,))
    with torch.inference_mode():
        net(x)
    assert {plan.path for plan in tuning.plans.values()} == {path}
    assert {layer.path_built for layer in tunable_layers(net).values()} == {path}
    assert net.fixed.path_built == "kron"


def test_a_learned_rule_is_decomposed_for_inference_and_not_for_training(favour):
    net, x = Net(n=4).eval(), torch.randn(3, 8, 6, 6)
    favour("bilinear")
    tune(net, (x,), phase="infer")
    with torch.no_grad():
        net(x)
    assert net.conv.path_built == "bilinear"
    assert {plan.path for plan in tune(net, (x,), phase="train").plans.values()} == {"dense"}


def test_each_phase_follows_its_own_plan(favour):
    net, x = Net(algebra="quaternion"), torch.randn(3, 8, 6, 6)
    favour("bilinear")
    tune(net, (x,), phase="infer")
    favour("factored")
    tune(net, (x,), phase="train")
    net(x)
    assert net.conv.path_built == "factored"
    with torch.no_grad():
        net(x)
    assert net.conv.path_built == "bilinear"


def test_a_tuning_is_saved_loaded_printed_and_applied(net, tmp_path):
    x = torch.randn(3, 8, 6, 6)
    tuning = tune(net, (x,), seconds_per_plan=1e-4)
    tuning.save(tmp_path / "tuning.json")
    loaded = Tuning.load(tmp_path / "tuning.json")
    assert loaded == tuning
    other = copy.deepcopy(net)
    for layer in tunable_layers(other).values():
        layer._tuned.clear()
    loaded.apply(other)
    assert [layer._tuned for layer in tunable_layers(other).values()] == [
        layer._tuned for layer in tunable_layers(net).values()
    ]
    text = str(tuning)
    assert all(name in text for name in ("conv", "up", "head", "whole model"))


def test_a_loaded_tuning_runs_as_tuned_where_nothing_was_decomposed_yet(favour, tmp_path):
    """The process that tuned is not the one that predicts: it has the weights and the file."""
    net, x = Net(n=4).eval(), torch.randn(3, 8, 6, 6)
    favour("bilinear")
    tune(net, (x,)).save(tmp_path / "tuning.json")
    other = Net(n=4).eval()
    other.load_state_dict(net.state_dict())
    Tuning.load(tmp_path / "tuning.json").apply(other)
    with torch.inference_mode():
        torch.testing.assert_close(other(x), net(x), rtol=1e-4, atol=1e-5)
    assert {layer.path_built for layer in tunable_layers(other).values()} == {"bilinear"}


def test_a_tuning_for_a_kernel_that_cannot_be_built_warns_and_runs(monkeypatch):
    monkeypatch.setattr("phnn.kernels.build", lambda: "no C++ compiler: g++ is not installed")
    monkeypatch.setattr("phnn.layers._paths.kernel_at_hand", lambda: False)
    layer, x = phnn.PHConv2d(8, 8, 3, algebra="quaternion").eval(), torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        expected = layer(x)
        with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
            Tuning("infer", "contiguous", {"": Plan("bilinear", "contiguous", fused=True)}).apply(layer)
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert layer.path_built == "bilinear"


class Answers(nn.Module):
    """A model that names its layers' arguments and returns more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = phnn.PHLinear(8, 8, algebra="quaternion")

    def forward(self, batch):
        y = self.layer(input=batch["x"])
        return {"y": y, "parts": (y.sum(), 3)}


@pytest.mark.parametrize("phase", ["infer", "train"])
def test_a_model_may_take_and_give_what_it_likes(phase):
    assert set(tune(Answers(), ({"x": torch.randn(2, 8)},), phase=phase, seconds_per_plan=1e-4).plans) == {"layer"}


@pytest.mark.parametrize(
    ("make", "inputs", "options", "error"),
    [
        (lambda: phnn.PHConv2d(8, 8, 3, n=2), (torch.randn(0, 8, 5, 5),), {}, "receives no numbers"),
        (lambda: phnn.PHLinear(8, 8, n=2, device="meta"), (torch.randn(2, 8),), {}, "meta device"),
        (lambda: phnn.PHLinear(8, 8, n=2), torch.randn(2, 8), {}, "a tuple"),
        (lambda: phnn.PHLinear(8, 8, n=2).requires_grad_(False), (torch.randn(2, 8),), {"phase": "train"}, "infer"),
    ],
    ids=["empty", "meta", "no tuple", "frozen"],
)
def test_what_cannot_be_timed_is_said(make, inputs, options, error):
    with pytest.raises((ValueError, TypeError), match=error):
        tune(make(), inputs, **options)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": 1}',
        '{"version": 1, "phase": "infer", "memory_format": "contiguous", "plans": {"a": {"path": "dense", "new": 1}}}',
        '{"version": 1, "phase": "test", "memory_format": "contiguous", "plans": {}}',
    ],
)
def test_a_file_that_is_no_tuning_is_named(text, tmp_path):
    (tmp_path / "tuning.json").write_text(text)
    with pytest.raises(ValueError, match="tuning.json is no tuning"):
        Tuning.load(tmp_path / "tuning.json")


def test_a_tuning_of_another_model_or_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no tunable layer conv"):
        Tuning("infer", "contiguous", {"conv": Plan("dense")}).apply(phnn.PHLinear(4, 4, n=2))
    (tmp_path / "old.json").write_text('{"version": 0}')
    with pytest.raises(ValueError, match="tune again"):
        Tuning.load(tmp_path / "old.json")
    with pytest.raises(ValueError, match="choose infer or train"):
        tune(phnn.PHLinear(4, 4, n=2), (torch.randn(1, 4),), phase="test")


def test_a_tuned_model_compiles_and_survives_deepcopy(favour):
    net, x = Net(algebra="quaternion").eval(), torch.randn(3, 8, 6, 6)
    favour("bilinear")
    tune(net, (x,))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        expected = twin(x)
        assert twin.conv.path_built == "bilinear"
        torch._dynamo.reset()
        compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)


def test_layers_of_one_model_may_run_in_different_formats():
    plans = {"contiguous": Plan("bilinear", "contiguous", chunk=4), "channels_last": Plan("dense", "channels_last")}
    times = {"contiguous": {"a": 0.5, "b": 1.0}, "channels_last": {"a": 1.0, "b": 1.0}}
    contiguous, last = (
        Tuning("infer", name, dict.fromkeys("ab", plan), {layer: {str(plan): times[name][layer]} for layer in "ab"})
        for name, plan in plans.items()
    )
    mixed = _mixed(contiguous, last)
    assert mixed.plans == {"a": plans["contiguous"], "b": plans["channels_last"]}
    assert mixed.seconds["a"] == {"bilinear contiguous chunk=4": 0.5, "dense channels_last": 1.0}


def test_dense_is_always_a_candidate_and_comes_first():
    for layer, x in (
        (phnn.PHLinear(8, 8, n=4), torch.randn(2, 8)),
        (phnn.PHConv1d(8, 8, 3, n=4), torch.randn(2, 8, 9)),
        (phnn.PHConv2d(8, 8, 3, algebra="quaternion", groups=2), torch.randn(2, 8, 9, 9)),
        (phnn.PHConv3d(8, 8, 3, n=2, rank=2), torch.randn(2, 8, 4, 4, 4)),
    ):
        for phase in ("infer", "train"):
            plans = candidates(layer, x, phase, "contiguous")
            assert plans[0].path == "dense"
            assert len(set(plans)) == len(plans)
            assert phase == "infer" or not any(plan.packed or plan.chunk for plan in plans)


def test_a_model_in_channels_last_keeps_its_filters_and_its_values():
    net = Net(algebra="quaternion").eval()
    x = torch.randn(3, 8, 6, 6)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    assert net.conv.F.is_contiguous()
    y = net(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_a_lucky_round_does_not_choose_a_plan(monkeypatch):
    """One round in which the tuned model was fastest, and a run-off in which it loses: the model stays dense."""
    rounds = {"run-off": False}

    def pretend(calls, *_args, **_kwargs):
        models = [name for name in calls if "contiguous" in name or name in ("channels_last", "mixed")]
        rounds["run-off"] = len(calls) == 2 and len(models) == 2
        if rounds["run-off"]:
            times = {name: [1.0] * 5 if name.startswith("dense") else [0.1, 2.0, 2.0, 2.0, 2.0] for name in calls}
        else:
            times = {name: [1.0] if name.startswith("dense") else [0.1] for name in calls}
        return type("Samples", (), {"seconds": staticmethod(times.__getitem__)})

    monkeypatch.setattr("phnn.tuning.sample", pretend)
    layer = phnn.PHConv2d(8, 8, 3, algebra="quaternion").eval()
    tuning = tune(layer, (torch.randn(1, 8, 6, 6),))
    assert rounds["run-off"]
    assert {plan.path for plan in tuning.plans.values()} == {"dense"}


@pytest.mark.parametrize(
    ("seconds", "looks"),
    [((99.0,), [1]), ((9.0, 9.0), [1, 2]), ((9.0, 1.0), [1, 2, 3])],  # hopeless; far behind twice; disturbed once
)
def test_a_plan_that_is_far_behind_is_not_looked_at_again(monkeypatch, seconds, looks):
    seen: list[set[str]] = []

    def pretend(calls, *_args, **_kwargs):
        seen.append(set(calls))
        slow = seconds[min(len(seen), len(seconds)) - 1]
        return type("Samples", (), {"seconds": staticmethod(lambda name: [slow if name == "factored" else 1.0])})

    monkeypatch.setattr("phnn.tuning.sample", pretend)
    tune(phnn.PHLinear(8, 8, algebra="quaternion"), (torch.randn(4, 8),))
    assert [number for number, calls in enumerate(seen[:3], 1) if "factored" in calls] == looks


# ------------------------------------------------------------------------------------ what is different on a GPU


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Runs what it is given where torch takes a CUDA device for granted: tensors have one, and hold no numbers."""
    monkeypatch.setattr("phnn.init.filter_gain", lambda A: 1.0)  # a number, of a tensor that holds none
    monkeypatch.setattr(nn.Module, "to", lambda self, **_: self)  # nor has it any to bring into another format
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def run(make):
        with mode:
            return make()

    return run


@pytest.mark.parametrize("phase", ["infer", "train"])
def test_on_a_gpu_paths_and_memory_formats_are_tried_and_nothing_that_is_for_a_cpu(on_a_gpu, phase):
    layer = on_a_gpu(lambda: phnn.PHConv2d(256, 256, 3, algebra="quaternion", device="cuda"))
    x = on_a_gpu(lambda: torch.empty(64, 256, 16, 16, device="cuda"))
    plans = [p for name in ("contiguous", "channels_last") for p in candidates(layer, x, phase, name)]
    assert {str(plan) for plan in plans} == {
        "dense contiguous", "factored contiguous", "bilinear contiguous", "dense channels_last",
        "bilinear channels_last",
    }  # fmt: skip
    linear = on_a_gpu(lambda: phnn.PHLinear(4096, 4096, algebra="quaternion", device="cuda"))
    rows = on_a_gpu(lambda: torch.empty(512, 4096, device="cuda"))
    assert [str(plan) for plan in candidates(linear, rows, phase, "contiguous")] == ["dense", "factored", "bilinear"]


def test_a_gpu_is_waited_for_wherever_it_is_timed(on_a_gpu, monkeypatch):
    """In every look at plans and at the model, and on the model's device, not on the current one."""
    waited, syncs = [], []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)

    def pretend(calls, *_args, sync, **_kwargs):
        syncs.append(sync)
        return type("Samples", (), {"seconds": staticmethod(lambda name: [1.0])})

    monkeypatch.setattr("phnn.tuning.sample", pretend)
    monkeypatch.setattr("phnn.kernels.build", lambda: pytest.fail("there is nothing to mix on a CPU"))

    def tuned() -> Tuning:
        layer = phnn.PHConv2d(64, 64, 3, algebra="quaternion", device="cuda:1").eval()
        return tune(layer, (torch.empty(8, 64, 16, 16, device="cuda:1"),))

    tuning = on_a_gpu(tuned)
    assert {plan.path for plan in tuning.plans.values()} == {"dense"}
    assert len(syncs) >= 3
    for sync in syncs:
        sync()
    assert waited == [torch.device("cuda:1")] * len(syncs)


def test_a_plan_without_memory_is_left_out_but_dense_is_not(monkeypatch):
    def without(*paths: str):
        def call(layer, x, plan, phase):
            if plan.path in paths:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return lambda: None

        monkeypatch.setattr("phnn.tuning._call", call)

    layer, x = phnn.PHLinear(8, 8, algebra="quaternion").eval(), torch.randn(4, 8)
    without("factored")
    times = tune(layer, (x,), seconds_per_plan=1e-4).seconds[""]
    assert "factored" not in times
    assert {"dense", "bilinear"} <= set(times)
    without("dense")
    with pytest.raises(torch.OutOfMemoryError):
        tune(layer, (x,))


def test_a_tuning_from_a_cpu_builds_no_kernel_for_a_model_on_a_gpu(on_a_gpu, monkeypatch):
    monkeypatch.setattr("phnn.kernels.build", lambda: pytest.fail("there is nothing to mix on a CPU"))
    tuning = Tuning("infer", "contiguous", {"": Plan("bilinear", "contiguous", fused=True)})
    on_a_gpu(lambda: tuning.apply(phnn.PHConv2d(8, 8, 3, algebra="quaternion", device="cuda")))
