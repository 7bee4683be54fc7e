"""The learning rate that suits a net, found on its validation part: each variant is compared at its own best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..recipe import Recipe
from .loop import Setting, fit


@dataclass(frozen=True)
class Tried:
    """How a learning rate did after the search's budget; score and loss on the validation part, NaN: it diverged."""

    lr: float
    score: float
    loss: float


def search(setting: Setting, build: Callable[[], nn.Module], recipe: Recipe, folder: Path | None) -> list[Tried]:
    """Train a fresh net at each of ``recipe.lr_search``; in the order given.

    A net that diverges is a learning rate that is out, not an error.
    """
    found = []
    for lr in recipe.lr_search:
        path = folder / f"search-{lr:g}.pt" if folder else None
        try:
            last = fit(setting, build(), recipe.shorter(lr), path).curve[-1]
        except FloatingPointError:
            found.append(Tried(lr, math.nan, math.nan))
        else:
            found.append(Tried(lr, last[f"val_{setting.task.monitor}"], last["val_loss"]))
    return found


def best(tried: Sequence[Tried], higher: bool) -> Tried:
    """The one with the best score; of equal ones the lower loss decides. FloatingPointError if all diverged."""
    sound = [t for t in tried if not math.isnan(t.score)]
    if not sound:
        rates = ", ".join(f"{t.lr:g}" for t in tried)
        raise FloatingPointError(f"the loss is not finite at any lr of the search ({rates}): search lower ones")
    return min(sound, key=lambda t: (-t.score if higher else t.score, t.loss))


def at_the_edge(chosen: Tried, tried: Sequence[Tried]) -> bool:
    """Whether the best is the lowest or the highest that was tried, so that a better one may lie beyond."""
    rates = [t.lr for t in tried]
    return chosen.lr in (min(rates), max(rates))
