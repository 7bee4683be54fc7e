"""VGG with batch norm: vgg11/13/16/19_bn, for images of 32×32 pixels and up.

Module names are torchvision's. All convolutions and the hidden linear layers are over the algebra; batch norm and the
last linear layer stay real. Convolutions have no bias by default, as batch norm follows each; ``conv_bias=True`` is
the published form, and torchvision's. torchvision's own net of 224×224 pixels is
``create_model("vgg16_bn", algebra="real", conv_bias=True, head=(4096, 4096), pool=7, num_classes=1000)``.
Source: Simonyan and Zisserman, *Very deep convolutional networks for large-scale image recognition*, 2015; PH form:
Grassucci et al. 2022.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._factory import LayerFactory, he_convolutions_, zero_first
from ._options import DROPOUTS, one_of, vgg_widths


class VGG(nn.Module):
    """Five blocks of 3×3 convolutions, each ended by a max pooling; hidden linear layers; linear classifier.

    input: (batch, in_channels, height, width), of 32 pixels a side or more; output: (batch, num_classes). What the
    blocks make of larger images is averaged to ``pool`` × ``pool``. Dropout of the head: ``after`` each hidden layer,
    as in torchvision, or ``before`` each, as in the published real, quaternion and PH code; the places of the linear
    layers in ``classifier`` follow.
    """

    def __init__(
        self,
        layers: LayerFactory,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        head: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        conv_bias: bool,
        pool: int,
        dropout: str,
        pad: str,
    ) -> None:
        super().__init__()
        stem = layers.stem_conv2d(pad, in_channels, widths[0], 3, padding=1, bias=conv_bias)
        self.in_channels = int(stem.in_channels)  # type: ignore[arg-type]
        features: list[nn.Module] = []
        channels = self.in_channels
        for depth, width in zip(depths, widths, strict=True):
            for _ in range(depth):
                conv = layers.conv2d(channels, width, 3, padding=1, bias=conv_bias) if features else stem
                features += [conv, layers.norm2d(width), nn.ReLU(inplace=True)]
                channels = width
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        before = one_of("dropout", dropout, DROPOUTS) == "before"
        classifier: list[nn.Module] = []
        inputs = channels * pool**2
        for width in head:
            hidden = [layers.linear(inputs, width), nn.ReLU(inplace=True)]
            classifier += [nn.Dropout(), *hidden] if before else [*hidden, nn.Dropout()]
            inputs = width
        self.classifier = nn.Sequential(*classifier, nn.Linear(inputs, num_classes, **layers.placement))
        he_convolutions_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(zero_first(x, self.in_channels)))
        return self.classifier(x.flatten(1))


def vgg(
    *,
    depths: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    widths: tuple[int, ...] = (64, 128, 256, 512, 512),
    head: tuple[int, ...] = (512, 512),
    width_scale: float = 1.0,
    conv_bias: bool = False,
    pool: int = 1,
    dropout: str = "after",
    pad: str = "zero_first",
    **algebra: Any,
) -> VGG:
    """A VGG from the number of convolutions in each block; ``algebra`` holds the keywords of ``LayerFactory``.

    widths: of the five blocks, or four of which the last serves two; head: of the hidden linear layers; all times
    ``width_scale``, rounded to multiples of n. Raises ValueError for widths that n does not divide.
    """
    layers = LayerFactory(**algebra)
    final, hidden = vgg_widths(widths, head, width_scale, layers.resolved.n)
    return VGG(layers, depths, final, hidden, num_classes, in_channels, conv_bias, pool, dropout, pad)
