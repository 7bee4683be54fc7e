"""The layer factory: what makes one architecture serve every algebra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..algebras import algebra as find_algebra
from ..init import kaiming_normal_
from ..layers.conv import PHConv2d
from ..layers.linear import PHLinear
from ..widths import misfit, padded
from ._options import PADS, fitting, one_of

# as the factory sees them: whatever torch.nn's namesake takes
_conv2d: Callable[..., nn.Module] = PHConv2d
_real_conv2d: Callable[..., nn.Module] = nn.Conv2d
_linear: Callable[..., nn.Module] = PHLinear


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

    def norm2d(self, channels: int) -> nn.BatchNorm2d:
        """Batch norm stays real: it acts on single channels."""
        return nn.BatchNorm2d(channels, **self.placement)

    def widths(self, widths: tuple[int, ...], scale: float) -> tuple[int, ...]:
        """The model's widths under ``scale``; a ValueError if n does not divide one of them."""
        return fitting(widths, scale, self.resolved.n)

    def stem_conv2d(self, pad: str, in_channels: int, out_channels: int, *args: Any, **kwargs: Any) -> nn.Module:
        """The first convolution, whose input channels (3 for RGB) n may not divide.

        pad: ``zero_first`` puts zero channels in front up to the next multiple of n; ``real_stem`` makes this one
        layer real; ``error`` refuses.
        """
        one_of("pad", pad, PADS)
        n = self.resolved.n
        if in_channels % n == 0:
            return self.conv2d(in_channels, out_channels, *args, **kwargs)
        if pad == "real_stem":
            return _real_conv2d(in_channels, out_channels, *args, **kwargs, **self.placement)
        if pad == "error":
            raise ValueError(f"{misfit(n, in_channels=in_channels)}: choose pad='zero_first' or 'real_stem'")
        return self.conv2d(padded(in_channels, n), out_channels, *args, **kwargs)


def zero_first(x: Tensor, channels: int) -> Tensor:
    """Put zero channels in front of x (batch, c, …) until it has ``channels``: RGB becomes the 0RGB quaternion."""
    missing = channels - x.shape[1]
    return x if missing <= 0 else nnf.pad(x, (0, 0) * (x.dim() - 2) + (missing, 0))


def he_convolutions_(model: nn.Module) -> None:
    """He initialisation of every 2d convolution of a model, by the variance of its weight; biases 0. In place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | PHConv2d):
            kaiming_normal_(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
