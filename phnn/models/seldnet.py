"""SELDnet: what sounds when, from multichannel spectrograms; a convolutional recurrent net.

Form ``augmented`` is the net of the PH papers; ``full`` is the same with its hidden linear layers over the algebra,
too; ``vanilla`` is the smaller original that the augmented one grew from, published as a real net. The convolutions
are over the algebra; batch norm, the GRU and the last linear layer stay real, and but in ``full`` the hidden linear
layers. Convolutions have no bias by default, as batch norm follows each; ``conv_bias=True`` is the published form.
Source: Adavanne et al., *Sound event localization and detection of overlapping sources using convolutional recurrent
neural networks*, 2018; augmented: Guizzo et al., *L3DAS21 challenge*, 2021; PH form: Grassucci et al. 2022.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._factory import LayerFactory, zero_first
from ._options import SELD_BINS, SELD_FORMS, SeldForm, seld_widths


class SELDnet(nn.Module):
    """Convolutions that pool the bins away, a bidirectional GRU along time, linear layers for each frame.

    input: (batch, in_channels, bins, frames), magnitudes and perhaps phases of short-time Fourier transforms; each
    128 bins become one feature of a channel; output: (batch, frames // 8, num_classes * overlaps), the probabilities
    that each class sounds once, twice, … in each step of 8 frames. Dynamo steps around torch's GRU: compiled, the net
    is two graphs.
    """

    def __init__(
        self,
        layers: LayerFactory,
        form: SeldForm,
        widths: tuple[int, ...],
        hidden: int,
        linears: tuple[int, ...],
        outputs: int,
        in_channels: int,
        bins: int,
        conv_bias: bool,
        dropout: float,
        pad: str,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = in_channels
        for width, pool in zip(widths, form.pools, strict=True):
            geometry = {"kernel_size": 3, "padding": 1, "bias": conv_bias}
            if blocks:
                conv = layers.conv2d(channels, width, **geometry)
            else:
                conv = layers.stem_conv2d(pad, channels, width, **geometry)
                self.in_channels = int(conv.in_channels)  # type: ignore[arg-type]
            parts = (layers.norm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(pool), nn.Dropout(dropout))
            blocks.append(nn.Sequential(conv, *parts))
            channels = width
        self.cnn = nn.Sequential(*blocks)
        self.rnn = nn.GRU(
            channels * (bins // SELD_BINS),
            hidden,
            form.layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=True,
            **layers.placement,
        )
        real_linear: Any = nn.Linear
        linear = layers.linear if form.hypercomplex_head else real_linear
        placement = {} if form.hypercomplex_head else layers.placement
        head: list[nn.Module] = []
        features = 2 * hidden
        for width in linears:
            head += [linear(features, width, **placement), *([nn.ReLU(inplace=True)] if form.activation else [])]
            features = width
        last = nn.Linear(features, outputs, **layers.placement)
        self.sed = nn.Sequential(*head, nn.Dropout(dropout), last, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.cnn(zero_first(x, self.in_channels))
        steps, _ = self.rnn(x.permute(0, 3, 1, 2).flatten(2))  # (batch, time, channels * bins)
        return self.sed(steps)


def seldnet(
    *,
    form: str = "augmented",
    num_classes: int = 14,
    overlaps: int = 3,
    in_channels: int = 4,
    bins: int = 256,
    widths: tuple[int, ...] | None = None,
    width_scale: float = 1.0,
    conv_bias: bool = False,
    dropout: float | None = None,
    pad: str = "zero_first",
    **algebra: Any,
) -> SELDnet:
    """A SELDnet; ``algebra`` holds the keywords of ``LayerFactory``.

    form: ``vanilla``, ``augmented`` or ``full``; overlaps: how often a class may sound at once; in_channels: 4 of one
    first-order ambisonic microphone, 8 of two, 16 with their phases; widths: of the convolutions (default: the
    form's); width_scale multiplies the widths of all layers, those over the algebra rounded to multiples of n;
    dropout: its probability (default: the form's). Raises ValueError for widths that n does not divide, and for fewer
    than 128 bins.
    """
    layers = LayerFactory(**algebra)
    convs, hidden, linears = seld_widths(form, widths, width_scale, layers.resolved.n)
    if bins < SELD_BINS:
        raise ValueError(f"bins={bins}: pooling takes {SELD_BINS} bins to one, so that is the least")
    chosen = SELD_FORMS[form]
    probability = chosen.dropout if dropout is None else dropout
    outputs = num_classes * overlaps
    return SELDnet(layers, chosen, convs, hidden, linears, outputs, in_channels, bins, conv_bias, probability, pad)
