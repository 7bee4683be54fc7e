"""Optimiser and learning rate of each step, as a recipe has them."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..recipe import Recipe


def optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters of ``module``, with its weight decay on each of them.

    SGD has Nesterov's momentum where it has any.
    """
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    momentum, decay = recipe.momentum, recipe.weight_decay
    return torch.optim.SGD(
        module.parameters(), lr=recipe.lr, momentum=momentum, weight_decay=decay, nesterov=momentum > 0
    )


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then the recipe's schedule."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** sum(step >= share * steps for share in recipe.milestones)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rate(of: torch.optim.Optimizer, lr: float) -> None:
    """Set it in every parameter group."""
    for group in of.param_groups:
        group["lr"] = lr
