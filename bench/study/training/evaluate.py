"""How well a net does a task on a part of the data: the task's metrics, and its loss."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ..task import Pairs, StudyTask


def evaluate(fabric: Fabric, net: nn.Module, task: StudyTask, part: Pairs, batch_size: int) -> dict[str, float]:
    """Every metric of the task and ``loss``, in eval mode; examples count once, whichever process looked at them.

    net: the module itself, not what fabric wrapped it in: processes may have unequal numbers of batches.
    """
    metrics = task.metrics().to(fabric.device)
    loss = torch.zeros((), dtype=torch.float64, device=fabric.device)
    _share_buffers(fabric, net)
    net.eval()
    count = len(part)  # type: ignore[arg-type]
    own = torch.arange(count)[fabric.global_rank :: fabric.world_size]
    with torch.inference_mode():
        for picked in own.split(batch_size):
            inputs, targets = (tensor.to(fabric.device) for tensor in part[picked])
            with fabric.autocast():
                outputs = net(inputs)
                of_batch = task.loss(outputs, targets)
            metrics.update(outputs, targets)
            loss += of_batch.double() * len(picked)
        found = {name: float(value) for name, value in metrics.compute().items()}
    total: Any = fabric.all_reduce(loss, reduce_op="sum")
    return {**found, **task.module_metrics(net), "loss": float(total) / count}


def _share_buffers(fabric: Fabric, net: nn.Module) -> None:
    """Give every process the first one's running statistics: each has seen a share of the batches of its own."""
    if fabric.world_size > 1:
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, 0)
