"""What torch is doing around a call: which operators may run in it, and which results may outlive it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch.autograd import forward_ad


def unwatched(x: Tensor, like: Tensor) -> bool:
    """Whether operators may run on x, of the dtype of ``like``, that know plain inference and nothing else.

    They have no gradient, no tangent and no batching rule, autocast does not cast for them, no graph should hold
    them, and a counter of operations would not count them.
    """
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or x.dtype != like.dtype
        or torch._C._is_any_autocast_enabled()
        or transformed()
        or torch._C._len_torch_dispatch_stack()
    )


def transformed() -> bool:
    """Whether a transformation of functions is at work: vmap, or derivatives of torch.func or forward mode.

    Within one, tensors cannot tell their memory format.
    """
    if torch.compiler.is_compiling():
        return False
    return peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def lasting(value: Any) -> bool:
    """Whether a value may be kept: a fake, traced or batched tensor must not outlive its mode."""
    tensors = [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Tensor)]
    return all(type(t) in (Tensor, nn.Parameter) and not is_functorch_wrapped_tensor(t) for t in tensors)
