"""Following trainings from outside: one callback, for TensorBoard, Weights & Biases, or whatever a user names.

A tracker is made as ``make(name, config, folder)`` and called with every row of a curve and with the final values. It
sees numbers, and changes none.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ...errors import UsageError
from ...plan.case import Case

_NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb"}


class Tracker(Protocol):
    """The callback. stage: ``train`` or ``finetune``; row: see loop.fit; values: the metrics on the test part."""

    def epoch(self, stage: str, row: Mapping[str, float]) -> None: ...
    def end(self, values: Mapping[str, float]) -> None: ...


class _None:
    def epoch(self, stage: str, row: Mapping[str, float]) -> None:
        pass

    def end(self, values: Mapping[str, float]) -> None:
        pass


NONE: Tracker = _None()


class TensorBoard:
    """Event files in ``folder/name``, to be shown by ``tensorboard --logdir folder``."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / name.replace("/", "_")))
        self.writer.add_text("case", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def epoch(self, stage: str, row: Mapping[str, float]) -> None:
        for key, value in row.items():
            if key != "epoch":
                self.writer.add_scalar(f"{stage}/{key}", value, int(row["epoch"]))

    def end(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"test/{key}", value)
        self.writer.close()


class WeightsAndBiases:
    """A run of the project phnn-bench; account, server and offline mode are wandb's own settings (WANDB_MODE, …)."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(project="phnn-bench", name=name, config=dict(config), dir=str(folder))

    def epoch(self, stage: str, row: Mapping[str, float]) -> None:
        self.run.log({f"{stage}/{key}": value for key, value in row.items()})

    def end(self, values: Mapping[str, float]) -> None:
        self.run.summary.update({f"test/{key}": value for key, value in values.items()})
        self.run.finish()


_OWN = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check(track: str) -> None:
    """Make sure that a tracker can be had, before anything is trained; a UsageError names the remedy."""
    if track in _NEEDS and importlib.util.find_spec(_NEEDS[track]) is None:
        raise UsageError(f"--track {track}: {_NEEDS[track]} is not installed: pip install 'phnn-bench[track]'")
    _maker(track)


def find(track: str, case: Case, folder: Path) -> Tracker:
    """The tracker of one training; ``track`` is tensorboard, wandb or module:callable."""
    found: Tracker = _maker(track)(f"{case.name}-{case.id}", case.factors, folder)
    return found


def _maker(track: str) -> Any:
    if track in _OWN:
        return _OWN[track]
    module, colon, name = track.partition(":")
    if not colon:
        raise UsageError(f"--track {track!r} is none of {', '.join(_OWN)}, and not of the form module:callable")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--track {track}: {error}") from None
