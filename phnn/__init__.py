"""Parameterized hypercomplex neural networks: layers and models over any algebra, drop-in for torch.nn.

Names are loaded when first used, so that listing algebras, layers and models needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .algebras import Algebra as Algebra
    from .algebras import algebra as algebra
    from .algebras import list_algebras as list_algebras
    from .init import learned_rule as learned_rule
    from .layers.conv import PHConv1d as PHConv1d
    from .layers.conv import PHConv2d as PHConv2d
    from .layers.conv import PHConv3d as PHConv3d
    from .layers.conv_transpose import PHConvTranspose1d as PHConvTranspose1d
    from .layers.conv_transpose import PHConvTranspose2d as PHConvTranspose2d
    from .layers.conv_transpose import PHConvTranspose3d as PHConvTranspose3d
    from .layers.linear import PHLinear as PHLinear
    from .rank import Decomposition as Decomposition
    from .rank import decompose as decompose
    from .registry import create_layer as create_layer
    from .registry import create_model as create_model
    from .registry import list_layers as list_layers
    from .registry import list_models as list_models
    from .tuning import Tuning as Tuning
    from .tuning import tune as tune

_HOMES = {
    "Algebra": "algebras",
    "algebra": "algebras",
    "list_algebras": "algebras",
    "PHConv1d": "layers.conv",
    "PHConv2d": "layers.conv",
    "PHConv3d": "layers.conv",
    "PHConvTranspose1d": "layers.conv_transpose",
    "PHConvTranspose2d": "layers.conv_transpose",
    "PHConvTranspose3d": "layers.conv_transpose",
    "PHLinear": "layers.linear",
    "Decomposition": "rank",
    "Tuning": "tuning",
    "create_layer": "registry",
    "create_model": "registry",
    "decompose": "rank",
    "learned_rule": "init",
    "list_layers": "registry",
    "list_models": "registry",
    "tune": "tuning",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
