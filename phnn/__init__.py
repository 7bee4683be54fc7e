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
    from .freedom import dof as dof
    from .freedom import dof_formula as dof_formula
    from .freedom import redundancy as redundancy
    from .init import learned_rule as learned_rule
    from .layers.attention import PHMultiheadAttention as PHMultiheadAttention
    from .layers.attention import PHTransformerEncoderLayer as PHTransformerEncoderLayer
    from .layers.conv import PHConv1d as PHConv1d
    from .layers.conv import PHConv2d as PHConv2d
    from .layers.conv import PHConv3d as PHConv3d
    from .layers.conv_transpose import PHConvTranspose1d as PHConvTranspose1d
    from .layers.conv_transpose import PHConvTranspose2d as PHConvTranspose2d
    from .layers.conv_transpose import PHConvTranspose3d as PHConvTranspose3d
    from .layers.dropout import PHDropout as PHDropout
    from .layers.dropout import PHDropout1d as PHDropout1d
    from .layers.dropout import PHDropout2d as PHDropout2d
    from .layers.dropout import PHDropout3d as PHDropout3d
    from .layers.linear import PHLinear as PHLinear
    from .layers.norm import PHBatchNorm1d as PHBatchNorm1d
    from .layers.norm import PHBatchNorm2d as PHBatchNorm2d
    from .layers.norm import PHBatchNorm3d as PHBatchNorm3d
    from .layers.recurrent import PHGRU as PHGRU
    from .layers.recurrent import PHLSTM as PHLSTM
    from .layers.recurrent import PHRNN as PHRNN
    from .layers.rotation import QuaternionRotationConv2d as QuaternionRotationConv2d
    from .layers.rotation import QuaternionRotationLinear as QuaternionRotationLinear
    from .layers.whitening import PHWhitening1d as PHWhitening1d
    from .layers.whitening import PHWhitening2d as PHWhitening2d
    from .layers.whitening import PHWhitening3d as PHWhitening3d
    from .rank import Decomposition as Decomposition
    from .rank import decompose as decompose
    from .registry import create_layer as create_layer
    from .registry import create_model as create_model
    from .registry import list_layers as list_layers
    from .registry import list_models as list_models
    from .registry import model_info as model_info
    from .tuning import Tuning as Tuning
    from .tuning import tune as tune

_HOMES = {
    "Algebra": "algebras",
    "PHBatchNorm1d": "layers.norm",
    "PHBatchNorm2d": "layers.norm",
    "PHBatchNorm3d": "layers.norm",
    "PHConv1d": "layers.conv",
    "PHConv2d": "layers.conv",
    "PHConv3d": "layers.conv",
    "PHConvTranspose1d": "layers.conv_transpose",
    "PHConvTranspose2d": "layers.conv_transpose",
    "PHConvTranspose3d": "layers.conv_transpose",
    "PHDropout": "layers.dropout",
    "PHDropout1d": "layers.dropout",
    "PHDropout2d": "layers.dropout",
    "PHDropout3d": "layers.dropout",
    "PHGRU": "layers.recurrent",
    "PHLSTM": "layers.recurrent",
    "PHLinear": "layers.linear",
    "PHMultiheadAttention": "layers.attention",
    "PHRNN": "layers.recurrent",
    "PHTransformerEncoderLayer": "layers.attention",
    "PHWhitening1d": "layers.whitening",
    "PHWhitening2d": "layers.whitening",
    "PHWhitening3d": "layers.whitening",
    "QuaternionRotationConv2d": "layers.rotation",
    "QuaternionRotationLinear": "layers.rotation",
    "algebra": "algebras",
    "create_layer": "registry",
    "create_model": "registry",
    "dof": "freedom",
    "dof_formula": "freedom",
    "Decomposition": "rank",
    "Tuning": "tuning",
    "decompose": "rank",
    "learned_rule": "init",
    "list_algebras": "algebras",
    "list_layers": "registry",
    "list_models": "registry",
    "model_info": "registry",
    "redundancy": "freedom",
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
