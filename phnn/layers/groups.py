"""ContiguousGroups: a grouped hypercomplex convolution wired as torch's, for models that were written for torch's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..functional import regroup, ungroup
from .conv import _PHConv
from .conv_transpose import _PHConvTranspose


class ContiguousGroups(nn.Module):
    """A PH convolution whose groups are torch's: consecutive channels, instead of a share of every component.

    Channels are (group, index, component) outside and (component, group, index) inside ``layer``: the components of
    a number lie next to each other, within one group. A channel meets exactly those that it meets in torch's grouped
    convolution. input, output and arguments of forward: those of ``layer``, whose parameters are all that there is.
    ``weight`` and ``bias`` are what torch's convolution would hold, built when asked for.
    """

    def __init__(self, layer: _PHConv | _PHConvTranspose) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        n, dim = self.layer.n, -len(self.layer.kernel_size) - 1
        return to_neighbours(self.layer(to_components(input, n, dim), *args, **kwargs), n, dim)

    @property
    def weight(self) -> Tensor:
        """W as torch's grouped convolution holds it, (out, in / groups, *kernel), or (in, out / groups, *kernel)."""
        return contiguous_weight(self.layer)

    @property
    def bias(self) -> Tensor | None:
        """The bias in torch's order."""
        bias = self.layer.bias
        return None if bias is None else to_neighbours(bias, self.layer.n, 0)


def contiguous_weight(layer: _PHConv | _PHConvTranspose) -> Tensor:
    """The weight of ``layer``, its rows and columns in the order (group, index, component) of torch's convolution."""
    W = ungroup(layer.weight, layer.n, layer.groups, 0)
    return to_neighbours(to_neighbours(W, layer.n, 0), layer.n, 1)


def to_components(x: Tensor, n: int, dim: int) -> Tensor:
    """Channels from (index, component) to component-major (component, index)."""
    return regroup(x, x.shape[dim] // n, n, dim)


def to_neighbours(x: Tensor, n: int, dim: int) -> Tensor:
    """Channels from component-major back to (index, component): the inverse of ``to_components``."""
    return regroup(x, n, x.shape[dim] // n, dim)
