"""A GRU that classifies sequences: recurrent layers over the algebra, and a real classifier of the last state.

Source: Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014; hypercomplex form: Parcollet et
al., *Quaternion recurrent neural networks*, 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..widths import scaled
from ._factory import LayerFactory, zero_first


class GRUClassifier(nn.Module):
    """GRU layers, then a real linear classifier of the last layer's final state, of both directions if there are two.

    input: (batch, length, in_channels); output: (batch, num_classes). Where n does not divide in_channels, zero
    features go in front. Raises ValueError for another number of features.
    """

    def __init__(
        self,
        layers: LayerFactory,
        in_channels: int,
        hidden: int,
        num_layers: int,
        bidirectional: bool,
        num_classes: int,
        dropout: float,
        pad: str,
    ) -> None:
        super().__init__()
        width = layers.stem_width(pad, in_channels=in_channels)
        if width is None:
            raise ValueError("pad='real_stem' has no meaning in a GRU: choose 'zero_first' or 'error'")
        self.in_channels, self.padded_channels = in_channels, width
        self.bidirectional = bidirectional
        self.gru = layers.gru(
            width, hidden, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
        self.fc = nn.Linear(hidden * (2 if bidirectional else 1), num_classes, **layers.placement)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"the GRU takes {self.in_channels} features a step, not {x.shape[-1]}")
        _, states = self.gru(zero_first(x, self.padded_channels, dim=-1))
        # (layer and direction, batch, hidden): the classifier is real, so the order of its features is free
        return self.fc(torch.cat([states[-2], states[-1]], -1) if self.bidirectional else states[-1])


def gru_classifier(
    *,
    in_channels: int = 64,
    num_classes: int = 10,
    hidden: int = 128,
    num_layers: int = 2,
    bidirectional: bool = False,
    width_scale: float = 1.0,
    dropout: float = 0.0,
    pad: str = "zero_first",
    **algebra: Any,
) -> GRUClassifier:
    """A GRU that classifies sequences; ``algebra`` holds the keywords of ``LayerFactory``, but rank.

    in_channels: features of a step; hidden: of each layer and direction, times ``width_scale``, rounded to a multiple
    of n; dropout: between layers. Raises ValueError if n does not divide hidden, for rank, and for paths that build
    no weight.
    """
    layers = LayerFactory(**algebra)
    (final,) = scaled((hidden,), width_scale, layers.resolved.n)
    return GRUClassifier(layers, in_channels, final, num_layers, bidirectional, num_classes, dropout, pad)
