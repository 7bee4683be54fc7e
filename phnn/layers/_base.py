"""What every hypercomplex layer is: an algebra, the parameters A and F, a weight built from them, and its cache."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import init
from ..algebras import Algebra, near_matches
from ..algebras import algebra as find_algebra
from ..cost import Cost, product_cost
from ..functional import ph_weight
from ..plan import PATHS, Plan
from ..widths import misfit
from ._paths import Paths

_OWN = f"{__package__}."  # the layers that stand for their namesakes


def _is_real(algebra: str | Algebra, n: Any) -> bool:
    """Whether ``algebra``, by whatever name, is that of the real numbers."""
    if isinstance(algebra, str):
        try:
            algebra = find_algebra(algebra, n)
        except (ValueError, TypeError):  # a wrong name or n is the constructor's to refuse
            return False
    return isinstance(algebra, Algebra) and algebra == find_algebra("real")


class OverAlgebra(nn.Module):
    """Base of everything that has an algebra and a namesake in torch.nn.

    ``namesake`` is the torch.nn layer of the same signature. ``algebra="real"`` makes that layer itself: its
    parameters, its state_dict and its speed are torch's because it is torch's.
    """

    namesake: ClassVar[type[Any]]

    algebra: Algebra
    n: int

    def __new__(cls, *args: Any, algebra: str | Algebra = "ph", **kwargs: Any) -> Any:
        # a subclass has arguments of its own, which torch's layer would not know
        if not cls.__module__.startswith(_OWN) or not _is_real(algebra, kwargs.get("n")):
            return super().__new__(cls)
        if (n := kwargs.pop("n", None)) not in (None, 1):
            raise ValueError(f"algebra 'real' has n=1, not n={n}")
        check_path(kwargs.pop("path", "auto"))
        for name in ("rule", "rule_init", "rank"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"algebra 'real' has no rule to learn: leave {name} out")
        return cls.namesake(*args, **kwargs)

    def _resolve(self, algebra: str | Algebra, n: int | None, rule: Tensor | None = None, **widths: int) -> None:
        """Set algebra and n; a shared rule tells n by itself. A width that n does not divide is a ValueError."""
        if n is None and rule is not None and rule.dim() == 3:
            n = rule.shape[0]
        self.algebra = find_algebra(algebra, n)
        self.n = self.algebra.n
        if reason := misfit(self.n, **widths):
            raise ValueError(f"{type(self).__name__}: {reason}")

    def _check_rule(self, rule: nn.Parameter | None, rule_init: Any, like: Tensor) -> None:
        """Refuse a rule that the layer cannot share: no algebra to learn it, another shape, dtype or device."""
        name = type(self).__name__
        if not self.algebra.learned and (rule is not None or rule_init is not None):
            raise ValueError(f"{name}: algebra {self.algebra.name!r} is fixed, rule and rule_init are for 'ph' alone")
        if rule is None:
            return
        if rule_init is not None:
            raise ValueError(f"{name}: a shared rule is initialised where it is made, leave rule_init out")
        if not isinstance(rule, nn.Parameter):
            raise TypeError(f"{name}: rule is an nn.Parameter, not {type(rule).__name__}: see phnn.learned_rule")
        if rule.shape != (self.n,) * 3:
            raise ValueError(f"{name}: rule has shape {tuple(rule.shape)}, n={self.n} needs {(self.n,) * 3}")
        if (rule.dtype, rule.device) != (like.dtype, like.device):
            raise ValueError(f"{name}: rule is {rule.dtype} on {rule.device}, filters {like.dtype} on {like.device}")


class RuleHolder(OverAlgebra):
    """Base of the layers that build weights from pairs (A, F) and may keep what they built.

    A fixed rule is the buffer A, a constant that is no part of the state and is made anew where it might have been
    rounded or lost. ``_cache`` holds what was built, None at first; it is neither saved nor copied.
    """

    A: Tensor
    path: str
    path_built: str | None  # the path of the latest call
    _cache: Any

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """The pairs (A, F) that the layer's weights are built from."""
        raise NotImplementedError

    def _own_rule(self, name: str, rule: nn.Parameter | None, like: Tensor) -> None:
        """Make the learned rule ``name``: the shared one, or one of the layer's own, on the device of ``like``."""
        n = self.n
        setattr(self, name, nn.Parameter(like.new_empty(n, n, n)) if rule is None else rule)

    def _fixed_rule(self, like: Tensor) -> None:
        self.register_buffer("A", None, persistent=False)
        self.A = torch.tensor(self.algebra.rule, device=like.device, dtype=like.dtype)

    def _restore_rule(self) -> None:
        if not self.algebra.learned:
            F = self.factors()[0][1]
            self.A = torch.tensor(self.algebra.rule, device=F.device, dtype=F.dtype)

    def _resolved_path(self) -> str:
        return "dense" if self.path == "auto" else self.path

    def clear_cache(self) -> None:
        """Forget what was built: needed only after writes to A or F that torch cannot see."""
        self._cache = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(on_filters(fn), recurse)
        self._cache = None  # .to() changes the data of parameters without bumping their version
        self._restore_rule()  # and may have rounded a fixed rule, or lost it (to_empty)
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._cache = None
        A, F = self.factors()[0]
        if (A.device, A.dtype) != (F.device, F.dtype):  # assign=True: of another dtype, or made on the meta device
            self._restore_rule()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _algebra_repr(self) -> str:
        path = "" if self.path == "auto" else f", path={self.path!r}"
        rank = f", rank={rank}" if (rank := getattr(self, "rank", None)) else ""
        return f"algebra={self.algebra.name!r}, n={self.n}{rank}{path}"


