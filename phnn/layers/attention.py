"""PHMultiheadAttention and PHTransformerEncoderLayer: torch.nn's attention with projections over any algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from .. import init
from ..algebras import Algebra, near_matches
from ..widths import misfit
from ._base import OverAlgebra
from .linear import PHLinear

Activation = Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, Activation] = {"relu": nnf.relu, "gelu": nnf.gelu}

# as this file sees it: an nn.Module with nn.Linear's arguments, whatever the algebra
_linear: Callable[..., Any] = PHLinear


class PHMultiheadAttention(OverAlgebra):
    """Scaled dot product attention between linear projections over an algebra.

    head = softmax(q k^T / sqrt(E / H) + mask) v; output = out_proj(heads). query, key, value, masks and outputs are
    those of nn.MultiheadAttention; features are component-major. A head takes its share of every component, so that
    no two heads repeat each other's filters. Modules: q_proj, k_proj, v_proj, out_proj (PHLinear); parameters
    bias_k, bias_v with add_bias_kv. With ``need_weights=False`` torch's fused attention runs. Raises ValueError if n
    does not divide embed_dim / num_heads, kdim and vdim.
    Source: Vaswani et al., *Attention is all you need*, 2017; Tay et al., *Lightweight and efficient neural natural
    language processing with quaternion networks*, 2019.
    """

    namesake = nn.MultiheadAttention

    bias_k: nn.Parameter | None
    bias_v: nn.Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        path: str = "auto",
        rule: nn.Parameter | None = None,
        rule_init: str | Algebra | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1:
            raise ValueError(f"embed_dim={embed_dim} and num_heads={num_heads} must be greater than 0")
        if embed_dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embed_dim={embed_dim}")
        kdim, vdim = kdim or embed_dim, vdim or embed_dim
        self._resolve(algebra, n, rule, kdim=kdim, vdim=vdim)
        if reason := misfit(self.n, **{"embed_dim per head": embed_dim // num_heads}):
            raise ValueError(f"{type(self).__name__}: {reason}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim, self.dropout = kdim, vdim, dropout
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        kind = {"algebra": self.algebra, "path": path, "rule": rule, "rule_init": rule_init}
        self.q_proj = _linear(embed_dim, embed_dim, bias, **place, **kind)
        self.k_proj = _linear(kdim, embed_dim, bias, **place, **kind)
        self.v_proj = _linear(vdim, embed_dim, bias, **place, **kind)
        self.out_proj = _linear(embed_dim, embed_dim, bias, **place, **kind)
        for name in ("bias_k", "bias_v"):
            extra = nn.Parameter(torch.empty(1, 1, embed_dim, **place)) if add_bias_kv else None
            self.register_parameter(name, extra)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the variances of torch's: Glorot for q, k and v, no bias."""
        stacked = self.kdim == self.vdim == self.embed_dim  # torch then holds q, k and v in one matrix of 3 E rows
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            projection.reset_parameters()
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            fan_in, fan_out = init.fans(projection.F)
            init.uniform_(projection.F, projection.A, math.sqrt(2 / (fan_in + (3 if stacked else 1) * fan_out)))
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                nn.init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Masks as in torch: True, or -inf, where a query must not look. is_causal alone stands for its mask."""
        batched = query.dim() == 3
        if query.dim() not in (2, 3) or key.dim() != query.dim() or value.dim() != query.dim():
            dims = query.dim(), key.dim(), value.dim()
            raise ValueError(f"query, key and value are 2D (unbatched) or 3D alike, not {dims}")
        if any(x.is_nested for x in (query, key, value)):
            raise ValueError("nested tensors are not supported: pad them, and give key_padding_mask")
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        self._check_shapes(query, key, value, key_padding_mask, attn_mask)
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        extra = self._extra(k, v)
        if extra:
            k, v = (torch.cat([x, *more], 1) for x, more in zip((k, v), zip(*extra, strict=True), strict=True))
        fused_causal = is_causal and key_padding_mask is None and not (need_weights or extra)
        mask = None if fused_causal else self._mask(q, k, key_padding_mask, attn_mask, is_causal, len(extra))
        q, k, v = self._split(q), self._split(k), self._split(v)
        heads, weights = self._attend(q, k, v, mask, fused_causal, need_weights)
        output = self.out_proj(self._join(heads))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _check_shapes(
        self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None
    ) -> None:
        """Refuse, batch first, what would broadcast without having been meant to."""
        batch, length, keys = query.shape[0], query.shape[1], key.shape[1]
        if key.shape[0] != batch or value.shape[:2] != key.shape[:2]:
            shapes = [tuple(x.shape[:2]) for x in (query, key, value)]
            raise ValueError(f"(batch, length) of query, key and value do not fit each other: {shapes}")
        allowed: tuple[list[tuple[int, ...]], ...] = (
            [(batch, keys)],
            [(length, keys), (batch * self.num_heads, length, keys)],
        )
        for name, given, shapes in zip(("key_padding_mask", "attn_mask"), (padding, mask), allowed, strict=True):
            if given is None:
                continue
            if given.dtype is not torch.bool and not given.is_floating_point():
                raise ValueError(f"{name} is boolean or floating point, not {given.dtype}")
            if tuple(given.shape) not in shapes:
                raise ValueError(f"{name} has shape {tuple(given.shape)}, not {' or '.join(map(str, shapes))}")

    def _extra(self, k: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values that every query sees besides the given ones."""
        extra = []
        if self.bias_k is not None and self.bias_v is not None:
            shape = (k.shape[0], 1, self.embed_dim)
            extra.append((self.bias_k.expand(shape).to(k.dtype), self.bias_v.expand(shape).to(v.dtype)))
        if self.add_zero_attn:
            extra.append((torch.zeros_like(k[:, :1]), torch.zeros_like(v[:, :1])))
        return extra

    def _mask(
        self,
        q: Tensor,
        k: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
        extra: int,
    ) -> Tensor | None:
        """What is added to q k^T, broadcast over (batch, head, query, key); None if nothing is."""
        mask: Tensor | None = None
        if attn_mask is None and is_causal:
            attn_mask = torch.ones(q.shape[1], k.shape[1] - extra, dtype=torch.bool, device=q.device).triu(1)
        if attn_mask is not None:
            given = _additive(attn_mask, q.dtype)
            mask = given if given.dim() == 2 else given.unflatten(0, (q.shape[0], self.num_heads))
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, q.dtype)[:, None, None]
            mask = padding if mask is None else mask + padding
        return mask if mask is None or not extra else nnf.pad(mask, (0, extra))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Heads (batch, head, query, head_dim), and their weights (batch, head, query, key) where they are needed."""
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return nnf.scaled_dot_product_attention(q, k, v, mask, dropout, causal), None
        scores = (q / math.sqrt(self.head_dim)) @ k.transpose(-2, -1)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        weights = nnf.dropout(weights, dropout) if dropout else weights
        return weights @ v, weights

    def _split(self, x: Tensor) -> Tensor:
        """(batch, length, embed_dim) to (batch, head, length, head_dim): each head its share of every component."""
        parts = x.unflatten(-1, (self.n, self.num_heads, -1))
        return parts.permute(0, 3, 1, 2, 4).flatten(3)

    def _join(self, heads: Tensor) -> Tensor:
        """The inverse of ``_split``."""
        return heads.unflatten(-1, (self.n, -1)).permute(0, 2, 3, 1, 4).flatten(2)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add: -inf where a boolean one is True."""
    if mask.dtype is not torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)


