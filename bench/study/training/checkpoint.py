"""A training on disk: enough of it to go on, bit for bit, where a killed process left off."""

from __future__ import annotations

import math
import os
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

FORMAT = 1


@dataclass
class Progress:
    """How far a training has come; plain numbers and tensors.

    step: steps made; epoch_loss: sum of the losses of this epoch's examples so far; seconds: spent in steps; curve: a
    row for each finished epoch; best: the best validation so far, best_epoch and best_state where it was.
    """

    step: int = 0
    epoch_loss: float = 0.0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    best: float = math.nan
    best_epoch: int = 0
    best_state: dict[str, Tensor] | None = None
    finished: bool = False


_FIELDS = tuple(field.name for field in fields(Progress))


class Stateful(Protocol):
    """Whatever else has a state: a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def save(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, precision: Stateful, progress: Progress
) -> None:
    """Write it whole: whoever dies meanwhile leaves the one before."""
    state = {
        "format": FORMAT,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": precision.state_dict(),
        "progress": {name: getattr(progress, name) for name in _FIELDS},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, precision: Stateful) -> Progress:
    """Put what ``path`` holds into net, optimiser and precision; a new Progress where there is none.

    Nothing but tensors and plain values is unpickled. Raises ValueError for a file that is no such checkpoint.
    """
    if not path.exists():
        return Progress()
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise ValueError(f"it is of format {state['format']}, not {FORMAT}")
        progress = Progress(**state["progress"])
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        precision.load_state_dict(state["precision"])
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"checkpoint {path} is damaged ({what}): bench run --retry-failed trains anew") from None
    return progress
