"""The training loop: budgets, schedules, repeatability, resuming, early stop, several processes."""

import math
import re

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from small_task import Clouds, Plain, fitted, net_with_batch_norm, small_net

from bench.study.recipe import Recipe
from bench.study.training import checkpoint, loop
from bench.study.training.batches import epoch_batches, mixed, share_of
from bench.study.training.evaluate import evaluate
from bench.study.training.loop import Setting, fit
from bench.study.training.schedule import learning_rate, optimizer
from bench.study.training.search import at_the_edge, best, search


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def setting(task=None, seed=5, **options):
    task = task or Clouds()
    return Setting(Fabric(accelerator="cpu", devices=1), task, task.splits(0, None), seed, **options)


def same_weights(a, b):
    own, other = a.state_dict(), b.state_dict()
    return all(torch.equal(own[name], other[name]) for name in own)


# ------------------------------------------------------------------------------------------------- the recipe


def test_the_learning_rate_warms_up_peaks_and_falls_to_zero():
    recipe = Recipe(lr=0.4, warmup=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[9] == rates[10] == 0.4
    assert rates[55] == pytest.approx(0.2)
    assert rates[99] < 1e-3
    assert learning_rate(Recipe(lr=0.4, schedule="constant", warmup=0), 70, 100) == 0.4


def test_a_step_schedule_falls_at_its_milestones():
    recipe = Recipe(lr=1.0, schedule="step", milestones=(0.5, 0.75), gamma=0.1, warmup=0)
    rates = [round(learning_rate(recipe, step, 8), 6) for step in range(8)]
    assert rates == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 3, "steps": 9}, "epochs or steps"),
        ({"epochs": 0}, "epochs or steps"),
        ({"lr_search": [0.1]}, "at least two"),
        ({"lr_search": [0.1, 0.1]}, "at least two"),
        ({"milestones": [0.7, 0.5]}, "milestones rise"),
        ({"finetune_epochs": 3}, "start = 'project'"),
        ({"epoch": 3}, "Extra inputs"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(**keys)


def test_both_optimisers_have_the_recipe_s_decay_and_no_momentum_is_allowed():
    net = small_net()
    assert optimizer(net, Recipe(optimizer="adamw", weight_decay=0.3)).param_groups[0]["weight_decay"] == 0.3
    assert optimizer(net, Recipe(momentum=0)).param_groups[0]["nesterov"] is False


# ------------------------------------------------------------------------------------------------- the batches


def test_an_epoch_meets_every_example_once_in_an_order_of_its_own():
    first, second = (torch.cat(epoch_batches(100, 32, seed=1, epoch=e)) for e in (0, 1))
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(epoch_batches(100, 32, seed=1, epoch=0)))


def test_a_single_last_example_joins_the_batch_before_it():
    assert [len(b) for b in epoch_batches(65, 32, 0, 0)] == [32, 33]
    assert [len(b) for b in epoch_batches(1, 32, 0, 0)] == [1]


@pytest.mark.parametrize(("count", "world"), [(32, 2), (33, 2), (1, 2), (7, 3)])
def test_shares_of_a_batch_are_disjoint_and_their_weights_give_its_mean(count, world):
    batch = torch.arange(count)
    losses = torch.rand(count)
    shares = [share_of(batch, rank, world) for rank in range(world)]
    assert sum(weight * losses[own].mean() for own, weight in shares) / world == pytest.approx(losses.mean().item())


def test_seeds_that_are_mixed_do_not_collide():
    assert len({mixed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(2)}) == 500


# ------------------------------------------------------------------------------------------------- the loop


def test_training_learns_and_repeats_bit_for_bit():
    nets = [net_with_batch_norm() for _ in range(2)]
    curves = [fit(setting(), net, Recipe(epochs=5, batch_size=16, lr=0.1)).curve for net in nets]
    assert same_weights(*nets)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "peak_rss_bytes")} for row in c] for c in curves
    ]
    assert timeless[0] == timeless[1]
    assert timeless[0][-1]["train_loss"] < timeless[0][0]["train_loss"]
    assert timeless[0][-1]["val_accuracy"] > 0.8
    assert {"epoch", "lr", "val_loss"} < set(timeless[0][0])


