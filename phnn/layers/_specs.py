"""The layers as the registry lists them. Loads no torch."""

from __future__ import annotations

from typing import Any

from ..algebras import Algebra
from ..registry import Shape, Spec, register
from ..widths import misfit


def _out(shape: Shape) -> int:
    return shape["out_channels"] or shape["channels"]


def _fits(algebra: Algebra, shape: Shape) -> str | None:
    groups = shape.get("groups", 1)
    for name, width in (("channels", shape["channels"]), ("out_channels", _out(shape))):
        if width % groups:
            return f"groups={groups} does not divide {name}={width}"
        if reason := misfit(algebra.n, **{name: width // groups}):
            return reason
    return None


def _linear_arguments(shape: Shape) -> dict[str, Any]:
    return {"in_features": shape["channels"], "out_features": _out(shape)}


register(
    Spec(
        name="linear",
        kind="layer",
        target="phnn.layers.linear:PHLinear",
        shape={"batch": 32, "channels": 256, "out_channels": None},
        arguments=_linear_arguments,
        input_shape=lambda shape: (shape["batch"], shape["channels"]),
        constraints=_fits,
        info="torch.nn.Linear over any algebra; channels are features",
        source="Zhang et al. 2021 (PHM)",
    )
)


def _conv_arguments(shape: Shape) -> dict[str, Any]:
    return {
        "in_channels": shape["channels"],
        "out_channels": _out(shape),
        "kernel_size": shape["kernel_size"],
        "stride": shape["stride"],
        "padding": shape["kernel_size"] // 2,
        "groups": shape["groups"],
    }


def _conv(dims: int, size: int) -> None:
    register(
        Spec(
            name=f"conv{dims}d",
            kind="layer",
            target=f"phnn.layers.conv:PHConv{dims}d",
            shape={
                "batch": 32,
                "channels": 64,
                "out_channels": None,
                "size": size,
                "kernel_size": 3,
                "stride": 1,
                "groups": 1,
            },
            arguments=_conv_arguments,
            input_shape=lambda shape: (shape["batch"], shape["channels"], *[shape["size"]] * dims),
            constraints=_fits,
            info=f"torch.nn.Conv{dims}d over any algebra; size is the side of the input, padding kernel_size // 2",
            source="Grassucci et al. 2022 (PHC)",
        )
    )


_conv(1, 256)
_conv(2, 16)
_conv(3, 8)


def _conv_transpose_arguments(shape: Shape) -> dict[str, Any]:
    return {**_conv_arguments(shape), "output_padding": shape["output_padding"]}


def _conv_transpose_fits(algebra: Algebra, shape: Shape) -> str | None:
    if shape["output_padding"] >= shape["stride"]:
        return f"output_padding={shape['output_padding']} is not smaller than stride={shape['stride']}"
    return _fits(algebra, shape)


def _conv_transpose(dims: int, size: int) -> None:
    register(
        Spec(
            name=f"conv_transpose{dims}d",
            kind="layer",
            target=f"phnn.layers.conv_transpose:PHConvTranspose{dims}d",
            shape={
                "batch": 32,
                "channels": 64,
                "out_channels": None,
                "size": size,
                "kernel_size": 3,
                "stride": 2,
                "output_padding": 1,
                "groups": 1,
            },
            arguments=_conv_transpose_arguments,
            input_shape=lambda shape: (shape["batch"], shape["channels"], *[shape["size"]] * dims),
            constraints=_conv_transpose_fits,
            info=f"torch.nn.ConvTranspose{dims}d over any algebra; by default it doubles the side of the input",
        )
    )


_conv_transpose(1, 128)
_conv_transpose(2, 8)
_conv_transpose(3, 4)
