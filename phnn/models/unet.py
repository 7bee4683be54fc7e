"""A U-Net: an encoder of convolutions and max pooling, a decoder of transposed convolutions, and skips between them.

All convolutions are over the algebra, the transposed ones included; batch norm and the last 1×1 convolution, which
gives each pixel its class scores, stay real. As is usual today, convolutions are padded and batch norm follows each.
Source: Ronneberger, Fischer and Brox, *U-Net: convolutional networks for biomedical image segmentation*, 2015.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .. import init
from ..layers.conv import PHConv2d
from ._factory import LayerFactory, concatenated, zero_first


def _double_conv(layers: LayerFactory, first: nn.Module, width: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch norm and ReLU; the first is given."""
    second = layers.conv2d(width, width, 3, padding=1, bias=False)
    norms = layers.norm2d(width), layers.norm2d(width)
    return nn.Sequential(first, norms[0], nn.ReLU(inplace=True), second, norms[1], nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Encoder blocks at widths[0], widths[1], …, each at half the side of the one before; a decoder that mirrors it.

    input: (batch, in_channels, height, width); output: (batch, num_classes, height, width). Any side that can be
    halved as often as needed will do, odd ones included: a transposed convolution aims at the size of its skip.
    """

    def __init__(
        self, layers: LayerFactory, in_channels: int, widths: tuple[int, ...], num_classes: int, pad: str
    ) -> None:
        super().__init__()
        self.n = layers.resolved.n
        stem = layers.stem_conv2d(pad, in_channels, widths[0], 3, padding=1, bias=False)
        self.in_channels = int(stem.in_channels)  # type: ignore[arg-type]
        self.encoder = nn.ModuleList([_double_conv(layers, stem, widths[0])])
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in pairwise(widths):
            down = layers.conv2d(narrow, wide, 3, padding=1, bias=False)
            self.encoder.append(_double_conv(layers, down, wide))
            self.up.append(layers.conv_transpose2d(wide, narrow, 2, stride=2))
            merge = layers.conv2d(2 * narrow, narrow, 3, padding=1, bias=False)
            self.decoder.append(_double_conv(layers, merge, narrow))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(widths[0], num_classes, 1, **layers.placement)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | PHConv2d) and module is not self.head:
                init.kaiming_normal_(module)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](zero_first(x, self.in_channels))
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for up, block, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            x = block(concatenated([skip, up(x, output_size=skip.shape[-2:])], self.n))
        return self.head(x)


def unet(
    *,
    default_widths: tuple[int, ...],
    in_channels: int = 3,
    num_classes: int = 2,
    widths: tuple[int, ...] | None = None,
    width_scale: float = 1.0,
    pad: str = "zero_first",
    **algebra: Any,
) -> UNet:
    """A U-Net; ``algebra`` holds the keywords of ``LayerFactory``.

    widths: of each resolution, the finest first (default ``default_widths``), all times ``width_scale``, rounded to
    multiples of n. Raises ValueError for widths that n does not divide.
    """
    layers = LayerFactory(**algebra)
    final = layers.widths(tuple(widths or default_widths), width_scale)
    return UNet(layers, in_channels, final, num_classes, pad)
