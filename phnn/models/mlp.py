"""A multilayer perceptron: linear layers over the algebra with ReLUs between them, and a real classifier.

Source: Rumelhart, Hinton and Williams, *Learning representations by back-propagating errors*, 1986; PH form: Zhang
et al., *Beyond fully-connected layers with quaternions*, 2021 (PHM).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .. import init
from ._factory import LayerFactory, zero_first


class MLP(nn.Module):
    """Hidden layers of linear, ReLU and dropout, then a real linear classifier.

    input: (batch, in_features), or anything that flattens to it, images included; output: (batch, num_classes).
    Where n does not divide in_features, zero features go in front; the components of an image are slices of it as it
    is flattened, channel after channel. Raises ValueError for another number of features.
    """

    def __init__(
        self,
        layers: LayerFactory,
        in_features: int,
        widths: tuple[int, ...],
        num_classes: int,
        dropout: float,
        pad: str,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        stem = layers.stem_linear(pad, in_features, widths[0])
        self.padded_features = int(stem.in_features)  # type: ignore[arg-type]
        linears = [stem, *(layers.linear(a, b) for a, b in pairwise(widths))]
        self.hidden = nn.Sequential(*(nn.Sequential(linear, nn.ReLU(), nn.Dropout(dropout)) for linear in linears))
        self.fc = nn.Linear(widths[-1], num_classes, **layers.placement)
        for linear in linears:
            init.kaiming_normal_(linear, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if x.shape[1] != self.in_features:
            raise ValueError(f"the MLP takes {self.in_features} features a sample, not {x.shape[1]}")
        return self.fc(self.hidden(zero_first(x, self.padded_features)))


def mlp(
    *,
    default_widths: tuple[int, ...],
    in_channels: int = 3,
    size: int = 32,
    num_classes: int = 10,
    widths: tuple[int, ...] | None = None,
    width_scale: float = 1.0,
    dropout: float = 0.0,
    pad: str = "zero_first",
    **algebra: Any,
) -> MLP:
    """A multilayer perceptron; ``algebra`` holds the keywords of ``LayerFactory``.

    in_channels, size: of the square images that it takes; plain vectors of d features are in_channels=d, size=1.
    widths: of the hidden layers (default ``default_widths``), all times ``width_scale``, rounded to multiples of n.
    Raises ValueError for widths that n does not divide.
    """
    layers = LayerFactory(**algebra)
    final = layers.widths(tuple(widths or default_widths), width_scale)
    return MLP(layers, in_channels * size**2, final, num_classes, dropout, pad)
