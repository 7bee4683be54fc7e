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

from phnn.algebras import algebra

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
            term = op(x[j], F[i])
            for k in range(n):
                if T.requires_grad or T[i, j, k]:
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


def rotation_blocks(F: Tensor, scale: Tensor) -> Tensor:
    """(4, 4, out/4, in/4, *kernel): the coordinates of s u e_j u^-1, from quaternion products."""
    T = torch.tensor(algebra("quaternion").T)

    def multiply(x: list[Any], y: list[Any]) -> list[Any]:
        return [sum(T[i, j, k] * x[i] * y[j] for i in range(4) for j in range(4)) for k in range(4)]

    u = list(F)
    norm2 = sum(part * part for part in u)
    inverse = [part / norm2 * (1 if k == 0 else -1) for k, part in enumerate(u)]
    columns = []
    for j in range(4):
        basis = [torch.full_like(scale, float(k == j)) for k in range(4)]
        columns.append(torch.stack([scale * part for part in multiply(multiply(u, basis), inverse)]))
    return torch.stack(columns, 1)


def rotation(module: Any, params: Params, x: Tensor) -> Tensor:
    R = rotation_blocks(params["F"], params["scale"])
    dims = R.dim() - 4
    y = []
    for k in range(4):
        parts = x.chunk(4, -1 if dims == 0 else x.dim() - dims - 1)
        if dims == 0:
            y.append(sum(parts[j] @ R[k, j].T for j in range(4)))
        else:
            geometry = (module.stride, module.padding, module.dilation, module.groups)
            y.append(sum(_CONV[dims](parts[j], R[k, j], None, *geometry) for j in range(4)))
    bias = params.get("bias")
    together = torch.cat(y, -1 if dims == 0 else x.dim() - dims - 1)
    return _biased(together, bias, dims) if dims else together + (0 if bias is None else bias)


# --------------------------------------------------------------------------------------------------- sequences


def recurrent(module: Any, params: Params, x: Tensor) -> Tensor:
    """The output of RNN, GRU or LSTM from zero states, one time step of one direction after the other."""
    x = x.transpose(0, 1) if module.batch_first else x
    for layer in range(module.num_layers):
        outputs = []
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            suffix = f"_l{layer}{direction}"
            own = {name.removesuffix(suffix): p for name, p in params.items() if name.endswith(suffix)}
            steps = x.flip(0) if direction else x
            y = _run_direction(module, own, steps)
            outputs.append(y.flip(0) if direction else y)
        x = torch.cat(outputs, -1)
        if module.bidirectional and layer + 1 < module.num_layers:  # component-major for the next layer
            parts = [torch.cat([o.chunk(module.n, -1)[j] for o in outputs], -1) for j in range(module.n)]
            x = torch.cat(parts, -1)
    return x.transpose(0, 1) if module.batch_first else x


def _run_direction(module: Any, own: Params, steps: Tensor) -> Tensor:
    size, kind = module.hidden_size, type(module).__name__
    h = c = torch.zeros(steps.shape[1], size, dtype=torch.float64)
    outputs = []
    for x in steps:
        i = _gates(module, own, "ih", x)
        r = _gates(module, own, "hh", h)
        if kind == "PHRNN":
            h = (torch.tanh if module.nonlinearity == "tanh" else torch.relu)(i[0] + r[0])
        elif kind == "PHGRU":
            reset, update = torch.sigmoid(i[0] + r[0]), torch.sigmoid(i[1] + r[1])
            h = (1 - update) * torch.tanh(i[2] + reset * r[2]) + update * h
        else:
            enter, forget, leave = (torch.sigmoid(i[g] + r[g]) for g in (0, 1, 3))
            c = forget * c + enter * torch.tanh(i[2] + r[2])
            h = leave * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def _gates(module: Any, own: Params, end: str, x: Tensor) -> list[Tensor]:
    """w*x + bias of every gate, each with filters of its own."""
    T = structure(module, own.get(f"A_{end}"))
    filters = own[f"F_{end}"].chunk(module.gates, 1)
    biases = own[f"bias_{end}"].chunk(module.gates) if module.bias else [None] * module.gates
    return [linear(T, x, F, bias) for F, bias in zip(filters, biases, strict=True)]


def _under(params: Params, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix + "."): p for name, p in params.items() if name.startswith(prefix + ".")}


def projected(module: Any, params: Params, name: str, x: Tensor) -> Tensor:
    """x through the PHLinear called ``name``."""
    own = _under(params, name)
    return linear(structure(module, own.get("A")), x, own["F"], own.get("bias"))


