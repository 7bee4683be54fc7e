"""One training: a net, a data split, a recipe and a seed in; its accuracy and learning curve out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from .data import Split
from .recipe import Recipe


@dataclass(frozen=True)
class Outcome:
    """accuracy: share of the test images classified right after the last epoch; losses: mean of each epoch."""

    accuracy: float
    losses: tuple[float, ...]
    seconds: float


def train(module: nn.Module, split: Split, recipe: Recipe, seed: int) -> Outcome:
    """Train for the whole budget and test once, at the end: no epoch is chosen by its test accuracy.

    seed draws the order of the images. Raises FloatingPointError when the loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(split.train_y)
    steps = recipe.epochs * math.ceil(count / recipe.batch_size)
    optimizer = _optimizer(module, recipe)
    losses = []
    step = 0
    started = time.perf_counter()
    for epoch in range(recipe.epochs):
        module.train()
        total = 0.0
        for picked in torch.randperm(count, generator=generator).split(recipe.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, steps)
            optimizer.zero_grad(set_to_none=True)
            loss = nnf.cross_entropy(module(split.train_x[picked]), split.train_y[picked])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(picked)
            step += 1
        losses.append(total / count)
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} in epoch {epoch + 1}: lower the recipe's lr")
    seconds = time.perf_counter() - started
    return Outcome(accuracy(module, split.test_x, split.test_y), tuple(losses), seconds)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then the recipe's schedule."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def accuracy(module: nn.Module, x: Tensor, y: Tensor, batch_size: int = 512) -> float:
    """The share of images that the net classifies right, in eval mode."""
    module.eval()
    with torch.inference_mode():
        right = sum(
            int((module(batch).argmax(dim=1) == labels).sum())
            for batch, labels in zip(x.split(batch_size), y.split(batch_size), strict=True)
        )
    return right / len(y)


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        module.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
