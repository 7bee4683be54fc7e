"""PHLinear: torch.nn.Linear over any algebra."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..functional import BUILDS_W
from ._base import PHLayer


class PHLinear(PHLayer):
    """y = x W^T + b with W = sum_i A_i (x) F_i.

    x: (..., in_features), component-major; y: (..., out_features). Parameters: F (n, out/n, in/n), bias (out,),
    and A (n, n, n) if the rule is learned. Raises ValueError if n does not divide both widths.
    Source: Zhang et al., *Beyond fully-connected layers with quaternions*, 2021 (PHM).
    """

    namesake = nn.Linear
    tunable = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        path: str = "auto",
        rule: nn.Parameter | None = None,
        rule_init: str | Algebra | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        template = nn.Linear(in_features, out_features, bias, device="meta")
        widths = {"in_features": in_features, "out_features": out_features}
        self._setup(template, algebra, n, path, rule, rule_init, rank, device, dtype, **widths)

    def forward(self, input: Tensor) -> Tensor:
        plan = self._plan(input)
        if plan.packed and (y := self._packed_linear(input, plan)) is not None:
            return y
        if plan.path in BUILDS_W or (y := self._linear(input, plan)) is None:
            return nnf.linear(input, self._weight(plan), self.bias)
        return y

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, {self._algebra_repr()}"
