"""Layers of every kind that can run along every path, and whether one is right."""

from __future__ import annotations

from typing import Any

import torch
from ph_reference import parameters64, reference, relative_error
from torch import Tensor, nn

import phnn

F64 = torch.float64

# name, keyword arguments, channels in and out of one component, spatial size
LAYERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "linear": ("linear", {}, ()),
    "conv1d": ("conv1d", {"kernel_size": 3, "padding": "same"}, (7,)),
    "conv2d": ("conv2d", {"kernel_size": 3, "stride": 2, "padding": 1, "padding_mode": "reflect"}, (6, 5)),
    "conv2d grouped": ("conv2d", {"kernel_size": 3, "groups": 2, "padding": 1}, (5, 5)),
    "conv2d 1x1": ("conv2d", {"kernel_size": 1, "bias": False}, (4, 4)),
    "conv3d": ("conv3d", {"kernel_size": 2, "dilation": 2}, (4, 4, 4)),
    "conv_transpose1d": ("conv_transpose1d", {"kernel_size": 3}, (5,)),
    "conv_transpose2d": (
        "conv_transpose2d",
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
        (4, 4),
    ),
    "conv_transpose3d": ("conv_transpose3d", {"kernel_size": 2}, (3, 3, 3)),
}


def make(kind: str, algebra: str = "ph", n: int | None = None, **options: Any) -> tuple[Any, Tensor]:
    """A layer and an input for it."""
    name, arguments, size = LAYERS[kind]
    width = n or phnn.algebra(algebra).n
    layer = phnn.create_layer(name, 4 * width, 6 * width, algebra=algebra, n=n, **arguments, **options)
    x = torch.randn(3, 4 * width, *size, dtype=options.get("dtype"))
    return layer, x


def float64_reference(layer: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output by definition, in float64, and the parameters that it depends on."""
    params = parameters64(layer)
    given = dict(params)
    if "a" in params:
        given["A"] = torch.einsum("ri,rk,rj->ikj", params["a"], params["c"], params["b"])
    return reference(layer, given, x), params


def assert_right(layer: Any, x: Tensor, limit: float) -> None:
    """Output and all gradients are within ``limit`` of float64."""
    x = x.clone().requires_grad_()
    x64 = x.detach().double().requires_grad_()
    expected, params = float64_reference(layer, x64)
    y = layer(x)
    assert relative_error(y, expected) <= limit
    weight = torch.randn(expected.shape, dtype=F64)
    (expected * weight).sum().backward()
    (y * weight.to(y.dtype)).sum().backward()
    assert relative_error(x.grad, x64.grad) <= limit
    for name, parameter in layer.named_parameters():
        assert relative_error(parameter.grad, params[name].grad) <= limit, name
