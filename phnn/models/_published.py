"""The published families as the registry lists them: ResNet, VGG, SELDnet. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..algebras import Algebra
from ..registry import Option, Shape, Spec, register
from ..widths import misfit
from ._options import (
    BLOCKS,
    DROPOUTS,
    PADS,
    SELD_BINS,
    SELD_FORMS,
    SELD_FRAMES,
    STEMS,
    seld_widths,
    stage_widths,
    vgg_widths,
)
from ._specs import _image_input, _widths

_PH = "PH form: Grassucci et al. 2022"
_SCALE = Option("width_scale", 1.0, "factor on all widths, which stay multiples of n")
_BIAS = Option("conv_bias", False, "a bias in every convolution, though batch norm follows; the published form")
_PAD = Option("pad", "zero_first", "where n does not divide in_channels: zeros in front, or a real stem", PADS)


def _written(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))


def _axes(options: tuple[Option, ...]) -> dict[str, Any]:
    """The options as shape axes, widths as a sweep writes them."""
    return {o.name: _written(o.default) if isinstance(o.default, tuple) else o.default for o in options}


def _arguments(options: tuple[Option, ...], *tuples: str) -> Callable[[Shape], dict[str, Any]]:
    """What the model takes from its axes; ``tuples`` are widths, written "64-128"."""
    names = [option.name for option in options]

    def arguments(shape: Shape) -> dict[str, Any]:
        return {name: _widths(shape[name], name) if name in tuples else shape[name] for name in names}

    return arguments


def _constraint(check: Callable[[Algebra, Shape], object]) -> Callable[[Algebra, Shape], str | None]:
    """Why ``check`` raises ValueError for a combination, or why ``pad`` refuses it; None where all is well."""

    def constraint(algebra: Algebra, shape: Shape) -> str | None:
        try:
            check(algebra, shape)
        except ValueError as error:
            return str(error)
        refused = misfit(algebra.n, in_channels=shape["in_channels"]) if shape["pad"] == "error" else None
        return f"{refused}: choose pad='zero_first' or 'real_stem'" if refused else None

    return constraint


# ------------------------------------------------------------------------------------------------------ ResNet


def _resnet(name: str, block: str, depths: tuple[int, ...], default_widths: tuple[int, ...]) -> None:
    written = _written(default_widths)
    options = (
        Option("in_channels", 3, "channels of the images"),
        Option("num_classes", 10, "width of the output"),
        Option("widths", None, f"one for each stage, instead of {written}"),
        _SCALE,
        Option("stem", "cifar", "3×3 for small images, or 7×7 of stride 2 and a max pooling", STEMS),
        Option("block", block, "kind of residual block; resnet152 of basic ones was published, too", BLOCKS),
        _BIAS,
        _PAD,
    )

    def check(algebra: Algebra, shape: Shape) -> object:
        return stage_widths(_widths(shape["widths"]), default_widths, shape["width_scale"], algebra.n)

    register(
        Spec(
            name=name,
            kind="model",
            ranked=True,
            target="phnn.models.resnet:resnet",
            keywords={"depths": depths, "default_block": block, "default_widths": default_widths},
            shape={"batch": 32, "size": 32, **_axes(options)},
            arguments=_arguments(options, "widths"),
            input_shape=_image_input,
            constraints=_constraint(check),
            info=f"ResNet of {block} blocks {depths}, widths {written}",
            source=f"He et al. 2016; {_PH}",
            hypercomplex="all convolutions, the stem and the 1×1 shortcuts included",
            real="batch norm, the classifier",
            options=options,
        )
    )


for _layers in (8, 20, 32, 44, 56, 110):  # 6k + 2 layers
    _resnet(f"resnet{_layers}", "basic", ((_layers - 2) // 6,) * 3, (16, 32, 64))
_WIDTHS = (64, 128, 256, 512)
_resnet("resnet18", "basic", (2, 2, 2, 2), _WIDTHS)
_resnet("resnet34", "basic", (3, 4, 6, 3), _WIDTHS)
_resnet("resnet50", "bottleneck", (3, 4, 6, 3), _WIDTHS)
_resnet("resnet101", "bottleneck", (3, 4, 23, 3), _WIDTHS)
_resnet("resnet152", "bottleneck", (3, 8, 36, 3), _WIDTHS)

# --------------------------------------------------------------------------------------------------------- VGG

_VGG_OPTIONS = (
    Option("in_channels", 3, "channels of the images"),
    Option("num_classes", 10, "width of the output"),
    Option("widths", (64, 128, 256, 512, 512), "of the five blocks, or four of which the last serves two"),
    Option("head", (512, 512), "widths of the hidden linear layers"),
    _SCALE,
    _BIAS,
    Option("pool", 1, "side to which the last features are averaged"),
    Option("dropout", "after", "its place at each hidden layer: torchvision's, or before it as published", DROPOUTS),
    _PAD,
)
_VGG_HALVINGS = 5


def _vgg_check(algebra: Algebra, shape: Shape) -> None:
    least = 2**_VGG_HALVINGS
    if shape["size"] < least:
        raise ValueError(f"size={shape['size']}: VGG halves the side {_VGG_HALVINGS} times, {least} is the least")
    widths, head = _widths(shape["widths"]) or (), _widths(shape["head"], "head") or ()
    vgg_widths(widths, head, shape["width_scale"], algebra.n)


def _vgg(layers: int, depths: tuple[int, ...]) -> None:
    register(
        Spec(
            name=f"vgg{layers}_bn",
            kind="model",
            ranked=True,
            target="phnn.models.vgg:vgg",
            keywords={"depths": depths},
            shape={"batch": 32, "size": 32, **_axes(_VGG_OPTIONS)},
            arguments=_arguments(_VGG_OPTIONS, "widths", "head"),
            input_shape=_image_input,
            constraints=_constraint(_vgg_check),
            info=f"VGG of {depths} convolutions with batch norm, two hidden linear layers",
            source=f"Simonyan and Zisserman 2015; {_PH}",
            hypercomplex="all convolutions, the hidden linear layers",
            real="batch norm, the last linear layer",
            options=_VGG_OPTIONS,
        )
    )


_vgg(11, (1, 1, 2, 2, 2))
_vgg(13, (2, 2, 2, 2, 2))
_vgg(16, (2, 2, 3, 3, 3))
_vgg(19, (2, 2, 4, 4, 4))

# ----------------------------------------------------------------------------------------------------- SELDnet

_SELD_OPTIONS = (
    Option("form", "augmented", "which layers there are, and which are over the algebra", tuple(SELD_FORMS)),
    Option("in_channels", 4, "4 of one ambisonic microphone, 8 of two, 16 with their phases"),
    Option("bins", 256, f"of the spectrograms; {SELD_BINS} become one feature"),
    Option("num_classes", 14, "kinds of events"),
    Option("overlaps", 3, "how often a class may sound at once"),
    Option("widths", None, "of the convolutions, instead of the form's (64-128-256-512; 64-64-64 in vanilla)"),
    _SCALE,
    _BIAS,
    _PAD,
)


def _seld_check(algebra: Algebra, shape: Shape) -> None:
    for axis, least in (("bins", SELD_BINS), ("frames", SELD_FRAMES)):
        if shape[axis] < least:
            raise ValueError(f"{axis}={shape[axis]}: pooling takes {least} {axis} to one, so that is the least")
    seld_widths(shape["form"], _widths(shape["widths"]), shape["width_scale"], algebra.n)


register(
    Spec(
        name="seldnet",
        kind="model",
        ranked=True,
        target="phnn.models.seldnet:seldnet",
        shape={"batch": 1, "frames": 4800, **_axes(_SELD_OPTIONS)},
        arguments=_arguments(_SELD_OPTIONS, "widths"),
        input_shape=lambda shape: (shape["batch"], shape["in_channels"], shape["bins"], shape["frames"]),
        constraints=_constraint(_seld_check),
        info="SELDnet: sound events in spectrograms of 60 s, 8 frames a step; convolutions, GRU, linear layers",
        source=f"Adavanne et al. 2018; augmented: Guizzo et al. 2021 (L3DAS21); {_PH}",
        hypercomplex="all convolutions; in form full the hidden linear layers, too",
        real="batch norm, the GRU, the linear layers (in form full the last alone)",
        options=(*_SELD_OPTIONS, Option("dropout", None, "its probability, instead of the form's (0.3; vanilla 0)")),
    )
)
