"""ResNets for small images: the CIFAR family (6k+2 layers, three stages) and resnet18/50 (four stages).

Module names are torchvision's. All convolutions are over the algebra, the 1×1 shortcuts and the stem included;
batch norm and the classifier stay real. Convolutions have no bias: batch norm follows each.
Source: He et al., *Deep residual learning for image recognition*, 2016; PH form: Grassucci et al. 2022.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import init
from ..layers.conv import PHConv2d
from ._factory import LayerFactory, zero_first


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; the stride is on the first."""

    expansion = 1

    def __init__(self, layers: LayerFactory, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layers.conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = layers.norm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = layers.conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = layers.norm2d(width)
        self.downsample = _shortcut(layers, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + identity)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut; the stride is on the 3×3, as in torchvision."""

    expansion = 4

    def __init__(self, layers: LayerFactory, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = layers.conv2d(in_channels, width, 1, bias=False)
        self.bn1 = layers.norm2d(width)
        self.conv2 = layers.conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = layers.norm2d(width)
        self.conv3 = layers.conv2d(width, out_channels, 1, bias=False)
        self.bn3 = layers.norm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(layers, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + identity)


def _shortcut(layers: LayerFactory, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    conv = layers.conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, layers.norm2d(out_channels))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pooling, linear classifier.

    input: (batch, in_channels, height, width); output: (batch, num_classes). The stem is one 3×3 convolution of
    stride 1, for images of 32×32 pixels or so; every stage but the first halves the side.
    """

    def __init__(
        self,
        layers: LayerFactory,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        pad: str,
    ) -> None:
        super().__init__()
        self.conv1 = layers.stem_conv2d(pad, in_channels, widths[0], 3, padding=1, bias=False)
        self.in_channels = int(self.conv1.in_channels)  # type: ignore[arg-type]
        self.bn1 = layers.norm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        channels = widths[0]
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, (name, depth, width) in enumerate(zip(self.stages, depths, widths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(layers, channels, width, stride))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes, **layers.placement)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | PHConv2d):
                init.kaiming_normal_(module)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(zero_first(x, self.in_channels))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def resnet(
    *,
    block: str,
    depths: tuple[int, ...],
    default_widths: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    widths: tuple[int, ...] | None = None,
    width_scale: float = 1.0,
    pad: str = "zero_first",
    **algebra: Any,
) -> ResNet:
    """A ResNet from its blocks (``basic`` or ``bottleneck``); ``algebra`` holds the keywords of ``LayerFactory``.

    widths: one for each stage (default ``default_widths``), all times ``width_scale``, rounded to multiples of n.
    Raises ValueError for widths that n does not divide, or as many widths as there are not stages.
    """
    layers = LayerFactory(**algebra)
    chosen = tuple(widths or default_widths)
    if len(chosen) != len(depths):
        raise ValueError(f"{len(depths)} stages need {len(depths)} widths, not {chosen}")
    final = layers.widths(chosen, width_scale)
    return ResNet(layers, BLOCKS[block], depths, final, num_classes, in_channels, pad)
