"""What holds for every task of the accuracy study that needs no download."""

import json

import pytest
import torch

from bench.errors import UsageError
from bench.metrics import METRICS
from bench.plan import expansion
from bench.plan import sweep as sweeps
from bench.plan.case import Case
from bench.study import tasks
from bench.study.catalog import DATA, misfit
from bench.study.task import Splits
from bench.study.tasks import sound_events
from bench.task.subject import build
from phnn.registry import find

BUNDLED = [name for name, info in DATA.items() if info.bundled and name != "sounds-room"]
SUBJECTS = {
    "digits": ("resnet8", {"widths": "4-8-8"}),
    "sounds": ("seldnet", {"width_scale": 0.0625}),
    "sounds-phase": ("seldnet", {"width_scale": 0.0625}),
    "hamilton": ("linear", {}),
    "hamilton-conv": ("conv2d", {}),
    "toy-line": ("mlp", {"widths": "8"}),
    "toy-square": ("mlp", {"widths": "8"}),
    "digits-rows": ("gru_classifier", {"hidden": 8}),
    "temporal-order": ("gru_classifier", {"hidden": 8}),
    "temporal-order-grid": ("vit_small", {"patch": 1, "dim": 16, "depth": 1, "heads": 2}),
}


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch):
    monkeypatch.setattr(sound_events, "_MADE", {"train": 6, "val": 3, "test": 4})


@pytest.fixture(params=BUNDLED)
def name(request):
    return request.param


def parts(splits: Splits):
    return {part: getattr(splits, part) for part in ("train", "val", "test")}


def whole(part):
    return part[torch.arange(len(part))]


def test_the_parts_share_no_example_and_no_seed_shares_a_split(name):
    task = tasks.create(name)
    seen = []
    for splits in (task.splits(0, None), task.splits(1, None)):
        keys = {part: {x.numpy().tobytes() for x in whole(data)[0]} for part, data in parts(splits).items()}
        if not name.startswith("temporal-order"):  # few symbols: the same sequence may be drawn twice
            assert not keys["train"] & keys["test"]
            assert not keys["train"] & keys["val"]
            assert not keys["val"] & keys["test"]
        seen.append(keys)
    assert seen[0]["test"] != seen[1]["test"]


def test_a_seed_gives_the_same_examples_again(name):
    first, second = (tasks.create(name).splits(7, None) for _ in range(2))
    for part, data in parts(first).items():
        for a, b in zip(whole(data), whole(parts(second)[part]), strict=True):
            assert torch.equal(a, b)


def test_one_example_is_a_row_of_its_batch(name):
    train = tasks.create(name).splits(0, None).train
    inputs, targets = train[torch.tensor([2, 0])]
    x, y = train[0]
    assert torch.equal(inputs[1], x)
    assert torch.equal(targets[1], y)
    assert x.dtype == torch.float32


def test_a_subject_of_the_shape_that_the_data_decide_learns_from_the_loss(name):
    task = tasks.create(name)
    subject, axes = SUBJECTS[name]
    assert misfit(name, subject, DATA[name].kind, find(subject).shape, DATA[name].metrics) is None
    shape = {**find(subject).shape, **axes, **task.shape, "batch": 3}
    case = Case(subject, DATA[name].kind, "ph", 4, tuple(sorted(shape.items())), phase="none")
    inputs, targets = task.splits(0, None).train[torch.arange(3)]
    assert inputs.shape == find(subject).input_shape(shape)
    module = build(case, "cpu").module
    inputs = task.augment(inputs, torch.Generator().manual_seed(0))
    loss = task.loss(module(inputs), targets)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in module.parameters())


def test_the_metrics_are_those_of_the_catalog_and_do_not_depend_on_the_batches(name):
    task = tasks.create(name)
    _, targets = whole(task.splits(0, None).test)
    torch.manual_seed(0)
    if "num_classes" in task.shape and DATA[name].metrics == ("accuracy",):
        outputs = torch.randn(len(targets), task.shape["num_classes"])
    else:
        outputs = torch.rand_like(targets)
    values = []
    for cut in (len(targets), 3):
        metrics = task.metrics()
        for pair in zip(outputs.split(cut), targets.split(cut), strict=True):
            metrics.update(*pair)
        values.append({key: float(value) for key, value in metrics.compute().items()})
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    measured = {*values[0], *({"rule_distance"} if name.startswith("hamilton") else ())}
    assert measured == set(DATA[name].metrics)
    assert all(METRICS[metric].task == "training" for metric in measured)
    assert task.monitor == DATA[name].metrics[0]
    assert task.higher == (METRICS[task.monitor].better == "higher")


def test_a_task_under_autocast_has_its_loss_in_full_precision(name):
    task = tasks.create(name)
    _, targets = task.splits(0, None).train[torch.arange(2)]
    shape = (2, task.shape["num_classes"]) if targets.dim() == 1 else targets.shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task.loss(torch.full(shape, 0.5, dtype=torch.bfloat16), targets).dtype == torch.float32


def test_a_subject_that_the_data_do_not_fit_is_refused_with_the_axis():
    assert misfit("sounds", "resnet20", "model", find("resnet20").shape, ["sed_score"]) == (
        "'resnet20' has no axis bins, which data 'sounds' decide"
    )
    assert "'linear' is a layer" in str(misfit("digits", "linear", "layer", find("linear").shape, ["accuracy"]))
    assert "no metric 'accuracy'" in str(misfit("sounds", "seldnet", "model", find("seldnet").shape, ["accuracy"]))


def test_an_empty_part_is_refused():
    data = torch.utils.data.TensorDataset(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="val part is empty"):
        Splits(data, torch.utils.data.TensorDataset(torch.zeros(0, 1), torch.zeros(0)), data)


@pytest.mark.parametrize("name", [name for name, info in DATA.items() if not info.bundled])
def test_data_that_are_not_bundled_need_a_folder_and_say_so_in_a_line(name, tmp_path):
    with pytest.raises(UsageError, match=f"'{name}' is not bundled: name .*--data-root"):
        tasks.check(name, None, download=False)
    with pytest.raises(UsageError, match=f"'{name}' is not bundled"):
        tasks.create(name, {"size": 8, "num_classes": 2}).splits(0, None)
    with pytest.raises(UsageError, match=str(tmp_path)) as error:
        tasks.check(name, tmp_path, download=False)
    assert "\n" not in str(error.value)


def test_a_sweep_can_name_every_task(tmp_path):
    """Each of the tasks with its subject expands to cases of the shape that the data decide, none skipped."""
    text = 'schema = 1\nname = "all"\ntitle = "all tasks"\n'
    for name, (subject, axes) in SUBJECTS.items():
        values = {**axes, "data": name, "algebra": ["real", "ph"], "n": 4}
        written = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        metrics = json.dumps([*DATA[name].metrics, "params", "train_loss"])
        text += f'[[cases]]\nsubject = "{subject}"\nmetrics = {metrics}\n[cases.axes]\n{written}\n'
    file = tmp_path / "all.toml"
    file.write_text(text)
    planned = expansion.expand(sweeps.load(file))
    assert {p.case.data for p in planned} == set(SUBJECTS)
    assert len(planned) == 2 * len(SUBJECTS)
    for p in planned:
        assert p.skipped is None
        assert p.case.axes == {**p.case.axes, **DATA[p.case.data].shape}
