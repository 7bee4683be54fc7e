"""Every layer in float64, straight from its definition: loops over i, j, k, one real operation at a time.

y_k = sum_ij T[i, j, k] op(x_j, F_i), where op is torch.nn.functional's real operation on one component's channels.
Slow on purpose, and shares no code with phnn but the table T of an algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

Params = Mapping[str, Tensor]
_CONV: dict[int, Any] = {1: nnf.conv1d, 2: nnf.conv2d, 3: nnf.conv3d}
_CONV_TRANSPOSE: dict[int, Any] = {1: nnf.conv_transpose1d, 2: nnf.conv_transpose2d, 3: nnf.conv_transpose3d}


def parameters64(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters as float64 leaves of their own."""
    return {name: p.detach().double().requires_grad_() for name, p in module.named_parameters()}


def structure(module: nn.Module, A: Tensor | None) -> Tensor:
    """T (n, n, n): the algebra's own, or a learned A_i[k, j] = T[i, j, k]."""
    algebra: Any = module.algebra
    return torch.tensor(algebra.T) if A is None else A.transpose(1, 2)


def product(T: Tensor, x: list[Tensor], F: Tensor, op: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """The components of w*x."""
    n = len(x)
    y: list[Any] = [0.0] * n
    for i in range(n):
        for j in range(n):
            if not T[i, j].any():
                continue
            term = op(x[j], F[i])
            for k in range(n):
                y[k] = y[k] + T[i, j, k] * term
    return y


def multiply(T: Tensor, x: Tensor, F: Tensor, op: Callable[[Tensor, Tensor], Tensor], dim: int) -> Tensor:
    """w*x for component-major channels in dimension dim."""
    return torch.cat(product(T, list(x.chunk(T.shape[0], dim)), F, op), dim)


def linear(T: Tensor, x: Tensor, F: Tensor, bias: Tensor | None) -> Tensor:
    y = multiply(T, x, F, lambda x, F: x @ F.T, -1)
    return y if bias is None else y + bias


def conv(module: Any, T: Tensor, x: Tensor, F: Tensor, bias: Tensor | None) -> Tensor:
    dims = F.dim() - 3
    padding: Any = module.padding
    if module.padding_mode != "zeros":
        same = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        sides = [(t // 2, t - t // 2) for t in same] if padding == "same" else [(p, p) for p in padding]
        border = [side for pair in reversed(sides) for side in pair]
        if padding != "valid":
            x = nnf.pad(x, border, mode=module.padding_mode)
        padding = 0

    def op(x: Tensor, F: Tensor) -> Tensor:
        return _CONV[dims](x, F, None, module.stride, padding, module.dilation, module.groups)

    return _biased(multiply(T, x, F, op, x.dim() - dims - 1), bias, dims)


def conv_transpose(module: Any, T: Tensor, x: Tensor, F: Tensor, bias: Tensor | None) -> Tensor:
    dims = F.dim() - 3

    def op(x: Tensor, F: Tensor) -> Tensor:
        geometry = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
        return _CONV_TRANSPOSE[dims](x, F, None, *geometry)

    return _biased(multiply(T, x, F, op, x.dim() - dims - 1), bias, dims)


def _biased(y: Tensor, bias: Tensor | None, dims: int) -> Tensor:
    return y if bias is None else y + bias.reshape(-1, *(1,) * dims)


def reference(module: nn.Module, params: Params, *inputs: Tensor) -> Tensor:
    """The output of a layer with one weight (linear, conv, transposed conv), from float64 parameters and inputs."""
    T = structure(module, params.get("A"))
    kind = type(module).__name__
    if kind == "PHLinear":
        return linear(T, inputs[0], params["F"], params.get("bias"))
    if kind.startswith("PHConvTranspose"):
        return conv_transpose(module, T, inputs[0], params["F"], params.get("bias"))
    return conv(module, T, inputs[0], params["F"], params.get("bias"))


def relative_error(y: Tensor, reference: Tensor) -> float:
    """||y - y64|| / ||y64|| over the whole tensor."""
    reference = reference.detach()
    return float((y.detach().double() - reference).norm() / reference.norm().clamp_min(1e-300))
