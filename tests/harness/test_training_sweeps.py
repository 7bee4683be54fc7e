"""Trainings in sweeps: quick forms, recipes as part of a case, conversions, and what a run keeps meanwhile."""

import json
from pathlib import Path

import pytest
from engines import Instant

from bench.cli.options import planned_of
from bench.errors import UsageError
from bench.plan import expansion, sweep
from bench.plan.case import Case
from bench.report import curves
from bench.schedule import run
from bench.schedule.resume import Place, Policy
from bench.store.folder import Store, read_plan, read_tasks
from bench.study import checkpoints
from bench.table import frames
from bench.table.records import derive
from bench.task.protocol import Reply, Result

TRAINED = """
schema = 1
name = "trained"
title = "a test"
[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params", "train_loss"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = [2, 4]
data = "digits"
seed = [0, 1, 2]
[cases.recipe]
epochs = 30
lr_search = [0.1, 0.3]
[cases.quick]
axes = { n = 4, seed = [0] }
recipe = { epochs = 3 }
[[cases]]
subject = "resnet8"
metrics = ["params"]
[cases.axes]
algebra = "real"
[cases.quick]
skip = true
"""


@pytest.fixture
def written(tmp_path):
    def write(text=TRAINED, old="", new=""):
        assert old in text
        path = tmp_path / "sweep.toml"
        path.write_text(text.replace(old, new) if old else text)
        return path

    return write


def test_the_quick_form_has_its_own_name_axes_and_recipe(written):
    loaded = sweep.load(written())
    assert len(expansion.expand(loaded)) == 3 * (1 + 2 * 2) + 1
    quick = loaded.quick
    assert quick.name == "trained-quick"
    planned = expansion.expand(quick)
    assert len(planned) == 1 + 2
    assert {(p.case.n, p.case.seed) for p in planned if p.case.algebra == "ph"} == {(4, 0)}
    recipe = dict(planned[0].case.recipe)
    assert (recipe["epochs"], recipe["lr_search"]) == (3, (0.1, 0.3)), "the rest of the recipe is the sweep's"


def test_a_quick_budget_replaces_the_other_kind_of_budget(written):
    loaded = sweep.load(written(old="recipe = { epochs = 3 }", new="recipe = { steps = 50 }"))
    recipe = dict(expansion.expand(loaded.quick)[0].case.recipe)
    assert (recipe["epochs"], recipe["steps"]) == (0, 50)


def test_a_sweep_without_a_quick_form_says_so(tiny):
    with pytest.raises(UsageError, match=r"'tiny' has no quick form.*\[cases.quick\]"):
        _ = sweep.load(tiny).quick


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("recipe = { epochs = 3 }", "recipe = { epoch = 3 }", r"quick.recipe: epoch: .*is no key.*epochs"),
        ("recipe = { epochs = 3 }", "recipe = { lr = -1 }", "quick.recipe: lr: .*greater than 0"),
        ("skip = true", "skips = true", "quick.skips: is no key of a sweep.*skip"),
        ("lr_search = [0.1, 0.3]", "lr_search = [0.1]", "recipe: lr_search lists at least two"),
        ("epochs = 30", "steps = 30\nepochs = 30", "recipe: the budget is epochs or steps"),
        ("epochs = 30", "epochs = 30\nstart = 'project'", "controls: a converted net has no slim control"),
        ('"train_loss"', '"accuracy_before"', "'accuracy_before' is of a conversion"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_one_line_that_names_it(written, old, new, message):
    path = written(old=old, new=new)
    with pytest.raises(UsageError, match=message) as error:
        expansion.expand(sweep.load(path))
    assert "\n" not in str(error.value)


def test_a_case_that_crossed_to_a_worker_can_be_hashed_and_is_the_same(written):
    case = expansion.expand(sweep.load(written()))[0].case
    back = Case.from_factors(json.loads(json.dumps(case.factors)))
    assert back == case
    assert hash(back) == hash(case)
    assert back.id == case.id


# ------------------------------------------------------------------------------------------------------- runs


class Quiet:
    def start(self, total, done, seconds): ...
    def begin(self, task, attempt, hardware): ...
    def again(self, task, reason): ...
    def end(self, task, line, seconds): ...


CURVE = [{"epoch": 1, "train_loss": 0.5, "val_accuracy": 0.6, "seconds": 1.0}]


def go(path, folder, status="ok", seen=None, env_id="cpu-x", **policy):
    """A run whose trainings leave a checkpoint behind; seen: what each was told of where to keep it."""

    def answer(order):
        request = order.request
        if request.kind == "training":
            kept = Path(request.training.checkpoints)
            seen.append((kept, request.training.track, kept.exists()))
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "train.pt").write_bytes(b"weights")
        return Reply(
            results=[
                Result(case_id=case.id, status=status, reason="" if status == "ok" else "why",
                       values=dict.fromkeys(request.metrics, 0.5), details={"curve": CURVE})
                for case in request.case_list()
            ]
        )  # fmt: skip

    loaded = sweep.load(path)
    options = run.Options(places=(Place(env_id=env_id),), policy=Policy(**policy), track="tensorboard")
    with Store(folder) as store:
        return run.run(loaded, expansion.expand(loaded), store, Quiet(), Instant(answer), options)


