"""Inverse roots of covariances V (c, n, n): K with K V K^T = 1, each with gradients of any order that V can stand.

Neither divides by a difference of eigenvalues, so that equal ones upset no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def inverse_factor(V: Tensor) -> Tensor:
    """L^-1 for V = L L^T, lower triangular."""
    return _InverseFactor.apply(V)


def inverse_root(V: Tensor) -> Tensor:
    """V^-1/2, symmetric."""
    return _InverseRoot.apply(V)[0]


class _InverseFactor(torch.autograd.Function):
    """K = L^-1: dK = -P(K dV K^T) K with P the lower triangle that has half the diagonal, which adjoints to K alone.

    Source: Murray, *Differentiation of the Cholesky decomposition*, 2016.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(V: Tensor) -> Tensor:
        L = torch.linalg.cholesky(V)
        eye = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device).expand_as(V)
        return torch.linalg.solve_triangular(L, eye, upper=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (K,) = ctx.saved_tensors
        P = (grad @ K.mT).tril()
        P = P - 0.5 * torch.diag_embed(P.diagonal(0, -2, -1))
        slope = K.mT @ P @ K
        return -0.5 * (slope + slope.mT)


class _InverseRoot(torch.autograd.Function):
    """V^-1/2 of symmetric positive definite V, of eigenvalues r^2 and eigenvectors U.

    dK = U (G * (U^T dV U)) U^T with G_ij = (f(l_i) - f(l_j)) / (l_i - l_j), which for f(l) = l^-1/2 is
    -1 / (r_i r_j (r_i + r_j)). Source: Daleckii and Krein, 1965.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eigenvalues, U = torch.linalg.eigh(V)
        # rounding may have made the least of them negative
        r = eigenvalues.clamp_min(torch.finfo(V.dtype).eps * eigenvalues[..., -1:]).sqrt()
        return (U / r.unsqueeze(-2)) @ U.mT, r, U

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, r, U = output
        ctx.mark_non_differentiable(r, U)
        ctx.save_for_backward(*inputs, r, U)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Tensor:
        V, r, U = ctx.saved_tensors
        return _Slope.apply(V, grad, r, U)


class _Slope(torch.autograd.Function):
    """The derivative of V^-1/2 in the direction of X, symmetrised: linear and self-adjoint in X.

    Its own derivative in V is sum_k f_ikj (X_ik Y_kj + Y_ik X_kj) in U's coordinates, with the second divided
    difference f_ikj = (r_i + r_k + r_j) / (r_i r_k r_j (r_i + r_k)(r_k + r_j)(r_i + r_j)).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(V: Tensor, X: Tensor, r: Tensor, U: Tensor) -> Tensor:
        a, b = r.unsqueeze(-1), r.unsqueeze(-2)
        slope = U @ ((U.mT @ X @ U) / -(a * b * (a + b))) @ U.mT
        return 0.5 * (slope + slope.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, Y: Tensor) -> tuple[Tensor | None, ...]:
        V, X, r, U = ctx.saved_tensors
        x, y = (U.mT @ (0.5 * (t + t.mT)) @ U for t in (X, Y))
        i, k, j = r[..., :, None, None], r[..., None, :, None], r[..., None, None, :]
        f = (i + k + j) / (i * k * j * (i + k) * (k + j) * (i + j))
        curve = (f * (x.unsqueeze(-1) * y.unsqueeze(-3))).sum(-2)
        curve = U @ (curve + curve.mT) @ U.mT
        return curve, _Slope.apply(V, Y, r, U), None, None
