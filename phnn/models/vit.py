"""A small vision transformer, for images of 32×32 pixels or so. Module names are torchvision's.

The patch embedding, attention and perceptrons are over the algebra; layer norms, positions, the class token and the
classifier stay real. Features are component-major, and a head takes its share of every component.
Source: Dosovitskiy et al., *An image is worth 16×16 words*, 2021; hypercomplex attention: Tay et al. 2019.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from .. import init
from ..widths import transformer_widths
from ._factory import LayerFactory, zero_first

_EPS = 1e-6  # of every layer norm, as published


class EncoderBlock(nn.Module):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x)): the norm comes first, as published."""

    def __init__(self, layers: LayerFactory, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=_EPS, **layers.placement)
        self.self_attention = layers.attention(dim, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(dim, eps=_EPS, **layers.placement)
        wide, narrow = layers.linear(dim, hidden), layers.linear(hidden, dim)
        self.mlp = nn.Sequential(wide, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))
        for linear in (wide, narrow):
            init.xavier_uniform_(linear)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Adds the learned positions, then the blocks and a last layer norm. x: (batch, tokens, dim)."""

    def __init__(
        self, layers: LayerFactory, tokens: int, dim: int, depth: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, dim, **layers.placement).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        blocks = {f"encoder_layer_{i}": EncoderBlock(layers, dim, heads, hidden, dropout) for i in range(depth)}
        self.layers = nn.Sequential(OrderedDict(blocks))
        self.ln = nn.LayerNorm(dim, eps=_EPS, **layers.placement)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class VisionTransformer(nn.Module):
    """Patches as tokens, a transformer encoder, and a linear classifier of the class token or of the tokens' mean.

    input: (batch, in_channels, size, size); output: (batch, num_classes). Raises ValueError for another size.
    """

    class_token: nn.Parameter | None

    def __init__(
        self,
        layers: LayerFactory,
        *,
        size: int,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        class_token: bool,
        dropout: float,
        num_classes: int,
        in_channels: int,
        pad: str,
    ) -> None:
        super().__init__()
        self.size = size
        self.conv_proj = layers.stem_conv2d(pad, in_channels, dim, patch, stride=patch)
        self.in_channels = int(self.conv_proj.in_channels)  # type: ignore[arg-type]
        init.kaiming_normal_(self.conv_proj, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.conv_proj.bias)  # type: ignore[arg-type]
        token = nn.Parameter(torch.zeros(1, 1, dim, **layers.placement)) if class_token else None
        self.register_parameter("class_token", token)
        tokens = (size // patch) ** 2 + (1 if class_token else 0)
        self.encoder = Encoder(layers, tokens, dim, depth, heads, hidden, dropout)
        # torchvision's name; it starts at zero there, which hides the rest of the net from the first gradient
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(dim, num_classes, **layers.placement)))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.size, self.size):
            raise ValueError(f"positions are for images of {self.size}×{self.size}, not {tuple(x.shape[-2:])}")
        x = self.conv_proj(zero_first(x, self.in_channels)).flatten(2).transpose(1, 2)
        if self.class_token is None:
            return self.heads(self.encoder(x).mean(1))
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)
        return self.heads(self.encoder(tokens)[:, 0])


def vit(
    *,
    in_channels: int = 3,
    num_classes: int = 10,
    size: int = 32,
    patch: int = 4,
    dim: int = 192,
    depth: int = 6,
    heads: int = 3,
    mlp_ratio: float = 4.0,
    class_token: bool = True,
    dropout: float = 0.0,
    width_scale: float = 1.0,
    pad: str = "zero_first",
    **algebra: Any,
) -> VisionTransformer:
    """A vision transformer; ``algebra`` holds the keywords of ``LayerFactory``, but rank.

    size, patch: sides of the image and of a patch; dim: features of a token; the perceptrons are mlp_ratio times as
    wide. dim and that width are scaled by ``width_scale``, dim to a multiple of n times heads. Without class_token,
    the mean of the tokens is classified. Raises ValueError if patch does not divide size, heads not dim, or n not
    dim / heads and the perceptrons' width.
    """
    layers = LayerFactory(**algebra)
    if size % patch:
        raise ValueError(f"patch={patch} does not divide size={size}")
    final, hidden = transformer_widths(dim, heads, mlp_ratio, width_scale, layers.resolved.n)
    return VisionTransformer(
        layers,
        size=size,
        patch=patch,
        dim=final,
        depth=depth,
        heads=heads,
        hidden=hidden,
        class_token=class_token,
        dropout=dropout,
        num_classes=num_classes,
        in_channels=in_channels,
        pad=pad,
    )