def kept_in(folder):
    return sorted((folder / "checkpoints").glob("*/*/*.pt"))


def test_checkpoints_go_when_a_training_has_ended_and_stay_when_it_was_cut_off(written, tmp_path):
    seen = []
    go(written(), tmp_path / "run", "timeout", seen)
    assert len(kept_in(tmp_path / "run")) == len(seen) == 15
    assert {track for _, track, _ in seen} == {"tensorboard"}
    again = []
    go(written(), tmp_path / "run", "ok", again, retry_failed=True)
    assert {folder for folder, _, _ in again} == {folder for folder, _, _ in seen}
    assert all(there for _, _, there in again), "it goes on with the same checkpoints"
    assert kept_in(tmp_path / "run") == []


def test_what_is_trained_afresh_goes_on_from_no_checkpoint(written, tmp_path):
    go(written(), tmp_path / "run", "timeout", [])
    again = []
    go(written(), tmp_path / "run", "ok", again, fresh=True)
    assert len(again) == 15
    assert not any(there for _, _, there in again)


def test_two_machines_in_one_folder_keep_their_checkpoints_apart(written, tmp_path):
    seen = {env_id: [] for env_id in ("cpu-x", "cpu-y")}
    for env_id, told in seen.items():
        go(written(), tmp_path / "run", "timeout", told, env_id)
    assert not {f for f, _, _ in seen["cpu-x"]} & {f for f, _, _ in seen["cpu-y"]}


def test_a_training_of_several_processes_has_the_machine_to_itself(written, tmp_path):
    path = written(old="epochs = 30", new="epochs = 30\ndevices = 2")
    loaded = sweep.load(path)
    engine = Instant()
    with Store(tmp_path / "run") as store:
        options = run.Options(places=(Place(env_id="cpu-x"),))
        run.run(loaded, expansion.expand(loaded), store, Quiet(), engine, options)
    assert engine.most == 1


def test_a_quick_run_is_known_as_one_from_its_sweep_file(written):
    loaded = sweep.load(written(old="schema = 1", new='schema = 1\nform = "quick"'))
    assert loaded.quick.name == "trained-quick"
    path = written(old="schema = 1", new='schema = 1\nform = "quick"')
    found, planned = planned_of(path, None, None)
    assert (found.name, len(planned)) == ("trained-quick", 1 + 2)


def test_checkpoints_of_another_revision_are_other_ones_and_go_with_the_task(tmp_path):
    folders = [checkpoints.folder_of(tmp_path, "task", rev, "here") for rev in ("a", "b")]
    other = checkpoints.folder_of(tmp_path, "another", "a", "here")
    for folder in (*folders, other):
        folder.mkdir(parents=True)
    checkpoints.discard(tmp_path, "task", "here")
    assert [folder.exists() for folder in (*folders, other)] == [False, False, True]


def test_a_curve_is_in_one_row_of_its_case_alone(written, tmp_path):
    go(written(), tmp_path, "ok", [])
    records = derive(read_plan(tmp_path), read_tasks(tmp_path))
    holding = [r for r in records if r["data"] != "none" and "curve" in json.loads(r["details"])]
    assert len(holding) == len({r["case_id"] for r in records if r["data"] != "none"}) == 15
    df = curves.frame(frames.of_records(records))
    assert len(df) == 15 * 3