def test_another_seed_orders_the_examples_differently():
    recipe = Recipe(epochs=1, batch_size=64, lr=0.05)
    losses = {fit(setting(seed=seed), small_net(dropout=0.0), recipe).curve[0]["train_loss"] for seed in (0, 1)}
    assert len(losses) == 2


def test_the_loss_of_the_curve_is_the_mean_over_the_epoch_s_examples():
    frozen = Recipe(epochs=1, batch_size=30, lr=1e-30, warmup=0)  # nothing moves
    task = Plain()
    net = small_net(dropout=0.0)
    x, y = task.splits(0, None).train.tensors
    expected = task.loss(net(x), y).item()
    assert fit(setting(task), net, frozen).curve[0]["train_loss"] == pytest.approx(expected, rel=1e-6)


def test_a_budget_of_steps_ends_within_an_epoch():
    progress = fit(setting(), small_net(), Recipe(steps=9, batch_size=16))  # 7 steps an epoch
    assert progress.step == 9
    assert len(progress.curve) == 2


def test_a_diverging_training_is_an_error_not_a_number():
    with pytest.raises(FloatingPointError, match=r"epoch \d at lr 1e\+18: lower the recipe's lr"):
        fit(setting(), small_net(), Recipe(epochs=3, lr=1e18, warmup=0.0))


def test_the_test_part_is_not_looked_at():
    class Closed:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise AssertionError("the test part was looked at")

    given = setting()
    object.__setattr__(given.splits, "test", Closed())
    fit(given, small_net(), Recipe(epochs=2, batch_size=32, keep="best", patience=1))


def test_training_stops_when_validation_no_longer_improves_and_the_best_weights_are_kept():
    recipe = Recipe(epochs=40, batch_size=16, lr=0.3, patience=3, keep="best")
    given, net = setting(Clouds(spread=2.5)), small_net()
    progress = fit(given, net, recipe)
    assert len(progress.curve) == progress.best_epoch + 3 < 40
    found = evaluate(given.fabric, net, given.task, given.splits.val, 16)
    assert found["accuracy"] == progress.best == max(row["val_accuracy"] for row in progress.curve)


def test_a_metric_that_is_better_when_lower_is_monitored_so():
    class Lower(Clouds):
        monitor, higher = "loss", False

    progress = fit(setting(Lower()), small_net(), Recipe(epochs=6, batch_size=16))
    losses = [row["val_loss"] for row in progress.curve]
    assert progress.best == min(losses)
    assert progress.best_epoch == losses.index(min(losses)) + 1


def test_evaluation_does_not_depend_on_how_the_examples_are_cut():
    given, net = setting(), net_with_batch_norm()
    whole = evaluate(given.fabric, net, given.task, given.splits.test, 60)
    cut = evaluate(given.fabric, net, given.task, given.splits.test, 7)
    assert whole["accuracy"] == cut["accuracy"]
    assert whole["loss"] == pytest.approx(cut["loss"], rel=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precisions_train(precision):
    task = Clouds()
    given = Setting(Fabric(accelerator="cpu", devices=1, precision=precision), task, task.splits(0, None), 0)
    curve = fit(given, small_net(), Recipe(epochs=4, batch_size=16)).curve
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]


# ------------------------------------------------------------------------------------------------- resuming


class Killed(BaseException):
    pass


def killed_at(step, monkeypatch):
    original = loop._Training.step

    def step_or_die(self, batch, steps):
        if self.progress.step == step:
            raise Killed
        original(self, batch, steps)

    monkeypatch.setattr(loop._Training, "step", step_or_die)


@pytest.mark.parametrize("recipe", [
    Recipe(epochs=4, batch_size=16),
    Recipe(epochs=4, batch_size=16, optimizer="adamw", lr=0.01, keep="best"),
    Recipe(steps=25, batch_size=16, schedule="step"),
])  # fmt: skip
@pytest.mark.parametrize("step", [3, 7, 15, 20])
def test_a_killed_training_that_is_resumed_ends_with_the_weights_of_an_undisturbed_one(
    recipe, step, tmp_path, monkeypatch
):
    undisturbed, path = net_with_batch_norm(), tmp_path / "train.pt"
    expected = fit(setting(), undisturbed, recipe)
    with monkeypatch.context() as patch:
        killed_at(step, patch)
        with pytest.raises(Killed):
            fit(setting(checkpoint_every=0.0), net_with_batch_norm(), recipe, path)
    assert path.exists()
    resumed = net_with_batch_norm(seed=99)  # what it starts with does not matter
    progress = fit(setting(checkpoint_every=0.0), resumed, recipe, path)
    assert same_weights(undisturbed, resumed)
    for name in ("epoch", "lr", "train_loss", "val_accuracy", "val_loss"):
        assert [row[name] for row in progress.curve] == [row[name] for row in expected.curve]
    assert progress.best_epoch == expected.best_epoch


