import sys
import types

import pytest

from bench.errors import UsageError
from bench.plan.case import Case
from bench.study.training import tracking

CASE = Case("resnet8", "model", "real", 1, (("batch", 8),), data="digits", seed=3)
ROW = {"epoch": 1, "train_loss": 0.5, "val_accuracy": 0.75}


def test_an_own_callback_is_told_of_epochs_and_of_the_end(monkeypatch, tmp_path):
    told = []

    class Own:
        def __init__(self, name, config, folder):
            told.append((name, config["seed"], folder))

        def epoch(self, stage, row):
            told.append((stage, dict(row)))

        def end(self, values):
            told.append(dict(values))

    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(Own=Own))
    tracker = tracking.find("mine:Own", CASE, tmp_path)
    tracker.epoch("train", ROW)
    tracker.end({"accuracy": 0.7})
    assert told == [(f"{CASE.name}-{CASE.id}", 3, tmp_path), ("train", ROW), {"accuracy": 0.7}]


def test_tensorboard_gets_the_curve(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = tracking.find("tensorboard", CASE, tmp_path)
    for epoch in (1, 2):
        tracker.epoch("train", {**ROW, "epoch": epoch, "train_loss": 1 / epoch})
    tracker.end({"accuracy": 0.7})
    (folder,) = tmp_path.iterdir()
    found = events.EventAccumulator(str(folder))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("train/train_loss")] == [(1, 1.0), (2, 0.5)]
    assert found.Scalars("test/accuracy")[0].value == pytest.approx(0.7)


def test_wandb_gets_the_curve(monkeypatch, tmp_path):
    """Its client is played by a recorder: what is tested is what it is asked to do."""
    calls = []

    class Run:
        summary = types.SimpleNamespace(update=lambda values: calls.append(("summary", values)))

        def log(self, values):
            calls.append(("log", values))

        def finish(self):
            calls.append("finish")

    def init(**options):
        calls.append(("init", options["project"], options["config"]["data"]))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    tracker = tracking.find("wandb", CASE, tmp_path)
    tracker.epoch("finetune", ROW)
    tracker.end({"accuracy": 0.7})
    assert calls[0] == ("init", "phnn-bench", "digits")
    assert calls[1] == ("log", {"finetune/epoch": 1, "finetune/train_loss": 0.5, "finetune/val_accuracy": 0.75})
    assert calls[2:] == [("summary", {"test/accuracy": 0.7}), "finish"]


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("tensorbord", "none of tensorboard, wandb, and not of the form module:callable"),
        ("nowhere:Own", "No module named 'nowhere'"),
        ("math:Own", "has no attribute 'Own'"),
    ],
)
def test_a_tracker_that_cannot_be_had_is_one_line(track, message):
    with pytest.raises(UsageError, match=message):
        tracking.check(track)


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'phnn-bench\[track\]'"):
        tracking.check("wandb")
