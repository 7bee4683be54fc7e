"""The training loop: steps, validations, early stop, and checkpoints from which it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..recipe import Recipe
from ..task import Splits, StudyTask
from . import checkpoint
from .batches import epoch_batches, mixed, share_of
from .checkpoint import Progress
from .evaluate import evaluate
from .peak import peak_memory, reset_peak
from .schedule import learning_rate, optimizer, set_learning_rate

CHECKPOINT_EVERY = 20.0  # seconds: what a killed training loses at most

Row = Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """What a training is given besides the net and the recipe.

    seed: draws the order of the examples, augmentation and dropout; each: called with every row of the curve;
    checkpoint_every: seconds between two checkpoints, at least.
    """

    fabric: Fabric
    task: StudyTask
    splits: Splits
    seed: int
    each: Callable[[Row], None] = lambda row: None
    checkpoint_every: float = CHECKPOINT_EVERY


def fit(setting: Setting, net: nn.Module, recipe: Recipe, path: Path | None = None) -> Progress:
    """Train ``net`` in place by ``recipe``; the test part is never looked at.

    path: where to keep a checkpoint, and to go on from if there is one. The row of an epoch has ``epoch``, ``lr``,
    ``train_loss`` (mean over its examples, as they were met), ``seconds`` (of all steps so far, without validation),
    the peak memory, and ``val_…`` for each metric of the task and its loss. Raises FloatingPointError when the loss
    is no longer finite, on the validation part neither.
    """
    training = _Training(setting, net, recipe, path)
    progress = training.progress
    while not progress.finished:
        training.epoch()
    if recipe.keep == "best" and progress.best_state is not None:
        net.load_state_dict(progress.best_state)
    return progress


class _Training:
    """One training under way. net: the module itself; wrapped: as fabric runs it."""

    def __init__(self, setting: Setting, net: nn.Module, recipe: Recipe, path: Path | None) -> None:
        fabric = setting.fabric
        if fabric.world_size > 1 and fabric.device.type == "cuda":  # torch has none for CPUs
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        self.setting, self.recipe, self.path, self.net = setting, recipe, path, net
        self.optimizer = optimizer(net, recipe)
        self.wrapped: Any
        self.wrapped_optimizer: Any
        self.wrapped, self.wrapped_optimizer = fabric.setup(net, self.optimizer)
        self.progress = checkpoint.load(path, net, self.optimizer, fabric.strategy.precision) if path else Progress()
        self.epoch_loss = torch.tensor(self.progress.epoch_loss, dtype=torch.float64, device=fabric.device)
        self.saved = time.monotonic()

    def epoch(self) -> None:
        """The rest of the epoch that is under way, its validation, and its row."""
        progress, fabric = self.progress, self.setting.fabric
        number = len(progress.curve)
        count = len(self.setting.splits.train)  # type: ignore[arg-type]
        batches = epoch_batches(count, self.recipe.batch_size, self.setting.seed, number)
        steps = self.recipe.steps or self.recipe.epochs * len(batches)
        before = number * len(batches)
        batches = batches[: steps - before]  # a budget of steps may end within an epoch
        reset_peak(fabric.device)
        self.wrapped.train()
        for batch in batches[progress.step - before :]:
            self.step(batch, steps)
            if fabric.world_size == 1 and progress.step < before + len(batches):  # of several none saves by its clock
                self.save_if_due()
        row = {
            "epoch": number + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": self.mean_loss(sum(map(len, batches))),
            "seconds": progress.seconds,
            **peak_memory(fabric.device),
            **{f"val_{name}": value for name, value in self.validate().items()},
        }
        self._check_finite(row["val_loss"], "the loss on the validation part")
        self.close(row, steps)
        self.save_if_due()
        self.setting.each(row)

    def step(self, batch: Tensor, steps: int) -> None:
        """One step; its loss is added up on the device, so that nothing waits for it."""
        setting, fabric, progress = self.setting, self.setting.fabric, self.progress
        started = time.perf_counter()
        set_learning_rate(self.optimizer, learning_rate(self.recipe, progress.step, steps))
        own, weight = share_of(batch, fabric.global_rank, fabric.world_size)
        draw = mixed(setting.seed, progress.step, fabric.global_rank)
        torch.manual_seed(draw)  # dropout
        inputs, targets = setting.splits.train[own]
        inputs = setting.task.augment(inputs, torch.Generator().manual_seed(draw))
        outputs = self.wrapped(inputs.to(fabric.device))
        loss = setting.task.loss(outputs, targets.to(fabric.device)) * weight
        self.optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        self.wrapped_optimizer.step()
        self.epoch_loss += loss.detach().double() * (len(batch) / fabric.world_size)
        progress.step += 1
        progress.seconds += time.perf_counter() - started

    def mean_loss(self, count: int) -> float:
        """The mean over the ``count`` examples of the epoch, which ends here."""
        started = time.perf_counter()
        total: Any = self.setting.fabric.all_reduce(self.epoch_loss, reduce_op="sum")
        loss = float(total) / count
        self.progress.seconds += time.perf_counter() - started  # what the device had still to do
        self.epoch_loss.zero_()
        self._check_finite(loss)
        return loss

    def validate(self) -> dict[str, float]:
        setting = self.setting
        return evaluate(setting.fabric, self.net, setting.task, setting.splits.val, self.recipe.batch_size)

    def close(self, row: dict[str, float], steps: int) -> None:
        """Keep the row of an epoch, note whether it was the best so far, and whether it was the last."""
        progress, higher = self.progress, self.setting.task.higher
        progress.curve.append(row)
        score = row[f"val_{self.setting.task.monitor}"]
        if math.isnan(progress.best) or (score > progress.best if higher else score < progress.best):
            progress.best, progress.best_epoch = score, len(progress.curve)
            if self.recipe.keep == "best":
                progress.best_state = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        waited = len(progress.curve) - progress.best_epoch
        out_of_patience = bool(self.recipe.patience) and waited >= self.recipe.patience
        progress.finished = progress.step >= steps or out_of_patience

    def save_if_due(self) -> None:
        """Write a checkpoint if the last one is old, and at the end."""
        due = time.monotonic() - self.saved >= self.setting.checkpoint_every or self.progress.finished
        if self.path is None or not due or not self.setting.fabric.is_global_zero:
            return
        self.progress.epoch_loss = float(self.epoch_loss)
        self._check_finite(self.progress.epoch_loss)  # what has diverged is not gone on with
        precision = self.setting.fabric.strategy.precision
        checkpoint.save(self.path, self.net, self.optimizer, precision, self.progress)
        self.saved = time.monotonic()

    def _check_finite(self, loss: float, what: str = "the loss") -> None:
        if not math.isfinite(loss):
            rate, epoch = self.recipe.lr, len(self.progress.curve) + 1
            raise FloatingPointError(f"{what} is {loss} in epoch {epoch} at lr {rate:g}: lower the recipe's lr")
