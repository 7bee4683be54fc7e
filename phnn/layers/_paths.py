"""How a layer runs: which path a call takes, what is derived from the parameters for it, and for how long it is kept.

A mixin of PHLayer, which says what the parameters are; here is what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .._modes import lasting, transformed, unwatched
from .._steps import kept_from
from ..algebras import Algebra
from ..auto import auto_path
from ..bilinear import (
    GroupedOperator,
    bilinear_conv,
    bilinear_conv_in_chunks,
    bilinear_linear,
    bilinear_rows,
    rule_of_factors,
    transformed_filters,
)
from ..factored import factored_conv, factored_linear
from ..functional import Factors, batched
from ..kernels import KERNEL
from ..kernels import load as kernel_at_hand
from ..mixing import TORCH, Mixing
from ..packing import Packed, packed_conv, packed_linear, why_not_packed
from ..plan import PLAIN, Plan
from ..rank import Decomposition, decompose, exact_decomposition
from ..tolerances import roundoff

Geometry = tuple[Sequence[int], str | Sequence[int], Sequence[int]]  # stride, padding, dilation
Operands = tuple[Tensor, Tensor, Tensor]  # filters, b, c

DENSE = PLAIN["dense"]
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_MOST_SHAPES = 64  # remembered choices of an untuned layer; more shapes than that are not worth remembering


class Paths(nn.Module):
    """Runs a layer along its path, and keeps what the path derives from the parameters."""

    tunable: ClassVar[bool] = False  # its forward follows plans

    algebra: Algebra
    n: int
    transposed: ClassVar[bool] = False  # W maps from its rows to its columns, as in a transposed convolution
    path: str
    path_built: str | None  # the path of the latest call
    rank: int | None  # of a rule that is parametrised by its factors
    A: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    F: nn.Parameter
    bias: nn.Parameter | None
    _decomposition: Decomposition | None
    _cache: dict[str, Any] | None
    _tuned: dict[str, Plan]
    _made_of: tuple[str, ...]  # names of the parameters that W is built from
    _columns: int  # channels of the input

    if TYPE_CHECKING:

        def _build(self, path: str | None = None) -> Tensor: ...

    # ------------------------------------------------------------------------------------------ rule and factors

    @property
    def _groups(self) -> int:
        return getattr(self, "groups", 1)

    def _rule(self) -> Tensor:
        """A (n, n, n): the parameter, the constant, or what the factors make."""
        return self.A if self.rank is None else rule_of_factors(self.a, self.b, self.c)

    def _sources(self) -> tuple[Tensor, ...]:
        """The tensors that everything else is derived from, and that may change."""
        # attributes of a module are looked up in _parameters, the long way round; one that is computed from others
        # (weight norm, pruning) is not there, and is another tensor each time
        own = self._parameters
        return tuple([own[name] if name in own else getattr(self, name) for name in self._made_of])  # type: ignore[misc]

    def _fits(self, x: Tensor) -> bool:
        """Whether x is an input of this layer; what is not is ``dense``'s to refuse, in torch's words."""
        size = self.F.dim() - 3
        dims = x.dim() - size
        return dims > 0 and x.shape[-size - 1] == self._columns and (dims < 3 or not size)

    def _known_decomposition(self) -> Decomposition | None:
        # only a layer that is told to run the bilinear path waits for a search
        return decompose(self.algebra) if self.path == "bilinear" else exact_decomposition(self.algebra)

    def _factors_of(self, found: Decomposition) -> Factors:
        a, b, c = (torch.tensor(m, device=self.F.device, dtype=self.F.dtype) for m in (found.a, found.b, found.c))
        return a, b, c

    def decompose(self, rank: int | None = None) -> Decomposition:
        """Prepare the bilinear path: find the decomposition of the rule as it is now (``phnn.rank.decompose``).

        A learned rule may take a moment. Inference then runs ``bilinear`` where the path says so, until the rule
        changes; with gradients on, after a change, and in compiled graphs the layer runs ``dense``. Raises
        ValueError for a rule that is parametrised by its factors, which needs no preparation.
        """
        if self.rank is not None:
            raise ValueError(f"rank={self.rank}: this rule is made of its factors already")
        if self.algebra.learned:
            of: Algebra | Any = self.A.detach().double().cpu().numpy().transpose(0, 2, 1)
        else:
            of = self.algebra
        self._decomposition = found = decompose(of, rank)
        if not self.algebra.learned:
            self.a, self.b, self.c = self._factors_of(found)
        self.clear_cache()
        return found

    @property
    def decomposed(self) -> bool:
        """Whether inference can run ``bilinear`` as the rule is now."""
        with torch.no_grad():
            return self._factors() is not None

    def _known_rank(self) -> int | None:
        return self.rank or (self._decomposition.rank if self._decomposition else None)

    def _factors(self) -> Factors | None:
        """(a, b, c), each (R, n), as they stand; None where there are none that are good enough."""
        if self.rank is not None or not self.algebra.learned:
            return None if self.a is None else (self.a, self.b, self.c)
        found = self._decomposition
        if found is None or torch.compiler.is_compiling() or self._needs_grad(self._sources()):
            return None
        A = self.A.detach().double().cpu()
        change = (torch.from_numpy(found.rebuilt()).transpose(1, 2) - A).norm() / A.norm()
        return self._factors_of(found) if change <= roundoff(str(self.F.dtype).removeprefix("torch.")) else None

    # -------------------------------------------------------------------------------------------- which path

    def _plan(self, x: Tensor) -> Plan:
        """How to run on x: the layer's path, else the tuned plan of this phase, else ``phnn.auto``'s guess."""
        if self.path != "auto":
            return PLAIN[self.path]
        phase = "train" if torch.is_grad_enabled() else "infer"
        tuned = self._tuned.get(phase)
        return self._guess(x, phase) if tuned is None else tuned

    def _guess(self, x: Tensor, phase: str) -> Plan:
        last = x.dim() in _FORMATS and x.stride(1) == 1 and x.shape[1] > 1
        if torch.compiler.is_compiling():
            # a program for any batch follows no guess about one
            free = torch.compiler.is_exporting() and any(isinstance(size, torch.SymInt) for size in x.shape)
            return DENSE if free else PLAIN[self._auto(x, phase, last)]
        # kept with what is derived, since it depends on the layer's dtype, device and decomposition too
        cache = self._cache
        if cache is None:
            cache = self._cache = {}
        key, guesses = (x.shape, x.dtype, last, phase), cache.setdefault("guesses", {})
        plan = guesses.get(key)
        if plan is None:
            if len(guesses) >= _MOST_SHAPES:
                guesses.clear()
            plan = guesses[key] = PLAIN[self._auto(x, phase, last)]
        return plan

    def _auto(self, x: Tensor, phase: str, channels_last: bool) -> str:
        F, kernel = self.F, self.F.shape[3:]
        convolution = bool(kernel)
        channels = self.n * (F.shape[1] if self.transposed else F.shape[2] * self._groups)
        taps = 1
        for size in kernel:
            taps *= size
        stride = 1
        for step in getattr(self, "stride", ()) if not self.transposed else ():
            stride *= step
        return auto_path(
            n=self.n,
            rank=None if self.algebra.learned and self.rank is None and phase == "train" else self._known_rank(),
            rows=F.shape[1] // (1 if self.transposed else self._groups),
            columns=F.shape[2],
            taps=taps,
            positions=x.numel() // channels // stride,
            dtype=str(x.dtype).removeprefix("torch."),
            device=x.device.type,
            phase=phase,
            convolution=convolution,
            channels_last=channels_last,
        )

    def _note(self, path: str) -> None:
        # reading is cheap, setting an attribute of a module is not
        if self.path_built != path and not torch.compiler.is_compiling():
            self.path_built = path

    # ------------------------------------------------------------------------------------- what a path keeps

    def _needs_grad(self, sources: tuple[Tensor, ...]) -> bool:
        return torch.is_grad_enabled() and any(source.requires_grad for source in sources)

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        """make(), kept until a parameter changes; made anew where its gradient is needed."""
        sources = self._sources()
        # a graph must hold how things are made
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and self._needs_grad(sources)):
            return make()
        cache = self._cache
        if cache is not None and (entry := cache.get(what)) is not None:
            for source, (same, version) in zip(sources, entry[0], strict=True):
                if source is not same or source._version != version:
                    break
            else:
                return entry[1]
        if any(source.is_inference() for source in sources):  # these have no version to compare
            return make()
        versions = [(source, source._version) for source in sources]  # before making: a write during it shows
        # outside inference mode, so that what is made in it may later take part in autograd (a frozen layer)
        with torch.inference_mode(False), torch.no_grad():
            value = make()
        if lasting(value):
            kept_from(sources)
            if cache is None:
                cache = self._cache = {}
            cache[what] = (versions, value)
        return value

    def clear_cache(self) -> None:
        """Forget what was derived from the parameters: needed only after writes that torch cannot see."""
        self._cache = None

    # ------------------------------------------------------------------------------------------ running a path

    def _weight(self, plan: Plan = DENSE, x: Tensor | None = None) -> Tensor:
        """W for a forward pass: the kept one where nothing needs its gradient and nothing has changed.

        In the memory format of x, into which torch would bring it at every call.
        """
        if plan.path == "kron":  # published code builds W in every call
            self._note("kron")
            return self._build("kron")
        self._note("dense")
        if x is None or x.dim() not in _FORMATS or not _is_channels_last(x):
            return self._kept("W", self._build)
        return self._kept("W last", lambda: _channels_last(self._build()))

    def _linear(self, x: Tensor, plan: Plan) -> Tensor | None:
        """The linear map along a path that builds no W; None where its factors are not to be had."""
        if not self._fits(x):
            return None
        if plan.path == "factored":
            self._note("factored")
            return factored_linear(x, self._rule(), self.F, self.bias)
        operands = self._kept("bilinear", self._bilinear_operands)
        if operands is None:
            return None
        self._note("bilinear")
        filters, b, c = operands
        if plan.packed and unwatched(x, filters) and x.numel():
            call = self._packed_products(filters, plan.chunk or x.numel() // x.shape[-1])
            if call is not None:
                products = partial(call, bias=None)
                return bilinear_rows(x, products, b, c, self.bias, plan.chunk, _mixing(plan, x, b, c))
        return bilinear_linear(x, filters, b, c, self.bias)

    def _packed_linear(self, x: Tensor, plan: Plan) -> Tensor | None:
        """The linear map with W in the CPU library's layout, in inference; None where there is none."""
        if plan.path != "dense" or not unwatched(x, self.F) or not x.numel() or not self._fits(x):
            return None

        def make() -> Packed | None:
            W = self._build()
            return None if why_not_packed(W) else packed_linear(W, x.numel() // x.shape[-1])

        call = self._kept("packed dense", make)
        if call is None:
            return None
        self._note("dense")
        return call(x, self.bias)

    def _packed_products(self, filters: Tensor, rows: int) -> Packed | None:
        """The R products of a linear as a packed 1x1 convolution of R groups."""

        def make() -> Packed | None:
            weight = filters.flatten(0, 1)[:, :, None, None]
            if why_not_packed(weight):
                return None
            rank, columns = filters.shape[0], filters.shape[0] * filters.shape[2]
            return packed_conv(weight, (1, columns, rows, 1), (1, 1), (0, 0), (1, 1), rank)

        return self._kept("packed bilinear", make)

    def _bilinear_operands(self) -> Operands | None:
        """(filters, b, c), filters in the shape that the operator takes."""
        factors = self._factors()
        if factors is None:
            return None
        a, b, c = factors
        G = transformed_filters(a, self.F)
        return G if G.dim() == 3 else G.flatten(0, 1), b, c

    def _bilinear_operands_last(self) -> Operands | None:
        operands = self._bilinear_operands()
        return operands and (_channels_last(operands[0]), *operands[1:])

    def _formatted(self, x: Tensor, plan: Plan) -> Tensor:
        """x in the plan's memory format: itself, if it is."""
        if plan.memory_format == "keep" or x.dim() != self.F.dim() - 1 or x.dim() not in _FORMATS:
            return x
        if transformed():
            return x
        if plan.memory_format == "contiguous":
            return x if x.is_contiguous() else x.contiguous()
        return _channels_last(x)

    def _conv(self, x: Tensor, plan: Plan, operator: GroupedOperator, geometry: Geometry | None) -> Tensor | None:
        """A convolution along a path that builds no W; None where its factors are not to be had.

        geometry: stride, padding and dilation of a convolution whose weights may be packed.
        """
        if not self._fits(x):
            return None
        dims, bias, groups = self.F.dim() - 1, self.bias, self._groups
        if plan.path == "factored":
            self._note("factored")
            A, F, transposed = self._rule(), self.F, self.transposed
            return batched(dims, x, lambda x: factored_conv(x, A, F, bias, groups, operator, transposed=transposed))
        if x.dim() in _FORMATS and _is_channels_last(x):
            operands = self._kept("bilinear last", self._bilinear_operands_last)
        else:
            operands = self._kept("bilinear", self._bilinear_operands)
        if operands is None:
            return None
        self._note("bilinear")
        filters, b, c = operands
        in_parts = (plan.packed or plan.chunk > 0) and x.dim() == dims and unwatched(x, filters)
        if plan.packed and in_parts:
            call = self._packed("bilinear", filters, x, b.shape[0] * groups, geometry)
            operator = operator if call is None else lambda x, weight, groups: call(x, None)

        mixing = _mixing(plan, x, b, c)
        if plan.chunk and in_parts:
            return bilinear_conv_in_chunks(x, filters, b, c, bias, groups, operator, plan.chunk, mixing)
        return batched(dims, x, lambda x: bilinear_conv(x, filters, b, c, bias, groups, operator, mixing))

    def _packed_conv(self, x: Tensor, plan: Plan, geometry: Geometry) -> Tensor | None:
        """The convolution with W in the CPU library's layout, in inference; None where there is none."""
        if plan.path != "dense" or self._groups > 1 or x.dim() != self.F.dim() - 1 or not unwatched(x, self.F):
            return None
        call = self._packed("dense", None, x, 1, geometry)
        if call is None:
            return None
        self._note("dense")
        return call(x, self.bias)

    def _packed(
        self,
        what: str,
        weight: Tensor | None,
        like: Tensor,
        groups: int,
        geometry: Geometry | None,
    ) -> Packed | None:
        def make() -> Packed | None:
            W = self._build() if weight is None else weight
            if geometry is None or why_not_packed(W, geometry[1]):
                return None
            stride, padding, dilation = geometry
            columns = W.shape[1] * groups
            return packed_conv(W, (like.shape[0], columns, *like.shape[2:]), stride, padding, dilation, groups)

        return self._kept(f"packed {what}", make)


def _mixing(plan: Plan, x: Tensor, b: Tensor, c: Tensor) -> Mixing:
    """The kernel where the plan asks for it, this machine has it, and torch alone would do nothing else."""
    if not plan.fused or torch.compiler.is_compiling() or x.device.type != "cpu" or not kernel_at_hand():
        return TORCH
    # the kernel has no derivative by the factors, and autocast does not know it
    learned = torch.is_grad_enabled() and (b.requires_grad or c.requires_grad)
    if learned or x.dtype != b.dtype or torch.is_autocast_enabled("cpu") or transformed():
        return TORCH
    return KERNEL


def _is_channels_last(x: Tensor) -> bool:
    return x.stride(1) == 1 and not transformed() and x.is_contiguous(memory_format=_FORMATS[x.dim()])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_FORMATS[x.dim()]) if x.dim() in _FORMATS else x
