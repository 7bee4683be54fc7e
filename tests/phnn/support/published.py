"""The published models at sizes that a test can afford, and their parameter counts at their own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import phnn
from phnn.registry import find

FAMILIES = ("resnet", "vgg", "seldnet")
MODELS = [name for name in phnn.list_models() if find(name).target.split(":")[1] in FAMILIES]
SMALLEST = ("resnet8", "vgg11_bn", "seldnet")

_SMALL: dict[str, dict[str, Any]] = {
    "cifar": {"batch": 4, "size": 8, "width_scale": 0.5},  # 8-16-32
    "resnet": {"batch": 4, "size": 16, "width_scale": 0.125},  # 8-16-32-64
    "vgg": {"batch": 4, "size": 32, "width_scale": 0.125},
    "seldnet": {"batch": 2, "bins": 128, "frames": 32, "width_scale": 0.125},
}


def algebra_of(variant: str | int) -> dict[str, Any]:
    """The keywords of a variant: the name of an algebra, or the n of a learned one."""
    return {"algebra": "ph", "n": variant} if isinstance(variant, int) else {"algebra": variant}


def build(name: str, variant: str | int, **options: Any) -> nn.Module:
    return phnn.create_model(name, **algebra_of(variant), **options)


def shape_of(name: str, **axes: Any) -> dict[str, Any]:
    """The model's shape axes, small."""
    spec = find(name)
    family = spec.target.split(":")[1]
    if family == "resnet" and spec.keywords["default_widths"][0] == 16:
        family = "cifar"
    return {**spec.shape, **_SMALL[family], **axes}


def small(name: str, variant: str | int, **axes: Any) -> tuple[nn.Module, Tensor]:
    """A small model and its input, as a sweep makes them."""
    shape = shape_of(name, **axes)
    model = find(name).build(shape, **algebra_of(variant))
    return model, find(name).example_inputs(shape)[0]


def outputs_of(name: str, shape: dict[str, Any]) -> tuple[int, ...]:
    """The shape that the model's output has."""
    if name == "seldnet":
        return shape["batch"], shape["frames"] // 8, shape["num_classes"] * shape["overlaps"]
    return shape["batch"], shape["num_classes"]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ------------------------------------------------------------------------------------------- published counts

_LARGE = {"widths": (60, 120, 240, 516)}
_VGG19 = {"widths": (24, 72, 216, 648), "head": (516, 516)}
_SELD = {"in_channels": 16}

Variants = dict[str | int, int]

# without the convolution biases that batch norm makes useless
NET: list[tuple[str, dict[str, Any], Variants]] = [
    ("resnet18", _LARGE, {"real": 10877062, "quaternion": 2730298, 2: 5446226, 3: 3635914, 4: 2731578}),
    ("resnet50", _LARGE, {"real": 22538086, "quaternion": 5688682, 2: 11305754, 3: 7562149, 4: 5692074}),
    ("resnet152", {**_LARGE, "block": "basic"}, {"real": 52578694, "quaternion": 13184074}),
    ("resnet152", _LARGE, {"real": 52985446, "quaternion": 13369642, 2: 26576330, 3: 17775463, 4: 13379562}),
    ("vgg16_bn", {}, {"real": 15249354, "quaternion": 3823434, 2: 7632386, 4: 3824394}),
    ("vgg19_bn", _VGG19, {"real": 29800690, "quaternion": 7464238, 2: 14909938, 3: 9946504, 4: 7465390}),
    ("resnet18", {}, {"real": 11173962, "quaternion": 2804682}),
    ("resnet20", {}, {"real": 272474, "quaternion": 69818}),
    ("resnet56", {}, {"real": 855770, "quaternion": 217658}),
    ("seldnet", _SELD, {"real": 8561578, "quaternion": 7393450}),
]
# with them: created but never applied in the published PH code, used in its real and quaternion VGG and SELDnet
WITH_BIAS: list[tuple[str, dict[str, Any], Variants]] = [
    ("resnet18", _LARGE, {2: 5450906, 3: 3640594, 4: 2736258}),
    ("resnet50", _LARGE, {2: 11331446, 3: 7587841, 4: 5717766}),
    ("resnet152", _LARGE, {2: 26648102, 3: 17847235, 4: 13451334}),
    ("vgg16_bn", {}, {"real": 15253578, "quaternion": 3827658, 2: 7636610, 4: 3828618}),
    ("vgg19_bn", _VGG19, {"real": 29806930, "quaternion": 7470478, 2: 14916178, 3: 9952744, 4: 7471630}),
    ("seldnet", _SELD, {"real": 8562538, "quaternion": 7394410, 2: 7783818, 4: 7394666}),
]
# SELDnet's convolutions with their batch norms: (net, with bias)
SELD_CONVOLUTIONS: dict[str | int, tuple[int, int]] = {
    "real": (1560384 - 960, 1560384),
    "quaternion": (392256 - 960, 392256),
    2: (780704, 781664),
    4: (391552, 392512),
}
