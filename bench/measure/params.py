"""Parameters and the bytes that weights take."""

from __future__ import annotations

from torch import nn

from ..subject import count_params


def params(module: nn.Module) -> int:
    """Trainable parameters, shared ones once."""
    return count_params(module)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers, each storage once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
