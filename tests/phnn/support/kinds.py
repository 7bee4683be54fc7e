"""How the tests make every registered layer: its arguments, its variants, and the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How to make a layer of dimension n, its variants, and the shape of its inputs (batch first, if batched)."""

    arguments: Callable[[int], tuple[Any, ...]]
    shapes: Callable[[int, Options], list[tuple[int, ...]]]
    variants: tuple[Options, ...]
    composite: bool = False  # several products and a nonlinearity in turn
    batch_dim: Callable[[Options], int] = lambda options: 0
    name: str = ""  # as the registry has it


def _conv(dims: int) -> Kind:
    return Kind(
        lambda n: (2 * n, 4 * n, 3),
        lambda n, options: [(2, 2 * n, *[5, 4, 4][:dims])],
        (
            {"padding": 1},
            {"stride": 2, "bias": False},
            {"groups": 2, "padding": 1, "padding_mode": "circular"},
            {"dilation": 2, "padding": "same", "padding_mode": "replicate"},
        ),
    )


def _conv_transpose(dims: int) -> Kind:
    return Kind(
        lambda n: (4 * n, 2 * n, 3),
        lambda n, options: [(2, 4 * n, *[3, 2, 2][:dims])],
        (
            {},
            {"stride": 2, "padding": 1, "output_padding": 1, "bias": False},
            {"groups": 2, "stride": 2},
            {"dilation": 2, "padding": 1},
        ),
    )


def _sequence_dim(options: Options) -> int:
    return 0 if options.get("batch_first") else 1


def _recurrent(**more: Any) -> Kind:
    return Kind(
        lambda n: (2 * n, 3 * n),
        lambda n, options: [(2, 3, 2 * n) if options.get("batch_first") else (3, 2, 2 * n)],
        (
            {},
            {"num_layers": 2, "bidirectional": True},
            {"batch_first": True, "bias": False},
            {"num_layers": 2, **more},
        ),
        composite=True,
        batch_dim=_sequence_dim,
    )


def _attention_shapes(n: int, options: Options) -> list[tuple[int, ...]]:
    shapes = [(3, 2, 4 * n), (5, 2, 4 * n), (5, 2, 4 * n)]
    return [(s[1], s[0], s[2]) for s in shapes] if options.get("batch_first") else shapes


def _norm(dims: int, *more: Options) -> Kind:
    return Kind(
        lambda n: (2 * n,),
        lambda n, options: [(40, 2 * n, *[2] * dims)],
        ({}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, *more),
        composite=True,
    )


def _dropout(dims: int) -> Kind:
    """What is random has no definition to compare with: p=0 and p=1 drop nothing and all."""
    return Kind(lambda n: (), lambda n, options: [(3, 2 * n, *[2] * dims)], ({"p": 0.0}, {"p": 1.0}))


_ZCA = ({"method": "zca"}, {"method": "zca", "affine": False})
KINDS = {
    "linear": Kind(lambda n: (2 * n, 3 * n), lambda n, options: [(3, 2 * n)], ({}, {"bias": False})),
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "conv3d": _conv(3),
    "conv_transpose1d": _conv_transpose(1),
    "conv_transpose2d": _conv_transpose(2),
    "conv_transpose3d": _conv_transpose(3),
    "rnn": _recurrent(nonlinearity="relu"),
    "gru": _recurrent(),
    "lstm": _recurrent(),
    "attention": Kind(
        lambda n: (4 * n, 2),
        _attention_shapes,
        (
            {},
            {"batch_first": True, "bias": False},
            {"add_bias_kv": True},
            {"add_zero_attn": True, "batch_first": True},
        ),
        composite=True,
        batch_dim=_sequence_dim,
    ),
    "transformer_encoder_layer": Kind(
        lambda n: (4 * n, 2, 6 * n, 0.0),
        lambda n, options: _attention_shapes(n, options)[:1],
        ({}, {"norm_first": True, "batch_first": True}, {"activation": "gelu"}, {"bias": False}),
        composite=True,
        batch_dim=_sequence_dim,
    ),
    "rotation_linear": Kind(lambda n: (2 * n, 3 * n), lambda n, options: [(3, 2 * n)], ({}, {"bias": False})),
    "rotation_conv2d": Kind(
        lambda n: (2 * n, 4 * n, 3),
        lambda n, options: [(2, 2 * n, 5, 4)],
        ({"padding": 1}, {"stride": 2, "bias": False}, {"groups": 2}, {"dilation": 2, "padding": 2}),
    ),
    "batch_norm1d": _norm(1),
    "batch_norm2d": _norm(2),
    "batch_norm3d": _norm(3),
    "whitening1d": _norm(0, *_ZCA),
    "whitening2d": _norm(2, *_ZCA),
    "whitening3d": _norm(3, *_ZCA),
    "dropout": _dropout(0),
    "dropout1d": _dropout(1),
    "dropout2d": _dropout(2),
    "dropout3d": _dropout(3),
}
