"""PHRNN, PHGRU, PHLSTM: torch.nn's recurrent layers over any algebra, run by torch's fused operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import init
from .._steps import kept_from
from ..algebras import Algebra
from ..cost import Cost, product_cost
from ..functional import BUILDS_W, ph_weight, regroup
from ._base import RuleHolder, check_path

_VF: Any = torch._VF  # the operators behind nn.RNN, nn.GRU and nn.LSTM

# the operators' names, and cuDNN's numbers for them
_CUDNN_MODE = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}


class _PHRecurrent(RuleHolder):
    """Recurrent layers whose input and hidden weights are stacks of one hypercomplex weight for each gate.

    W_ih = [sum_i A_i (x) F_i^(gate)], W_hh likewise, so that n must divide input_size and hidden_size alone. input,
    hx and output are those of the namesake, packed sequences included; features are component-major. Parameters of
    layer l, and of its reverse direction with the suffix _reverse: F_ih_l (n, gates hidden/n, in/n), F_hh_l,
    bias_ih_l, bias_hh_l, and A_ih_l, A_hh_l (n, n, n) if the rule is learned. A bidirectional output holds the
    forward features, then the backward ones: ``functional.ungroup(output, n, 2, -1)`` makes them component-major
    together, as the next layer of this module already takes them. Raises ValueError if n does not divide a width.
    The cells, with u = W_ih x + bias_ih and v = W_hh h + bias_hh: RNN h' = tanh(u + v), or relu; GRU
    h' = (1 - z) tanh(u_n + r v_n) + z h with r, z = sigmoid(u + v) of their gates; LSTM c' = f c + i tanh(u_g + v_g)
    and h' = o tanh(c') with i, f, o = sigmoid(u + v).
    Source: Parcollet et al., *Quaternion recurrent neural networks*, 2019.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    operator: str
    F_ih_l0: nn.Parameter

    def _setup(
        self,
        template: nn.RNNBase,
        algebra: str | Algebra,
        n: int | None,
        path: str,
        rule: nn.Parameter | None,
        rule_init: str | Algebra | None,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        """Make the parameters that take the place of ``template``'s, after torch has checked the arguments."""
        self.input_size, self.hidden_size = template.input_size, template.hidden_size
        self._resolve(algebra, n, rule, input_size=self.input_size, hidden_size=self.hidden_size)
        self.num_layers, self.bias, self.batch_first = template.num_layers, template.bias, template.batch_first
        self.dropout, self.bidirectional = template.dropout, template.bidirectional
        self.path, self.path_built, self.rule_init = check_path(path, BUILDS_W), None, rule_init
        self.rule_shared, self._cache = rule is not None, None
        n, columns = self.n, self.hidden_size // self.n * (2 if self.bidirectional else 1)
        rows = self.gates * self.hidden_size
        for i, suffix in enumerate(self._suffixes()):
            first = i < (2 if self.bidirectional else 1)
            for end, width in (("ih", self.input_size // n if first else columns), ("hh", self.hidden_size // n)):
                F = nn.Parameter(torch.empty(n, rows // n, width, device=device, dtype=dtype))
                if self.algebra.learned:
                    self._check_rule(rule, rule_init, F)
                    self._own_rule(f"A_{end}_{suffix}", rule, F)
                elif i == 0 and end == "ih":
                    self._check_rule(rule, rule_init, F)
                    self._fixed_rule(F)
                setattr(self, f"F_{end}_{suffix}", F)
            for end in ("ih", "hh") if self.bias else ():
                setattr(self, f"bias_{end}_{suffix}", nn.Parameter(torch.empty(rows, device=device, dtype=dtype)))
        self.reset_parameters()

    def _suffixes(self) -> list[str]:
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{layer}{direction}" for layer in range(self.num_layers) for direction in directions]

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """The pairs (A, F), in the order of torch's weights: input, then hidden, of each layer and direction."""
        names = [f"{end}_{suffix}" for suffix in self._suffixes() for end in ("ih", "hh")]
        learned = "A" not in self._buffers
        return [(getattr(self, f"A_{name}") if learned else self.A, getattr(self, f"F_{name}")) for name in names]

    def reset_parameters(self) -> None:
        """Draw all parameters anew: weights have the variance of torch's default, U(-1/sqrt(h), 1/sqrt(h))."""
        for A, F in self.factors():
            if self.algebra.learned and not self.rule_shared:
                init.rule_(A, self.rule_init)
            init.uniform_(F, A, init.default_std(self.hidden_size))
        for bias in self._biases():
            nn.init.uniform_(bias, -(self.hidden_size**-0.5), self.hidden_size**-0.5)

    def _biases(self) -> list[Tensor]:
        ends = ("ih", "hh") if self.bias else ()
        return [getattr(self, f"bias_{end}_{suffix}") for suffix in self._suffixes() for end in ends]

    def weights(self) -> dict[str, Tensor]:
        """The weights that the operator runs on, by their names in torch's state_dict."""
        names = [f"weight_{end}_{suffix}" for suffix in self._suffixes() for end in ("ih", "hh")]
        return dict(zip(names, self._build(), strict=True))

    def _build(self) -> list[Tensor]:
        path = self._resolved_path()
        if not torch.compiler.is_compiling():
            self.path_built = path
        built = [ph_weight(A, F, groups=self.gates, path=path) for A, F in self.factors()]
        if self.bidirectional:  # what enters a later layer is (direction, component, index)
            built[4::2] = [regroup(W, self.n, 2, 1) for W in built[4::2]]
        return built

    def _flat_weights(self) -> list[Tensor]:
        """All weights and biases in the operator's order: kept while nothing needs gradients and nothing changes."""
        tensors = [t for pair in self.factors() for t in pair] + self._biases()
        needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if (
            self.path == "kron"
            or needs_grad
            or torch.compiler.is_compiling()
            or any(t.is_inference() for t in tensors)
        ):
            return self._interleave(self._build(), self._biases())
        versions = [t._version for t in tensors]
        cache = self._cache
        if cache and cache[1] == versions and all(a is b for a, b in zip(cache[0], tensors, strict=True)):
            return cache[2]
        with torch.inference_mode(False), torch.no_grad():
            flat = self._interleave(self._build(), [bias.detach() for bias in self._biases()])
            if flat[0].is_cuda:
                flat = self._in_one_buffer(flat)
        if type(flat[0]) is Tensor:  # a fake or traced tensor must not outlive its mode
            kept_from(tensors)
            self._cache = (tensors, versions, flat)
        return flat

    @staticmethod
    def _interleave(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
        flat: list[Tensor] = []
        for i in range(0, len(weights), 2):
            flat += weights[i : i + 2]
            flat += biases[i : i + 2]
        return flat

    def _in_one_buffer(self, flat: list[Tensor]) -> list[Tensor]:
        """The same weights laid out as cuDNN wants them, so that it copies nothing in each call."""
        flat = [t.clone() for t in flat]
        if not torch.backends.cudnn.is_acceptable(flat[0]):
            return flat
        mode, stride = _CUDNN_MODE[self.operator], 4 if self.bias else 2
        sizes = (self.input_size, mode, self.hidden_size, 0, self.num_layers)
        torch._cudnn_rnn_flatten_weight(flat, stride, *sizes, self.batch_first, self.bidirectional)
        return flat

    def flatten_parameters(self) -> None:
        """Nothing to do: weights are built, and laid out as the operator wants them where they are kept."""

    # ------------------------------------------------------------------------------------------------- forward

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check_input(input, (2, 3))
        batch_dim = 0 if self.batch_first else 1
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(batch_dim)
        states = self._states(hx, x, x.shape[batch_dim], batched)
        settings = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, self.batch_first)
        flat = self._flat_weights()
        output, *states = self._operator()(self._traceable(x, flat), self._packed_states(states), flat, *settings)
        if not batched:
            output, states = output.squeeze(batch_dim), [state.squeeze(1) for state in states]
        return output, self._unpacked_states(states)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        x, batch_sizes, order, inverse = input
        self._check_input(x, (2,))
        states = self._states(hx, x, int(batch_sizes[0]), True)
        if hx is not None and order is not None:
            states = [state.index_select(1, order) for state in states]
        settings = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        arguments = (self._packed_states(states), self._flat_weights(), *settings)
        output, *states = self._operator()(x, batch_sizes, *arguments)
        if inverse is not None:
            states = [state.index_select(1, inverse) for state in states]
        return PackedSequence(output, batch_sizes, order, inverse), self._unpacked_states(states)

    def _operator(self) -> Any:
        return getattr(_VF, self.operator)

    def _traceable(self, x: Tensor, flat: list[Tensor]) -> Tensor:
        return x

    # one state in all but the LSTM
    def _packed_states(self, states: Sequence[Tensor]) -> Any:
        return states[0]

    def _unpacked_states(self, states: Sequence[Tensor]) -> Any:
        return states[0]

    def _given_states(self, hx: Any) -> list[Tensor]:
        if not isinstance(hx, Tensor):
            raise TypeError(f"{type(self).__name__}: hx is a tensor, not {type(hx).__name__}")
        return [hx]

    def _states(self, hx: Any, x: Tensor, batch: int, batched: bool) -> list[Tensor]:
        """The states that a call starts from: zeros, or hx once its shape is right."""
        shape = (len(self._suffixes()), batch, self.hidden_size)
        if hx is None:
            zeros = torch.zeros(shape, dtype=x.dtype, device=x.device)
            return [zeros] * self.states
        states = self._given_states(hx)
        if any(state.dim() != (3 if batched else 2) for state in states):
            form = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(f"for {form} input, hx is {form[-3:]} too, not {states[0].dim()}-D")
        states = states if batched else [state.unsqueeze(1) for state in states]
        for state in states:
            if state.shape != shape:
                raise RuntimeError(f"expected hidden size {shape}, got {tuple(state.shape)}")
        return states

    def _check_input(self, input: Tensor, dims: tuple[int, ...]) -> None:
        name, F = type(self).__name__, self.F_ih_l0
        if input.dim() not in dims:
            raise ValueError(f"{name}: expected input to be 2D or 3D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"{name}: input.size(-1) is {self.input_size}, not {input.shape[-1]}")
        if input.dtype != F.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"{name}: input must have the type {F.dtype}, got type {input.dtype}")

    def cost(self, input: Tensor | PackedSequence, output: Any) -> Cost:
        """Multiply-adds of the call on ``input``, by the layer's path: each step applies every weight once."""
        data = input.data if isinstance(input, PackedSequence) else input
        numel = sum(self.n * F.numel() for _, F in self.factors())
        positions = data.numel() // self.input_size
        return product_cost(self._resolved_path(), n=self.n, weight_numel=numel, positions=positions)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                text += f", {name}={value}"
        return f"{text}, {self._algebra_repr()}"


class PHRNN(_PHRecurrent):
    __doc__ = _PHRecurrent.__doc__
    namesake, gates = nn.RNN, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
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
        shape = (input_size, hidden_size, num_layers)
        template = nn.RNN(*shape, nonlinearity, bias, batch_first, dropout, bidirectional, device="meta")
        self.nonlinearity, self.operator = nonlinearity, f"rnn_{nonlinearity}"
        self._setup(template, algebra, n, path, rule, rule_init, device, dtype)


class _Gated(_PHRecurrent):
    """The signature that nn.GRU and nn.LSTM share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
        if proj_size:
            raise ValueError(f"{type(self).__name__}: proj_size={proj_size} is not supported, leave it at 0")
        shape = (input_size, hidden_size, num_layers)
        template = self.namesake(*shape, bias, batch_first, dropout, bidirectional, device="meta")
        self._setup(template, algebra, n, path, rule, rule_init, device, dtype)


class PHGRU(_Gated):
    __doc__ = _PHRecurrent.__doc__
    namesake, gates, operator = nn.GRU, 3, "gru"


class PHLSTM(_Gated):
    __doc__ = _PHRecurrent.__doc__
    namesake, gates, operator, states = nn.LSTM, 4, "lstm", 2

    def _packed_states(self, states: Sequence[Tensor]) -> Any:
        return states

    def _unpacked_states(self, states: Sequence[Tensor]) -> Any:
        return tuple(states)

    def _given_states(self, hx: Any) -> list[Tensor]:
        if isinstance(hx, Tensor) or len(hx) != 2:
            raise TypeError(f"{type(self).__name__}: hx is a pair of tensors (h, c), not {type(hx).__name__}")
        return list(hx)

    def _traceable(self, x: Tensor, flat: list[Tensor]) -> Tensor:
        # For an input without gradient, torch traces oneDNN's LSTM, which saves a missing tensor for the backward
        # pass and so cannot be compiled (torch 2.15); an input that depends on a weight keeps it away.
        if torch.compiler.is_compiling() and torch.is_grad_enabled() and flat[0].requires_grad:
            return x + 0 * flat[0].flatten()[0].to(x.dtype)
        return x
