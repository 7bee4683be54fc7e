"""The models as the registry lists them, and the figures that make one of them. Loads no torch."""

from __future__ import annotations

import re
from typing import Any

from ..registry import Shape

# widths: None for the model's own, or written "60-120-240-516"
_IMAGES = {"batch": 32, "size": 32, "in_channels": 3, "num_classes": 10, "widths": None, "width_scale": 1.0}


def _widths(text: str | None, name: str = "widths") -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", text):
        raise ValueError(f"{name}={text!r} is not of the form 16-32-64")
    return tuple(int(width) for width in text.split("-"))


def _image_arguments(shape: Shape) -> dict[str, Any]:
    arguments = {key: shape[key] for key in ("in_channels", "num_classes", "width_scale")}
    return {**arguments, "widths": _widths(shape["widths"])}


def _image_input(shape: Shape) -> tuple[int, ...]:
    return shape["batch"], shape["in_channels"], shape["size"], shape["size"]
