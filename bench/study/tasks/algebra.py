"""Algebra recovery: does a layer with a learned rule find the algebra that made its data?

``hamilton``: y = W x with W = sum_i T_i (x) F_i, T the rule of the quaternions and F drawn by the seed;
``hamilton-conv``: a convolution, likewise. The layer knows neither T nor F. In the tutorials that these follow F is
given and the rule alone is learned; here both are, up to the freedom (A, F) → (M A, M⁻ᵀ F) that changes no weight, so
that what is compared is the span of the rule's matrices (``rule_distance``).

``toy-line`` and ``toy-square`` are the tutorials' regressions, one number shown in four features. Source: Zhang et
al., *Beyond fully-connected layers with quaternions*, 2021; the tutorials of Grassucci et al. 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.utils.data import TensorDataset

from phnn.algebras import algebra
from phnn.functional import ph_weight
from phnn.layers._base import RuleHolder

from ..catalog import DATA
from ..task import Splits, StudyTask

_COUNTS = {"hamilton": (2048, 256, 256), "hamilton-conv": (512, 64, 64)}  # train, val, test
_TOY_COUNTS = (1600, 200, 200)
_TOY_NOISE = 0.2  # of toy-square, uniform from 0, as in the tutorial


def create(name: str, axes: Mapping[str, Any]) -> StudyTask:
    return Recovery(name)


def check(name: str, root: Path | None, download: bool) -> None:
    """Nothing to check: the data are drawn by the seed."""


class Recovery:
    """A regression; outputs and targets have one shape."""

    monitor = "mse"
    higher = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.shape = DATA[name].shape

    def splits(self, seed: int, root: Path | None) -> Splits:
        generator = torch.Generator().manual_seed(seed)
        if self.name.startswith("toy-"):
            return _parts(*_toy(self.name, generator), _TOY_COUNTS)
        return _parts(*_hamilton(self.shape, sum(_COUNTS[self.name]), generator), _COUNTS[self.name])

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nnf.mse_loss(outputs.float(), targets)

    def metrics(self) -> torchmetrics.MetricCollection:
        return torchmetrics.MetricCollection({"mse": torchmetrics.MeanSquaredError()})

    def module_metrics(self, module: nn.Module) -> dict[str, float]:
        """``rule_distance`` of a net with one rule of four dimensions; of others there is none to measure."""
        if self.name not in _COUNTS:
            return {}
        rules = [A for layer in module.modules() if isinstance(layer, RuleHolder) for A, _ in layer.factors()]
        if len(rules) != 1 or len(rules[0]) != algebra("quaternion").n:
            return {}
        return {"rule_distance": rule_distance(rules[0], torch.tensor(algebra("quaternion").rule))}


def rule_distance(A: Tensor, truth: Tensor) -> float:
    """How far a rule (n, n, n) is from another one, whatever basis each is written in: from 0 to 1.

    Which weights sum_i A_i (x) F_i a layer can have depends on the A_i only through the space that they span among
    the n×n matrices: with any invertible M, (M A, M⁻ᵀ F) is the same layer. The distance is that of the two spaces,
    the sine of the largest of their principal angles: ||P - Q|| in the spectral norm, P and Q the orthogonal
    projections on them. 1 where the rule spans a smaller space.
    """
    ours, theirs = (_basis(rule) for rule in (A, truth))
    if ours.shape != theirs.shape:
        return 1.0
    # the part of our basis outside their space: unlike a cosine it keeps its digits where the angle is small
    return float(torch.linalg.matrix_norm(ours - theirs @ (theirs.T @ ours), 2).clamp(max=1))


def _basis(rule: Tensor) -> Tensor:
    """Orthonormal columns that span the matrices of a rule, (n², dimension)."""
    matrices = rule.detach().double().cpu().flatten(1).T
    U, S, _ = torch.linalg.svd(matrices, full_matrices=False)
    return U[:, S.max() * 1e-9 < S]


# --------------------------------------------------------------------------------------------------------- data


def _hamilton(shape: Mapping[str, Any], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs, standard normal, and their images under a quaternion layer; both of variance 1."""
    rule = torch.tensor(algebra("quaternion").rule, dtype=torch.float32)
    n = len(rule)
    taps = (shape["kernel_size"],) * 2 if "kernel_size" in shape else ()
    sides = (shape["size"],) * 2 if taps else ()
    fan_in = shape["channels"] * (taps[0] ** 2 if taps else 1)
    size = (n, shape["out_channels"] // n, shape["channels"] // n, *taps)
    F = torch.randn(size, generator=generator) / fan_in**0.5
    x = torch.randn((count, shape["channels"], *sides), generator=generator)
    W = ph_weight(rule, F)
    return x, nnf.conv2d(x, W, padding=taps[0] // 2) if taps else nnf.linear(x, W)


def _toy(name: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers from -1 to 1 in random order, and 2x + 2 or x² + noise, in four features; inputs: (count, 4, 1, 1)."""
    count, features = sum(_TOY_COUNTS), DATA[name].shape["in_channels"]
    x = torch.linspace(-1, 1, count)[torch.randperm(count, generator=generator)]
    noise = _TOY_NOISE * torch.rand(count, generator=generator)
    y = 2 * x + 2 if name == "toy-line" else x.square() + noise
    return x.reshape(-1, 1, 1, 1).repeat(1, features, 1, 1), y.reshape(-1, 1).repeat(1, features)


def _parts(x: Tensor, y: Tensor, counts: tuple[int, int, int]) -> Splits:
    return Splits(*(TensorDataset(*pair) for pair in zip(x.split(counts), y.split(counts), strict=True)))
