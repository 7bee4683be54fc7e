"""What "equal" means: the largest relative error against a float64 reference, by dtype and path.

Error is ||y - y64|| / ||y64|| over a whole tensor. One multiply-add path with float32 sums of a few thousand
terms stays within 2e-6; half precisions are bounded by the rounding of the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# unit roundoff u of each dtype; a layer's error is a small multiple of it, since rounding errors average out
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}

_LAYER = {"float64": 1e-14, "float32": 2e-6, "bfloat16": 1e-2, "float16": 2e-3}

# The bilinear path rounds twice more, before and after its products, and its terms outgrow their sum a little.
_PATH = {"bilinear": 2.5}

# A model chains tens of layers, and training mode divides by batch statistics: errors grow with depth, at worst
# like the condition of the whole map. A wrong path is wrong by O(1), so a thousand roundoffs still tells them apart.
_MODEL = {dtype: 1000 * u for dtype, u in _ROUNDOFF.items()}


def dtypes() -> Sequence[str]:
    """The dtypes that have a tolerance."""
    return tuple(_ROUNDOFF)


def roundoff(dtype: str) -> float:
    """The unit roundoff of a dtype: half the distance from 1 to the next number."""
    return _known(_ROUNDOFF, dtype)


def tolerance(dtype: str, kind: str = "layer", path: str = "dense") -> float:
    """The largest relative error that still counts as right, for a ``layer`` or a ``model`` along a path."""
    return _known({"layer": _LAYER, "model": _MODEL}[kind], dtype) * _PATH.get(path, 1.0)


def _known(table: Mapping[str, float], dtype: str) -> float:
    if dtype not in table:
        raise ValueError(f"no tolerance for dtype {dtype!r}: choose one of {', '.join(table)}")
    return table[dtype]
