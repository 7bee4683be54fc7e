"""Parameters and the bytes that weights take, in memory and in a file."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import nn

from ..task.subject import count_params


def params(module: nn.Module) -> int:
    """Trainable parameters, shared ones once."""
    return count_params(module)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers, each storage once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class _Counter(io.BytesIO):
    """A file that keeps nothing of what is written to it but how much it was."""

    length = 0

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.length += count
        return count


def file_bytes(module: nn.Module) -> int:
    """Size of the file that torch.save makes of the state_dict: what a model takes on disk, names included."""
    counter = _Counter()
    torch.save(module.state_dict(), counter)
    return counter.length
