"""Which examples a step learns from, and its random numbers: functions of seed and step, so a resume repeats them.

With several processes each takes its share of every batch; together they see what one process would.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The indices of each batch of an epoch, in an order drawn anew.

    A last batch of a single example joins the one before it: batch norm has no variance of one.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(mixed(seed, epoch)))
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def share_of(batch: Tensor, rank: int, world: int) -> tuple[Tensor, float]:
    """The indices that process ``rank`` of ``world`` takes of a batch, and the weight of the mean of their losses.

    The mean over processes of weight × mean loss is the mean loss of the batch, though the shares differ in size. A
    process without one takes an example with weight 0: every process must take part in the exchange of gradients.
    """
    own = batch[rank::world]
    return (own, len(own) * world / len(batch)) if len(own) else (batch[:1], 0.0)


def mixed(*parts: int) -> int:
    """A seed for a random generator that differs wherever one of ``parts`` does."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
