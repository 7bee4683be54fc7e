"""What "equal" means: the largest relative error against a float64 reference, by dtype and path.

Error is ||y - y64|| / ||y64|| over a whole tensor. One multiply-add path with float32 sums of a few thousand
terms stays within 2e-6; half precisions are bounded by the rounding of the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# unit roundoff u of each dtype; a layer's error is a small multiple of it, since rounding errors average out
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}

_LAYER = {"float64": 1e-14, "float32": 2e-6, "bfloat16": 1e-2, "float16": 2e-3}

# Several products and a nonlinearity in turn.
_COMPOSITE = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 4e-2, "float16": 5e-3}

# In half precision a rounded activation can fall on the other side of a kink, and takes a term of the sum with it.
_COMPOSITE_GRADIENT = {**_COMPOSITE, "bfloat16": 0.15, "float16": 0.1}

# A filter's gradient sums over every position of the batch, tens of thousands of them: torch's own convolutions are
# at 2.0e-6 in float32 with 16,384 positions (conv3d, 64 channels).
_LAYER_GRADIENT = {dtype: 5 * bound for dtype, bound in _LAYER.items()}

# The bilinear path rounds twice more, before and after its products, and its terms outgrow their sum a little.
_PATH = {"bilinear": 2.5}

# A model chains tens of layers, and training mode divides by batch statistics: errors grow with depth, at worst
# like the condition of the whole map. A wrong path is wrong by O(1), so a thousand roundoffs still tells them apart.
_MODEL = {dtype: 1000 * u for dtype, u in _ROUNDOFF.items()}

# A pre-activation within rounding of zero falls on either side of a ReLU and takes its whole gradient along. A share
# of units proportional to u does so, and the norm of what they carry goes with the square root of their number.
_MODEL_GRADIENT = {dtype: min(0.5, 16 * u**0.5) for dtype, u in _ROUNDOFF.items()}

# The deeper a net, the more units can fall on the other side. torch's own real nets, in float32 with random weights
# and batches of 4 to 32, are at 1.2e-3 to 6.8e-3 (ResNet18), 1.2e-2 (ResNet50) and 6.9e-2 (ResNet152): up to 1.8
# sqrt(u) a layer. No net is called wrong for what torch's own does.
_MODEL_GRADIENT_LAYER = {dtype: 3.2 * u**0.5 for dtype, u in _ROUNDOFF.items()}
_MOST_GRADIENT = 0.5


def dtypes() -> Sequence[str]:
    """The dtypes that have a tolerance."""
    return tuple(_ROUNDOFF)


def roundoff(dtype: str) -> float:
    """The unit roundoff of a dtype: half the distance from 1 to the next number."""
    return _known(_ROUNDOFF, dtype)


def tolerance(dtype: str, kind: str = "layer", of: str = "output", path: str = "dense", depth: int = 1) -> float:
    """The largest relative error that still counts as right.

    kind: ``layer``, ``composite`` (recurrent, attention, normalisation) or ``model``; of: ``output`` or
    ``gradient``; path: the one that ran; depth: layers with weights, which a model's gradient passes one after the
    other. Raises ValueError for a dtype without one.
    """
    tables = {
        ("layer", "output"): _LAYER,
        ("layer", "gradient"): _LAYER_GRADIENT,
        ("composite", "output"): _COMPOSITE,
        ("composite", "gradient"): _COMPOSITE_GRADIENT,
        ("model", "output"): _MODEL,
        ("model", "gradient"): _MODEL_GRADIENT,
    }
    bound = _known(tables[kind, of], dtype) * _PATH.get(path, 1.0)
    if (kind, of) != ("model", "gradient"):
        return bound
    return max(bound, min(_MOST_GRADIENT, depth * _MODEL_GRADIENT_LAYER[dtype]))


def _known(table: Mapping[str, float], dtype: str) -> float:
    if dtype not in table:
        raise ValueError(f"no tolerance for dtype {dtype!r}: choose one of {', '.join(table)}")
    return table[dtype]
