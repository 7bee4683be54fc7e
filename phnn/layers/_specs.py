"""The layers as the registry lists them. Loads no torch."""

from __future__ import annotations

from typing import Any

from ..algebras import Algebra
from ..registry import Shape, Spec, register
from ..widths import misfit


def _out(shape: Shape) -> int:
    return shape["out_channels"] or shape["channels"]


def _fits(algebra: Algebra, shape: Shape) -> str | None:
    channels, out_channels, groups = shape["channels"], _out(shape), shape.get("groups", 1)
    if channels % (groups * algebra.n) == out_channels % (groups * algebra.n) == 0:
        return None  # as in nearly all of the cases that a sweep may have
    for name, width in (("channels", channels), ("out_channels", out_channels)):
        if width % groups:
            return f"groups={groups} does not divide {name}={width}"
        if reason := misfit(algebra.n, **{name: width // groups}):
            return reason
    return None


def _linear_arguments(shape: Shape) -> dict[str, Any]:
    return {"in_features": shape["channels"], "out_features": _out(shape)}


_linear = register(
    Spec(
        name="linear",
        ranked=True,
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


def _conv(dims: int, size: int) -> Spec:
    return register(
        Spec(
            name=f"conv{dims}d",
            ranked=True,
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
_conv2d = _conv(2, 16)
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
            ranked=True,
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


# ---------------------------------------------------------------------------------------- sequences, attention


def _sequence(shape: Shape) -> tuple[int, ...]:
    return shape["batch"], shape["length"], shape["channels"]


def _recurrent(name: str, attribute: str) -> None:
    def arguments(shape: Shape) -> dict[str, Any]:
        return {
            "input_size": shape["channels"],
            "hidden_size": _out(shape),
            "num_layers": shape["num_layers"],
            "bidirectional": shape["bidirectional"],
            "batch_first": True,
        }

    register(
        Spec(
            name=name,
            kind="layer",
            paths=("kron", "dense"),
            target=f"phnn.layers.recurrent:{attribute}",
            shape={
                "batch": 16,
                "length": 32,
                "channels": 128,
                "out_channels": None,
                "num_layers": 1,
                "bidirectional": False,
            },
            arguments=arguments,
            input_shape=_sequence,
            constraints=_fits,
            info=f"torch.nn.{attribute[2:]} over any algebra, batch first; out_channels is the hidden size",
            source="Parcollet et al. 2019 (quaternion RNNs)",
        )
    )


_recurrent("rnn", "PHRNN")
_recurrent("gru", "PHGRU")
_recurrent("lstm", "PHLSTM")


def _heads_fit(algebra: Algebra, shape: Shape) -> str | None:
    heads, channels = shape["heads"], shape["channels"]
    if channels % heads:
        return f"heads={heads} does not divide channels={channels}"
    widths = {"channels per head": channels // heads}
    if "hidden" in shape:
        widths["hidden"] = shape["hidden"]
    return misfit(algebra.n, **widths)


register(
    Spec(
        name="attention",
        kind="layer",
        target="phnn.layers.attention:PHMultiheadAttention",
        shape={"batch": 8, "length": 64, "channels": 128, "heads": 4},
        arguments=lambda shape: {"embed_dim": shape["channels"], "num_heads": shape["heads"], "batch_first": True},
        input_shape=_sequence,
        constraints=_heads_fit,
        info="torch.nn.MultiheadAttention over any algebra, batch first; one input is query, key and value",
        source="Vaswani et al. 2017; Tay et al. 2019",
        repeats=3,
    )
)
register(
    Spec(
        name="transformer_encoder_layer",
        kind="layer",
        target="phnn.layers.attention:PHTransformerEncoderLayer",
        shape={"batch": 8, "length": 64, "channels": 128, "heads": 4, "hidden": 512},
        arguments=lambda shape: {
            "d_model": shape["channels"],
            "nhead": shape["heads"],
            "dim_feedforward": shape["hidden"],
            "batch_first": True,
        },
        input_shape=_sequence,
        constraints=_heads_fit,
        info="torch.nn.TransformerEncoderLayer over any algebra, batch first; layer norms stay real",
        source="Vaswani et al. 2017; Zhang et al. 2021 (PHM)",
    )
)

# --------------------------------------------------------------------------------------------------- rotations


_ROTATED = ("real", "quaternion")


def _rotation_fits(algebra: Algebra, shape: Shape) -> str | None:
    if reason := _fits(algebra, shape):
        return reason
    return None if algebra.name in _ROTATED else f"rotations are of quaternions, not of algebra {algebra.name!r}"


def _rotation(name: str, attribute: str, twin: Spec) -> None:
    register(
        Spec(
            name=name,
            kind="layer",
            target=f"phnn.layers.rotation:{attribute}",
            shape=twin.shape,
            arguments=twin.arguments,
            input_shape=twin.input_shape,
            constraints=_rotation_fits,
            info=f"the shape of {twin.name}; every input quaternion is rotated, scaled and summed",
            source="Parcollet, Morchid and Linarès 2020 (survey)",
            algebras=_ROTATED,
            paths=(),
        )
    )


_rotation("rotation_linear", "QuaternionRotationLinear", _linear)
_rotation("rotation_conv2d", "QuaternionRotationConv2d", _conv2d)

# -------------------------------------------------------------------------------------- normalisation, dropout


def _norm(name: str, target: str, dims: int, size: int, info: str, source: str) -> None:
    register(
        Spec(
            name=f"{name}{dims}d",
            kind="layer",
            target=f"phnn.layers.{target}{dims}d",
            shape={"batch": 32, "channels": 64, "size": size},
            arguments=lambda shape: {"num_features": shape["channels"]},
            input_shape=lambda shape: (shape["batch"], shape["channels"], *[shape["size"]] * dims),
            constraints=lambda algebra, shape: misfit(algebra.n, channels=shape["channels"]),
            info=info,
            source=source,
            paths=(),
        )
    )


_PER_COMPONENT = "batch norm per component, one scale for each number"
for _dims, _size in ((1, 256), (2, 16), (3, 8)):
    _norm("batch_norm", "norm:PHBatchNorm", _dims, _size, _PER_COMPONENT, "Ioffe and Szegedy 2015")
    _norm("whitening", "whitening:PHWhitening", _dims, _size, "batch norm that decorrelates", "Gaudet and Maida 2018")

register(
    Spec(
        name="dropout",
        kind="layer",
        target="phnn.layers.dropout:PHDropout",
        shape={"batch": 32, "channels": 256},
        arguments=lambda shape: {},
        input_shape=lambda shape: (shape["batch"], shape["channels"]),
        constraints=lambda algebra, shape: misfit(algebra.n, channels=shape["channels"]),
        info="dropout that keeps or drops a hypercomplex number whole",
        paths=(),
        placed=False,
    )
)


def _channel_dropout(dims: int, size: int) -> None:
    register(
        Spec(
            name=f"dropout{dims}d",
            kind="layer",
            target=f"phnn.layers.dropout:PHDropout{dims}d",
            shape={"batch": 32, "channels": 64, "size": size},
            arguments=lambda shape: {},
            input_shape=lambda shape: (shape["batch"], shape["channels"], *[shape["size"]] * dims),
            constraints=lambda algebra, shape: misfit(algebra.n, channels=shape["channels"]),
            info="dropout that keeps or drops a hypercomplex channel whole",
            source="Tompson et al. 2015",
            paths=(),
            placed=False,
        )
    )


for _dims, _size in ((1, 256), (2, 16), (3, 8)):
    _channel_dropout(_dims, _size)