def test_a_finished_training_is_not_repeated(tmp_path, monkeypatch):
    recipe, path = Recipe(epochs=2, batch_size=32), tmp_path / "train.pt"
    first, again = small_net(), small_net(seed=3)
    fit(setting(), first, recipe, path)
    killed_at(-1, monkeypatch)
    monkeypatch.setattr(loop._Training, "step", lambda *a: pytest.fail("it was trained again"))
    progress = fit(setting(), again, recipe, path)
    assert same_weights(first, again)
    assert len(progress.curve) == 2


def test_a_checkpoint_holds_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "train.pt"
    torch.save({"format": 1, "net": Evil()}, path)
    with pytest.raises(ValueError, match=r"train\.pt is damaged .*--retry-failed") as error:
        fit(setting(), small_net(), Recipe(epochs=1), path)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "train.pt"
    fit(setting(), small_net(), Recipe(epochs=1), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        fit(setting(), small_net(), Recipe(epochs=1), path)
    fit(setting(), small_net(), Recipe(epochs=1), tmp_path / "other.pt")
    wider = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match="damaged"):
        fit(setting(), wider, Recipe(epochs=1), tmp_path / "other.pt")


def test_a_diverged_state_is_never_saved(tmp_path):
    path = tmp_path / "train.pt"
    with pytest.raises(FloatingPointError):
        fit(setting(checkpoint_every=0.0), small_net(), Recipe(epochs=3, lr=1e18, warmup=0.0), path)
    if path.exists():
        saved = torch.load(path, weights_only=True)
        assert math.isfinite(saved["progress"]["epoch_loss"])
    assert checkpoint.Progress().best != checkpoint.Progress().best  # NaN until there is one


# ------------------------------------------------------------------------------------------------- the search


def test_the_search_takes_the_learning_rate_that_does_best_in_validation_and_sets_diverging_ones_aside():
    given = setting(Clouds(spread=0.3))
    recipe = Recipe(epochs=6, batch_size=16, lr_search=(1e-6, 0.1, 1e19), search_share=0.5)
    tried = search(given, small_net, recipe, None)
    assert [t.lr for t in tried] == [1e-6, 0.1, 1e19]
    assert math.isnan(tried[2].score)
    chosen = best(tried, higher=True)
    assert chosen.lr == 0.1
    assert not at_the_edge(chosen, tried)
    assert recipe.shorter(0.1).epochs == 3


def test_equal_scores_are_decided_by_the_loss_and_all_diverging_is_an_error():
    from bench.study.training.search import Tried

    tried = [Tried(0.1, 0.9, 0.5), Tried(0.2, 0.9, 0.4), Tried(0.3, 0.8, 0.1)]
    assert best(tried, higher=True).lr == 0.2
    assert best(tried, higher=False).lr == 0.3
    assert at_the_edge(best(tried, higher=False), tried)
    with pytest.raises(FloatingPointError, match=re.escape("(0.1, 0.2): search lower ones")):
        best([Tried(0.1, math.nan, math.nan), Tried(0.2, math.nan, math.nan)], higher=True)


# --------------------------------------------------------------------------------------------- several processes


def test_two_processes_give_the_result_of_one():
    recipe = Recipe(epochs=3, batch_size=33, lr=0.05)  # shares of unequal size, a last batch of one
    task = Plain(count=100)
    alone = Fabric(accelerator="cpu", devices=1).launch(fitted, task, recipe, 5)
    together = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(fitted, task, recipe, 5)
    for name, value in alone[0].items():
        np.testing.assert_allclose(together[0][name], value, rtol=1e-4, atol=1e-6)
    for one, two in zip(alone[1], together[1], strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=1 / 60 + 1e-9)
    assert together[2]["accuracy"] == pytest.approx(alone[2]["accuracy"], abs=1 / 60 + 1e-9)