def attention(module: Any, params: Params, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if not module.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    q, k, v = (
        projected(module, params, f"{name}_proj", x) for name, x in zip("qkv", (query, key, value), strict=True)
    )
    if "bias_k" in params:
        batch = k.shape[0]
        k = torch.cat([k, params["bias_k"].repeat(batch, 1, 1)], 1)
        v = torch.cat([v, params["bias_v"].repeat(batch, 1, 1)], 1)
    if module.add_zero_attn:
        k, v = (torch.cat([x, torch.zeros_like(x[:, :1])], 1) for x in (k, v))
    share = module.head_dim // module.n
    heads = []
    for head in range(module.num_heads):
        own = [c * (module.embed_dim // module.n) + head * share + s for c in range(module.n) for s in range(share)]
        scores = q[..., own] @ k[..., own].transpose(1, 2) / module.head_dim**0.5
        heads.append((own, torch.softmax(scores, -1) @ v[..., own]))
    order = torch.tensor([channel for own, _ in heads for channel in own])
    joined = torch.cat([head for _, head in heads], -1)[..., order.argsort()]
    y = projected(module, params, "out_proj", joined)
    return y if module.batch_first else y.transpose(0, 1)


def encoder_layer(module: Any, params: Params, x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        own = getattr(module, name)
        bias = params.get(f"{name}.bias")
        return nnf.layer_norm(x, own.normalized_shape, params[f"{name}.weight"], bias, own.eps)

    def attend(x: Tensor) -> Tensor:
        return attention(module.self_attn, _under(params, "self_attn"), x, x, x)

    def mlp(x: Tensor) -> Tensor:
        return projected(module, params, "linear2", module.activation(projected(module, params, "linear1", x)))

    if module.norm_first:
        x = x + attend(norm("norm1", x))
        return x + mlp(norm("norm2", x))
    x = norm("norm1", x + attend(x))
    return norm("norm2", x + mlp(x))


# ------------------------------------------------------------------------------------------------------- norms


def batch_norm(module: Any, params: Params, x: Tensor) -> Tensor:
    """With the statistics of the batch: each component of each channel by itself."""
    y = torch.empty_like(x)
    channels = module.num_features // module.n
    for k in range(module.n):
        for c in range(channels):
            own = x[:, k * channels + c]
            centred = (own - own.mean()) / (own.var(unbiased=False) + module.eps).sqrt()
            weight = params["weight"][c] if "weight" in params else 1.0
            bias = params["bias"][k * channels + c] if "bias" in params else 0.0
            y[:, k * channels + c] = weight * centred + bias
    return y


def whitening(module: Any, params: Params, x: Tensor) -> Tensor:
    """With the statistics of the batch: the components of each channel decorrelated."""
    n, channels = module.n, module.num_features // module.n
    y = torch.empty_like(x)
    for c in range(channels):
        own = x[:, c::channels].transpose(0, 1).flatten(1)
        centred = own - own.mean(1, keepdim=True)
        V = centred @ centred.T / own.shape[1] + module.eps * torch.eye(n, dtype=x.dtype)
        if module.method == "zca":
            values, vectors = torch.linalg.eigh(V)
            K = vectors @ torch.diag(values**-0.5) @ vectors.T
        else:
            K = torch.linalg.inv(torch.linalg.cholesky(V))
        white = (params["weight"][c] if "weight" in params else torch.eye(n, dtype=x.dtype)) @ K @ centred
        bias = params["bias"][c::channels].unsqueeze(1) if "bias" in params else 0.0
        y[:, c::channels] = (white + bias).unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1)
    return y


_BY_KIND: dict[str, Callable[..., Tensor]] = {
    "PHConvTranspose": lambda m, p, x: conv_transpose(m, structure(m, p.get("A")), x, p["F"], p.get("bias")),
    "PHConv": lambda m, p, x: conv(m, structure(m, p.get("A")), x, p["F"], p.get("bias")),
    "PHLinear": lambda m, p, x: linear(structure(m, p.get("A")), x, p["F"], p.get("bias")),
    "PHMultiheadAttention": attention,
    "PHTransformerEncoderLayer": encoder_layer,
    "PHRNN": recurrent,
    "PHGRU": recurrent,
    "PHLSTM": recurrent,
    "QuaternionRotation": rotation,
    "PHBatchNorm": batch_norm,
    "PHWhitening": whitening,
    "PHDropout": lambda m, p, x: x * (1 - m.p) if m.training else x,
}


def reference(module: nn.Module, params: Params, *inputs: Tensor) -> Tensor:
    """The output of a layer (the first, where there are several) from float64 parameters and inputs."""
    name = type(module).__name__
    return next(of for kind, of in _BY_KIND.items() if name.startswith(kind))(module, params, *inputs)


def relative_error(y: Tensor, reference: Tensor) -> float:
    """||y - y64|| / ||y64|| over the whole tensor."""
    reference = reference.detach()
    return float((y.detach().double() - reference).norm() / reference.norm().clamp_min(1e-300))
