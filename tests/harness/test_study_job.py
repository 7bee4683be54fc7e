"""A case trained as a worker does it: values, details, conversions, and a worker that is killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from bench.plan.case import Case
from bench.plan.sweep import Protocol
from bench.study.recipe import Recipe
from bench.study.training import job
from bench.task.protocol import Reply, Request

SHAPE = {"in_channels": 1, "size": 8, "num_classes": 10, "batch": 64, "widths": "4-8-8"}


def case(algebra="ph", n=4, seed=0, subject="resnet8", data="digits", shape=SHAPE, kind="model", **recipe):
    from phnn.registry import find

    full = {**find(subject).shape, **shape}
    recipe = Recipe(**{"epochs": 2, "batch_size": 64, **recipe}).model_dump()
    path = "none" if algebra == "real" else "auto"
    return Case(
        subject, kind, algebra, n, tuple(sorted(full.items())), phase="none", timer="none", path=path, data=data,
        recipe=tuple(sorted(recipe.items())), seed=seed,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_case_has_its_metrics_its_curve_and_what_explains_them():
    found = job.run(job.Job(case()))
    assert set(found.values) == {"accuracy", "test_loss", "params", "train_loss", "train_time"}
    assert 0.5 < found.values["accuracy"] <= 1
    assert [row["epoch"] for row in found.details["curve"]] == [1, 2]
    assert found.details["counts"] == {"train": 1149, "val": 288, "test": 360}
    assert found.details["resampled"] is True
    assert found.path_built == "dense"
    json.dumps(found.details, allow_nan=False)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    weights = [job.run(job.Job(case(seed=seed, epochs=1))).details["weights"] for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]


def test_a_search_is_told_and_its_rate_is_used():
    found = job.run(job.Job(case(lr_search=(1e-4, 0.1), search_share=0.5)))
    assert found.details["lr"] == 0.1
    assert [tried["lr"] for tried in found.details["lr_search"]] == [1e-4, 0.1]
    assert found.details["lr_at_edge"] is True
    assert max(row["lr"] for row in found.details["curve"]) <= 0.1


def test_a_divergence_is_an_error_with_its_reason():
    with pytest.raises(FloatingPointError, match="lower the recipe's lr"):
        job.run(job.Job(case(lr=1e20, warmup=0)))


def test_a_converted_net_keeps_its_worth_where_nothing_is_lost():
    """The real algebra: nothing is projected, so that before and after the conversion are the same net."""
    found = job.run(job.Job(case("real", 1, start="project", finetune_epochs=1)))
    assert found.values["accuracy_before"] == found.values["accuracy_projected"]
    assert found.details["params_removed"] == 0
    assert len(found.details["curve_before"]) == 2
    assert len(found.details["curve"]) == 1


def test_a_converted_net_has_fewer_parameters_and_is_tuned_again():
    found = job.run(job.Job(case(start="project", finetune_epochs=2, finetune_lr=0.05)))
    assert found.values["accuracy_projected"] < found.values["accuracy_before"]
    assert found.values["accuracy"] > found.values["accuracy_projected"]
    assert 0.4 < found.details["params_removed"] < 0.75
    assert all(error > 0 for error in found.details["projection_error"].values())


def test_a_net_that_is_converted_was_trained_as_the_real_one_is():
    real, ph = (job.run(job.Job(case(a, n, start="project"))) for a, n in (("real", 1), ("ph", 4)))
    assert real.values["accuracy_before"] == ph.values["accuracy_before"]
    assert real.details["curve_before"][-1]["train_loss"] == ph.details["curve_before"][-1]["train_loss"]


def test_a_layer_recovers_its_rule_through_the_harness():
    layer = {"channels": 32, "out_channels": 32, "batch": 64}
    recipe = {"epochs": 0, "steps": 150, "optimizer": "adamw", "lr": 0.02, "weight_decay": 0.0}
    found = job.run(job.Job(case(subject="linear", kind="layer", data="hamilton", shape=layer, **recipe)))
    assert found.values["rule_distance"] < 0.3
    assert "accuracy" not in found.values


# ------------------------------------------------------------------------------------------- real processes


def start(request, reply):
    process = subprocess.Popen([sys.executable, "-m", "bench.task.worker", str(reply)], stdin=subprocess.PIPE)
    process.stdin.write(request.model_dump_json().encode() + b"\n")
    process.stdin.flush()
    return process


def asking(asked, **training):
    return Request(
        kind="training", cases=[asked.factors], metrics=["accuracy", "params"], repetition=0, device="cpu", threads=1,
        protocol=Protocol(), training=training,
    )  # fmt: skip


def finished(asked, reply, **training):
    process = start(asking(asked, **training), reply)
    try:
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
    (result,) = Reply.model_validate_json(reply.read_text()).results
    assert result.status == "ok", result.reason
    return result


def test_a_worker_killed_within_a_training_goes_on_where_it_was_to_the_same_weights(tmp_path):
    asked, folder = case(epochs=3), tmp_path / "checkpoints"
    process = start(asking(asked, checkpoints=str(folder), every=0.0), tmp_path / "killed.json")
    try:
        deadline = time.monotonic() + 100
        while (
            not (path := folder / "train.pt").exists() or torch.load(path, weights_only=True)["progress"]["step"] < 5
        ):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    saved = torch.load(folder / "train.pt", weights_only=True)["progress"]
    assert not saved["finished"]
    resumed = finished(asked, tmp_path / "resumed.json", checkpoints=str(folder))
    undisturbed = job.run(job.Job(asked))
    assert resumed.details["weights"] == undisturbed.details["weights"]
    assert resumed.values == {name: undisturbed.values[name] for name in resumed.values}


def test_two_processes_train_one_case(tmp_path, request):
    """Batch norm sees a share of each batch in each process, so the weights are not those of one."""
    if not request.config.getoption("--full"):
        pytest.skip("three processes: with --full; test_training has two of them")
    result = finished(case(epochs=1, devices=2), tmp_path / "reply.json")
    assert result.values["accuracy"] > 0.2
    assert result.path_built == "dense"
