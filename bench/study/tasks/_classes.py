"""What all tasks with classes share: stratified splitting, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as nnf
from torchmetrics.classification import MulticlassAccuracy

from ...errors import UsageError
from ..catalog import DATA

Indices = NDArray[np.int64]


class Classification:
    """Classes told apart: the part of a task that does not depend on what the inputs are.

    outputs: (batch, num_classes), scores; targets: (batch,), the classes from 0.
    """

    monitor = "accuracy"
    higher = True

    def __init__(self, name: str, axes: Mapping[str, Any] | None = None) -> None:
        fixed = DATA[name].shape
        chosen = {key: value for key, value in (axes or {}).items() if key in ("size", "num_classes")}
        self.name = name
        self.shape: dict[str, Any] = {**chosen, **fixed}

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nnf.cross_entropy(outputs.float(), targets)

    def metrics(self) -> torchmetrics.MetricCollection:
        accuracy = MulticlassAccuracy(self.shape["num_classes"], average="micro")
        return torchmetrics.MetricCollection({"accuracy": accuracy})

    def module_metrics(self, module: nn.Module) -> dict[str, float]:
        return {}


def stratified(labels: NDArray[Any], share: float, seed: int, name: str) -> tuple[Indices, Indices]:
    """The numbers of the examples in two parts, the second with ``share`` of each class, drawn by ``seed``.

    Raises UsageError where a class has too few examples to be in both.
    """
    from sklearn.model_selection import train_test_split

    try:
        rest, part = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
    except ValueError as error:
        raise UsageError(
            f"data {name!r} cannot be split: {error}; every class needs enough examples for both parts"
        ) from None
    return rest, part
