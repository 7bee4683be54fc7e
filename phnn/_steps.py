"""Optimizers that write to parameters unseen are made to tell: what a layer keeps is right after every step.

A layer compares the versions of its parameters before it uses what it has kept. Fused steps, torch's own
(``Adam(…, fused=True)``, torch 2.15) and those of other packages, change numbers and leave the versions as they
are. A hook that runs after each step of any optimizer counts it, for tensors that something was kept from alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.weak import WeakTensorKeyDictionary

_KEPT_FROM: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def kept_from(sources: Iterable[Tensor]) -> None:
    """Say that something is kept that was derived from these tensors."""
    for source in sources:
        _KEPT_FROM[source] = None


def _count(optimizer: Optimizer, *_arguments: Any) -> None:
    if _KEPT_FROM:
        increment_version([p for group in optimizer.param_groups for p in group["params"] if p in _KEPT_FROM])


register_optimizer_step_post_hook(_count)
