"""The layer factory: what makes one architecture serve every algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..algebras import algebra as find_algebra
from ..init import kaiming_normal_
from ..layers.attention import PHMultiheadAttention
from ..layers.conv import PHConv2d
from ..layers.conv_transpose import PHConvTranspose2d
from ..layers.linear import PHLinear
from ..layers.recurrent import PHGRU
from ..widths import misfit, padded
from ._options import PADS, fitting, one_of

# as the factory sees them: whatever torch.nn's namesake takes
_conv2d: Callable[..., nn.Module] = PHConv2d
_real_conv2d: Callable[..., nn.Module] = nn.Conv2d
_conv_transpose2d: Callable[..., nn.Module] = PHConvTranspose2d
_linear: Callable[..., nn.Module] = PHLinear
_real_linear: Callable[..., nn.Module] = nn.Linear
_attention: Callable[..., nn.Module] = PHMultiheadAttention
_gru: Callable[..., nn.Module] = PHGRU


@dataclass(frozen=True)
class LayerFactory:
    """Makes the layers of one model over one algebra, along one path, on one device.

    Takes the keywords that every model takes; n is needed by the learned ``ph`` alone, and rank, which parametrises
    its rules by their factors, is for it alone.
    """

    algebra: str | Algebra = "ph"
    n: int | None = None
    path: str = "auto"
    rank: int | None = None
    device: Any = None
    dtype: torch.dtype | None = None
    resolved: Algebra = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolved", find_algebra(self.algebra, self.n))

    @property
    def placement(self) -> dict[str, Any]:
        """Keywords for the layers that stay real (normalisation, the classifier)."""
        return {"device": self.device, "dtype": self.dtype}

    @property
    def _keywords(self) -> dict[str, Any]:
        ranked = {} if self.rank is None else {"rank": self.rank}
        return {**self.placement, "algebra": self.resolved, "path": self.path, **ranked}

    def conv2d(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A 2d convolution with torch's arguments."""
        return _conv2d(*args, **kwargs, **self._keywords)

    def linear(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A linear layer with torch's arguments."""
        return _linear(*args, **kwargs, **self._keywords)

    def conv_transpose2d(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A 2d transposed convolution with torch's arguments."""
        return _conv_transpose2d(*args, **kwargs, **self._keywords)

    def attention(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Multi-head attention with torch's arguments."""
        return _attention(*args, **kwargs, **self._unranked("attention"))

    def gru(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A GRU with torch's arguments."""
        return _gru(*args, **kwargs, **self._unranked("a GRU"))

    def _unranked(self, layer: str) -> dict[str, Any]:
        if self.rank is not None:
            raise ValueError(f"rank={self.rank}: {layer} has no rules of a given rank, leave rank out")
        return self._keywords

    def norm2d(self, channels: int) -> nn.BatchNorm2d:
        """Batch norm stays real: it acts on single channels."""
        return nn.BatchNorm2d(channels, **self.placement)

    def widths(self, widths: tuple[int, ...], scale: float) -> tuple[int, ...]:
        """The model's widths under ``scale``; a ValueError if n does not divide one of them."""
        return fitting(widths, scale, self.resolved.n)

    def stem_conv2d(self, pad: str, in_channels: int, out_channels: int, *args: Any, **kwargs: Any) -> nn.Module:
        """The first convolution, whose input channels (3 for RGB) n may not divide; pad as in ``stem_width``."""
        width = self.stem_width(pad, in_channels=in_channels)
        if width is None:
            return _real_conv2d(in_channels, out_channels, *args, **kwargs, **self.placement)
        return self.conv2d(width, out_channels, *args, **kwargs)

    def stem_linear(self, pad: str, in_features: int, out_features: int, *args: Any, **kwargs: Any) -> nn.Module:
        """The first linear layer, whose input features n may not divide; pad as in ``stem_width``."""
        width = self.stem_width(pad, in_features=in_features)
        if width is None:
            return _real_linear(in_features, out_features, *args, **kwargs, **self.placement)
        return self.linear(width, out_features, *args, **kwargs)

    def stem_width(self, pad: str, **named: int) -> int | None:
        """How many of the input's channels the first layer takes; None where it has to be real.

        named: the channels, under the name that an error gives them. pad: ``zero_first`` puts zero channels in front
        up to the next multiple of n; ``real_stem`` makes this one layer real; ``error`` refuses. All are the same
        where n divides the channels.
        """
        one_of("pad", pad, PADS)
        n, (width,) = self.resolved.n, named.values()
        if width % n and pad == "error":
            raise ValueError(f"{misfit(n, **named)}: choose pad='zero_first' or 'real_stem'")
        return None if width % n and pad == "real_stem" else padded(width, n)


def zero_first(x: Tensor, channels: int, dim: int = 1) -> Tensor:
    """Put zero channels in front of x along ``dim`` until it has ``channels``: RGB becomes the 0RGB quaternion."""
    missing = channels - x.shape[dim]
    return x if missing <= 0 else nnf.pad(x, (0, 0) * (x.dim() - 1 - dim % x.dim()) + (missing, 0))


def concatenated(parts: Sequence[Tensor], n: int) -> Tensor:
    """Join the channels (dimension 1) of component-major tensors, component by component: component-major again."""
    return torch.cat([chunk for chunks in zip(*(x.chunk(n, 1) for x in parts), strict=True) for chunk in chunks], 1)


def he_convolutions_(model: nn.Module) -> None:
    """He initialisation of every 2d convolution of a model, by the variance of its weight; biases 0. In place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | PHConv2d):
            kaiming_normal_(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