class PHTransformerEncoderLayer(OverAlgebra):
    """Self-attention and a two-layer perceptron over an algebra, each with a residual and a layer norm.

    norm_first: x + attention(norm1(x)), x + mlp(norm2(x)); otherwise the norm follows the sum. src, masks and output
    are those of nn.TransformerEncoderLayer. Layer norms stay real: they act on all features of a position. Raises
    ValueError if n does not divide d_model / nhead and dim_feedforward.
    Source: Vaswani et al., *Attention is all you need*, 2017; Zhang et al. 2021 (PHM).
    """

    namesake = nn.TransformerEncoderLayer

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = nnf.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        path: str = "auto",
        rule: nn.Parameter | None = None,
        rule_init: str | Algebra | None = None,
    ) -> None:
        super().__init__()
        if isinstance(activation, str) and activation not in _ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}{near_matches(activation, list(_ACTIVATIONS))}")
        self._resolve(algebra, n, rule, dim_feedforward=dim_feedforward)
        self.activation = _ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.norm_first = norm_first
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        kind: dict[str, Any] = {"algebra": self.algebra, "path": path, "rule": rule, "rule_init": rule_init}
        self.self_attn = PHMultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **place, **kind
        )
        self.linear1 = _linear(d_model, dim_feedforward, bias, **place, **kind)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = _linear(dim_feedforward, d_model, bias, **place, **kind)
        self.norm1 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = src + self._attention(self.norm1(src), *masks)
            return x + self._mlp(self.norm2(x))
        x = self.norm1(src + self._attention(src, *masks))
        return self.norm2(x + self._mlp(x))

    def _attention(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        y, _ = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)
        return self.dropout1(y)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
