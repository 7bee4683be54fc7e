"""ResNets: the CIFAR family (6k+2 layers, three stages) and resnet18/34/50/101/152 (four stages).

Module names are torchvision's. All convolutions are over the algebra, the 1×1 shortcuts and the stem included;
batch norm and the classifier stay real. Convolutions have no bias, as batch norm follows each; ``conv_bias=True``
counts as the published PH code does, which creates biases. What was published as real and quaternion "ResNet152"
is resnet152 with ``block="basic"``.
Source: He et al., *Deep residual learning for image recognition*, 2016; PH form: Grassucci et al. 2022.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._factory import LayerFactory, he_convolutions_, zero_first
from ._options import BLOCKS, STEMS, one_of, stage_widths


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; the stride is on the first."""

    expansion = 1

    def __init__(self, layers: LayerFactory, in_channels: int, width: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = layers.conv2d(in_channels, width, 3, stride=stride, padding=1, bias=bias)
        self.bn1 = layers.norm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = layers.conv2d(width, width, 3, padding=1, bias=bias)
        self.bn2 = layers.norm2d(width)
        self.downsample = _shortcut(layers, in_channels, width, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + identity)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut; the stride is on the 3×3, as in torchvision."""

    expansion = 4

    def __init__(self, layers: LayerFactory, in_channels: int, width: int, stride: int, bias: bool) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = layers.conv2d(in_channels, width, 1, bias=bias)
        self.bn1 = layers.norm2d(width)
        self.conv2 = layers.conv2d(width, width, 3, stride=stride, padding=1, bias=bias)
        self.bn2 = layers.norm2d(width)
        self.conv3 = layers.conv2d(width, out_channels, 1, bias=bias)
        self.bn3 = layers.norm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(layers, in_channels, out_channels, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + identity)


def _shortcut(layers: LayerFactory, in_channels: int, out_channels: int, stride: int, bias: bool) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    conv = layers.conv2d(in_channels, out_channels, 1, stride=stride, bias=bias)
    return nn.Sequential(conv, layers.norm2d(out_channels))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pooling, linear classifier.

    input: (batch, in_channels, height, width); output: (batch, num_classes). The stem ``cifar`` is one 3×3
    convolution of stride 1, for images of 32×32 pixels or so; ``imagenet`` is one of 7×7 and stride 2, and a max
    pooling of stride 2. Every stage but the first halves the side.
    """

    def __init__(
        self,
        layers: LayerFactory,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        stem: str,
        conv_bias: bool,
        pad: str,
    ) -> None:
        super().__init__()
        large = one_of("stem", stem, STEMS) == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        stem_geometry = {"stride": stride, "padding": kernel // 2, "bias": conv_bias}
        self.conv1 = layers.stem_conv2d(pad, in_channels, widths[0], kernel, **stem_geometry)
        self.in_channels = int(self.conv1.in_channels)  # type: ignore[arg-type]
        self.bn1 = layers.norm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        channels = widths[0]
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, (name, depth, width) in enumerate(zip(self.stages, depths, widths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(layers, channels, width, stride, conv_bias))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes, **layers.placement)
        he_convolutions_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(zero_first(x, self.in_channels))))
        x = self.maxpool(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def resnet(
    *,
    depths: tuple[int, ...],
    default_block: str,
    default_widths: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    widths: tuple[int, ...] | None = None,
    width_scale: float = 1.0,
    stem: str = "cifar",
    block: str | None = None,
    conv_bias: bool = False,
    pad: str = "zero_first",
    **algebra: Any,
) -> ResNet:
    """A ResNet from its depths; ``algebra`` holds the keywords of ``LayerFactory``.

    widths: one for each stage (default ``default_widths``), all times ``width_scale``, rounded to multiples of n;
    stem: ``cifar`` or ``imagenet``; block: ``basic`` or ``bottleneck`` (default ``default_block``).
    Raises ValueError for widths that n does not divide, or as many widths as there are not stages.
    """
    layers = LayerFactory(**algebra)
    final = stage_widths(widths, default_widths, width_scale, layers.resolved.n)
    blocks = _BLOCKS[one_of("block", block or default_block, BLOCKS)]
    return ResNet(layers, blocks, depths, final, num_classes, in_channels, stem, conv_bias, pad)
