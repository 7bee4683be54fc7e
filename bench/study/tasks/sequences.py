"""Sequences in classes, for recurrent and attention models: rows of the digits, and symbols whose order matters.

``digits-rows`` shows a digit as 8 steps of 8 pixels. ``temporal-order``: among symbols that mean nothing, two steps,
one early and one late, show X or Y each; the class is which came first and which second. All four classes are equally
frequent. ``temporal-order-grid`` is the same as an image whose pixels, row by row, are the steps: what a vision
transformer of patch 1 reads as a sequence. Source: Hochreiter and Schmidhuber, *Long short-term memory*, 1997, 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf
from torch.utils.data import TensorDataset

from ..task import Splits, StudyTask
from ._classes import Classification, stratified
from .images import digits

_TEST, _VAL = 0.2, 0.2  # of the digits; of what is not tested
_COUNTS = (2048, 512, 1024)  # train, val, test
_LENGTH, _SYMBOLS = 36, 8  # start, end, X, Y and four that mean nothing
_START, _END, _X = 0, 1, 2
_FIRST, _SECOND = (4, 8), (18, 22)  # where the symbols that matter may stand: 10 to 20 %, 50 to 60 %


def create(name: str, axes: Mapping[str, Any]) -> StudyTask:
    return Sequences(name)


def check(name: str, root: Path | None, download: bool) -> None:
    """Nothing to check: the data are bundled or drawn by the seed."""


class Sequences(Classification):
    """Sequences (length, in_channels), or (in_channels, size, size) for vision transformers, in classes."""

    def splits(self, seed: int, root: Path | None) -> Splits:
        if self.name == "digits-rows":
            return _digit_rows(seed, self.name)
        generator = torch.Generator().manual_seed(seed)
        return Splits(*(TensorDataset(*self._drawn(count, generator)) for count in _COUNTS))

    def _drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = temporal_order(count, generator)
        if self.name.endswith("-grid"):
            size = self.shape["size"]
            x = x.transpose(1, 2).reshape(count, -1, size, size)
        return x, y


def temporal_order(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of symbols, one-hot (count, 36, 8), and 2 first + second, with 0 for X and 1 for Y."""
    symbols = torch.randint(_X + 2, _SYMBOLS, (count, _LENGTH), generator=generator)
    symbols[:, 0], symbols[:, -1] = _START, _END
    labels = torch.randperm(count, generator=generator) % 4
    numbers = torch.arange(count)
    for (low, high), which in ((_FIRST, labels // 2), (_SECOND, labels % 2)):
        symbols[numbers, torch.randint(low, high, (count,), generator=generator)] = _X + which
    return nnf.one_hot(symbols, _SYMBOLS).float(), labels


def _digit_rows(seed: int, name: str) -> Splits:
    pixels, labels = digits()
    rest, test = stratified(labels, _TEST, seed, name)
    within, val = stratified(labels[rest], _VAL, seed, name)
    x = torch.from_numpy(pixels[:, 0].astype(np.float32))
    y = torch.from_numpy(labels)
    train = rest[within]
    x = (x - x[train].mean()) / x[train].std()
    return Splits(*(TensorDataset(x[part], y[part]) for part in (train, rest[val], test)), resampled=True)
