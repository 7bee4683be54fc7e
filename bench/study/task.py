"""What a task of the accuracy study offers to training: data in three parts, a loss, metrics. Knows no training.

``catalog.DATA`` names the tasks without torch; ``tasks.create`` makes one; each family is a file in ``tasks/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import Dataset

Pairs = Dataset[tuple[Tensor, ...]]  # two: an input and its target


@dataclass(frozen=True)
class Splits:
    """Three disjoint map-style data sets of (input, target).

    Each has a length, and is indexed by a whole number, for one pair without a batch axis, or by a tensor of them,
    for a batch: float32 inputs and the targets that the task's loss takes, on the CPU.
    train: what is learned from; val: what choices are made by; test: what is reported, and nothing else looks at.
    resampled: a seed draws all three from one set of examples; else the test part is published, or made anew.
    """

    train: Pairs
    val: Pairs
    test: Pairs
    resampled: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            if len(getattr(self, part)) == 0:
                raise ValueError(f"the {part} part is empty: there are too few examples to split")


class StudyTask(Protocol):
    """One task: what is learned, how well it was learned, and which examples teach, choose and test.

    name: as in the catalog; shape: the axes of the subject that the data fix (in_channels, size, num_classes, …);
    monitor: the metric that choices are made by, on the validation part; higher: whether more of it is better.
    """

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Mapping[str, Any]: ...
    @property
    def monitor(self) -> str: ...
    @property
    def higher(self) -> bool: ...

    def splits(self, seed: int, root: Path | None) -> Splits:
        """The data, split by ``seed``, stratified where there are classes; a published test part stays the test part.

        Raises UsageError with the remedy where the data are absent from ``root`` or damaged.
        """
        ...

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A batch as training sees it: random crops and flips of images, or the batch itself where none are usual."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over a batch, a scalar, in float32 under autocast, too."""
        ...

    def metrics(self) -> torchmetrics.MetricCollection:
        """Fresh metrics, by their names in the catalog: update(outputs, targets) a batch, compute() once at the end.

        Each example counts once, however they were cut into batches or spread over processes.
        """
        ...

    def module_metrics(self, module: nn.Module) -> dict[str, float]:
        """Metrics that are read off the trained net itself, not off its outputs; empty for most tasks."""
        ...