class PHLayer(Paths, RuleHolder):
    """Base of the layers whose weight is W = sum_i A_i (x) F_i.

    An algebra that is not real makes parameters F, bias and, if the rule is learned, A; a fixed rule is a constant
    that is no part of the state. ``rule`` shares one learned A between layers, ``rule_init`` says what a learned
    A of the layer's own starts from (see ``init.rule_``). ``rank`` parametrises the learned rule by its factors:
    a, b, c (rank, n) take the place of A_i[k, j] = sum_r a[r, i] b[r, j] c[r, k], and the layer's arithmetic is
    rank / n^2 of the real layer's.

    What a path derives from the parameters (W, transformed filters) is kept between calls while nothing needs its
    gradient, and built anew once a parameter has changed. Writes that torch cannot see (``.data``, NumPy views) need
    ``clear_cache()``.
    """

    def _setup(
        self,
        template: nn.Module,
        algebra: str | Algebra,
        n: int | None,
        path: str,
        rule: nn.Parameter | None,
        rule_init: str | Algebra | None,
        rank: int | None,
        device: Any,
        dtype: torch.dtype | None,
        **widths: int,
    ) -> None:
        """Make the parameters that take the place of ``template``'s weight, after torch has checked the rest."""
        self._resolve(algebra, n, rule, **widths)
        self.path, self.path_built, self.rule_init = check_path(path), None, rule_init
        self._check_rank(rank, rule, rule_init)
        self.rank, self._decomposition, self._cache = rank, None, None
        self._tuned: dict[str, Plan] = {}
        rows, cols, *kernel = template.weight.shape  # type: ignore[misc]
        n = self.n
        self._columns = rows if self.transposed else cols * self._groups
        self._made_of = ("F", "a", "b", "c") if rank is not None else ("F", "A") if self.algebra.learned else ("F",)
        self.F = nn.Parameter(torch.empty(n, rows // n, cols // n, *kernel, device=device, dtype=dtype))
        self._check_rule(rule, rule_init, self.F)
        self.rule_shared = rule is not None
        if rank is not None:
            for name in "abc":
                self.register_parameter(name, nn.Parameter(torch.empty(rank, n, device=device, dtype=dtype)))
        elif self.algebra.learned:
            self._own_rule("A", rule, self.F)
        else:
            for name in "abc":
                self.register_buffer(name, None, persistent=False)
            self._decomposition = self._known_decomposition()
            self._fixed_rule(self.F)
            self._restore_rule()
        bias = template.bias
        self.bias = None if bias is None else nn.Parameter(torch.empty(bias.shape, device=device, dtype=dtype))  # type: ignore[arg-type]
        self.reset_parameters()

    def _check_rank(self, rank: int | None, rule: nn.Parameter | None, rule_init: Any) -> None:
        if rank is None:
            return
        name = type(self).__name__
        if not self.algebra.learned:
            raise ValueError(f"{name}: algebra {self.algebra.name!r} is fixed, rank is for 'ph' alone")
        if rule is not None or rule_init is not None:
            raise ValueError(f"{name}: rank makes a rule of its own, leave rule and rule_init out")
        if rank < 1:
            raise ValueError(f"{name}: a rule has at least one term, not rank={rank}")

    def _restore_rule(self) -> None:
        super()._restore_rule()
        if not self.algebra.learned and self._decomposition:
            self.a, self.b, self.c = self._factors_of(self._decomposition)

    def reset_parameters(self) -> None:
        """Draw F, bias and a learned A of the layer's own anew: W has the variance of torch's default."""
        if self.rank:
            init.rule_factors_(self.a, self.b, self.c)
        elif self.algebra.learned and not self.rule_shared:
            init.rule_(self.A, self.rule_init)
        fan_in, _ = init.fans(self.F)
        init.uniform_(self.F, self._rule(), init.default_std(fan_in))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)

    @property
    def weight(self) -> Tensor:
        """W = sum_i A_i (x) F_i, of shape (out, in / groups, *kernel), built by the layer's path; read-only."""
        return self._build()

    def _build(self, path: str | None = None) -> Tensor:
        path = "kron" if (path or self.path) == "kron" else "dense"
        A = self._rule()
        return ph_weight(A.mT if self.transposed else A, self.F, groups=self._groups, path=path)

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """The pairs (A, F) that the layer's weights are built from: one."""
        return [(self._rule(), self.F)]

    def cost(self, input: Tensor, output: Tensor) -> Cost:
        """Multiply-adds of the call that made ``output`` from ``input``, by the path that it took."""
        rows, cols, *kernel = self.F.shape[1:]
        numel = self.n * self.n * rows * cols * math.prod(kernel)
        applied, width = (input, self.n * rows) if self.transposed else (output, self.n * rows)
        out_channels = self.n * (cols * self._groups if self.transposed else rows)
        in_channels = self.n * (rows if self.transposed else cols * self._groups)
        return product_cost(
            self.path_built or self._plan(input).path,
            n=self.n,
            weight_numel=numel,
            positions=applied.numel() // width,  # each applies W once
            rank=self._known_rank(),
            in_channels=in_channels,
            out_channels=out_channels,
            in_positions=input.numel() // in_channels,
            out_positions=output.numel() // out_channels,
        )


def on_filters(fn: Any) -> Any:
    """``fn`` for F too, which has one dimension more than the weight that .to(memory_format=…) knows.

    The format is that of what is derived from F; F itself stays as it is, that of a Conv1d included.
    """

    def apply(t: Tensor) -> Tensor:
        try:
            found = fn(t)
        except RuntimeError:
            if t.dim() < 5:
                raise
            found = fn(t.flatten(0, 1)).unflatten(0, t.shape[:2])
        return found.contiguous() if t.dim() > 3 and t.is_contiguous() else found

    return apply


def check_path(path: str, known: tuple[str, ...] = PATHS) -> str:
    """The path, if it is one of ``known`` or ``auto``; a ValueError with near matches otherwise."""
    if path not in ("auto", *known):
        raise ValueError(f"unknown path {path!r}{near_matches(path, ('auto', *known))}")
    return path


def unkeepable(t: Tensor) -> bool:
    """Whether nothing built from t may be kept: it needs a gradient, or has no version to compare."""
    return (t.requires_grad and torch.is_grad_enabled()) or t.is_inference()
