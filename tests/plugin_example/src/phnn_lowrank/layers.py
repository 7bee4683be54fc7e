"""A linear layer whose weight is a product of two thin matrices."""

import torch
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """y = U V x + b, with V of shape (inner, in) and U of shape (out, inner)."""

    def __init__(self, in_features: int, out_features: int, inner: int, device=None, dtype=None) -> None:
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.V = nn.Parameter(torch.randn(inner, in_features, **place) * in_features**-0.5)
        self.U = nn.Parameter(torch.randn(out_features, inner, **place) * inner**-0.5)
        self.bias = nn.Parameter(torch.zeros(out_features, **place))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(nn.functional.linear(x, self.V), self.U, self.bias)
