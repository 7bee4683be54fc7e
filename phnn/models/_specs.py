"""The models as the registry lists them, and the figures that make one of them. Loads no torch."""

from __future__ import annotations

from typing import Any

from ..algebras import Algebra
from ..registry import Shape, Spec, register
from ..widths import misfit, scaled

# widths: None for the model's own, or written "60-120-240-516"
_IMAGES = {"batch": 32, "size": 32, "in_channels": 3, "num_classes": 10, "widths": None, "width_scale": 1.0}


def _widths(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(int(width) for width in text.split("-"))


def _image_arguments(shape: Shape) -> dict[str, Any]:
    arguments = {key: shape[key] for key in ("in_channels", "num_classes", "width_scale")}
    return {**arguments, "widths": _widths(shape["widths"])}


def _image_input(shape: Shape) -> tuple[int, ...]:
    return shape["batch"], shape["in_channels"], shape["size"], shape["size"]


def _resnet(name: str, block: str, depths: tuple[int, ...], default_widths: tuple[int, ...]) -> None:
    def fits(algebra: Algebra, shape: Shape) -> str | None:
        try:
            widths = _widths(shape["widths"]) or default_widths
        except ValueError:
            return f"widths={shape['widths']!r} is not of the form 16-32-64"
        if len(widths) != len(default_widths):
            return f"{name} has {len(default_widths)} stages, widths={shape['widths']!r} names {len(widths)}"
        widths = scaled(widths, shape["width_scale"], algebra.n)
        return misfit(algebra.n, **{f"widths[{i}]": width for i, width in enumerate(widths)})

    register(
        Spec(
            name=name,
            kind="model",
            ranked=True,
            target="phnn.models.resnet:resnet",
            keywords={"block": block, "depths": depths, "default_widths": default_widths},
            shape=_IMAGES,
            arguments=_image_arguments,
            input_shape=_image_input,
            constraints=fits,
            info=f"ResNet for small images: {block} blocks {depths}, widths {default_widths}",
            source="He et al. 2016",
        )
    )


for _layers in (8, 20, 32, 44, 56, 110):  # 6k + 2 layers
    _resnet(f"resnet{_layers}", "basic", ((_layers - 2) // 6,) * 3, (16, 32, 64))
_resnet("resnet18", "basic", (2, 2, 2, 2), (64, 128, 256, 512))
_resnet("resnet50", "bottleneck", (3, 4, 6, 3), (64, 128, 256, 512))
