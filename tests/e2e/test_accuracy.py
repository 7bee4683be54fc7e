"""A small accuracy study through the command line: trainings, costs, tables, curves and fronts."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]

SWEEP = """
schema = 1
name = "small"
title = "a test"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params", "train_loss", "train_time"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = 4
widths = "12-12-12"
data = "digits"
seed = [0, 1, 2, 3]
[cases.recipe]
epochs = 20
[cases.quick]
axes = { seed = [0, 1] }
recipe = { epochs = 2, batch_size = 64 }
[[cases]]
subject = "resnet8"
metrics = ["macs", "latency"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = 4
widths = "12-12-12"
in_channels = 1
size = 8
num_classes = 10
batch = 16
[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params"]
[cases.axes]
algebra = "real"
widths = "12-12-12"
data = "digits"
[cases.recipe]
epochs = 1
lr = 1e30
warmup = 0.0
"""


def bench(*args, **options):
    return subprocess.run([sys.executable, "-m", "bench", *args], capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    (folder / "small.toml").write_text(SWEEP)
    (folder / "mine.py").write_text(
        "class Own:\n"
        "    def __init__(self, name, config, folder):\n"
        "        folder.mkdir(parents=True, exist_ok=True)\n"
        "        self.file = (folder / name.replace('/', '_')).open('w')\n"
        "    def epoch(self, stage, row):\n"
        "        print(stage, row['epoch'], file=self.file, flush=True)\n"
        "    def end(self, values):\n"
        "        print(values['accuracy'], file=self.file, flush=True)\n"
    )
    import os

    paths = os.pathsep.join([str(folder), str(ROOT)])
    done = bench(
        "run", str(folder / "small.toml"), "--out", str(folder / "run"), "--quick", "--track", "mine:Own",
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr  # one training diverges, on purpose
    return folder / "run"


def test_the_quick_form_trains_the_seeds_and_epochs_that_it_names(ran):
    df = pd.read_parquet(ran / "table.parquet")
    accuracy = df[(df["metric"] == "accuracy") & (df["status"] == "ok")]
    assert accuracy.groupby("variant")["seed"].nunique().to_dict() == {
        "real": 2,
        "ph n=4": 2,
        "slim real (ph n=4)": 2,
    }
    assert {json.loads(recipe)["epochs"] for recipe in accuracy["recipe"]} == {2}
    assert accuracy["value"].astype(float).between(0.2, 1).all()


def test_a_training_that_diverges_is_a_row_with_the_reason(ran):
    df = pd.read_parquet(ran / "table.parquet")
    (reason,) = set(df[df["status"] == "error"]["reason"])
    assert "the loss is" in reason
    assert "lower the recipe's lr" in reason
    assert "lower the recipe's lr" in (ran / "summary.md").read_text()


def test_curves_and_fronts_are_written(ran):
    curves = pd.read_csv(ran / "curves.csv")
    assert curves.groupby("case_id")["epoch"].max().eq(2).all()
    assert curves["case_id"].nunique() == 6
    fronts = pd.read_csv(ran / "pareto.csv")
    assert set(fronts["cost"]) == {"params", "macs", "latency"}
    assert fronts.groupby("cost")["variant"].nunique().eq(3).all()
    assert (ran / "figures" / "pareto_fronts.pdf").exists()


def test_the_comparison_names_the_controls_and_the_test(ran):
    text = (ran / "summary.md").read_text()
    assert "- real (points)" in text
    assert "- slim real (points)" in text
    assert "Nadeau and Bengio 2003" in text


def test_a_tracker_of_one_s_own_has_followed_every_training(ran):
    files = list((ran / "tracks").iterdir())
    assert len(files) == 7
    ended = [path.read_text().splitlines() for path in files]
    whole = [lines for lines in ended if len(lines) == 3]
    assert len(whole) == 6
    assert all(lines[:2] == ["train 1", "train 2"] for lines in whole)


def test_nothing_is_left_of_finished_trainings(ran):
    assert not list((ran / "checkpoints").glob("*"))
