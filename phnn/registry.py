"""The registry: every layer and model by name, with what a sweep needs to build, feed and refuse it.

Importing it loads no torch: a Spec names its class as "module:attribute", the form of a package's entry points.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .algebras import Algebra, near_matches
from .algebras import algebra as find_algebra
from .plan import PATHS

if TYPE_CHECKING:
    import torch

Shape = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """A keyword of a model: its default, what it does, and the words that it may be (none: no choice of words)."""

    name: str
    default: Any
    doc: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}={self.default!r}: {self.doc}" + (f" ({' | '.join(self.values)})" if self.values else "")


@dataclass(frozen=True)
class ModelInfo:
    """What a person asks of a model before building it. Printed, it is a page.

    input_shape: of its default input; hypercomplex: what is over the algebra; real: what stays real; options: its
    keywords, besides those that every model takes.
    """

    name: str
    info: str
    source: str
    input_shape: tuple[int, ...]
    hypercomplex: str
    real: str
    options: tuple[Option, ...]
    common: tuple[str, ...]

    def __str__(self) -> str:
        rows = [
            ("source", self.source),
            ("input", " × ".join(map(str, self.input_shape))),
            ("over the algebra", self.hypercomplex),
            ("real", self.real),
            *zip(("options", *[""] * len(self.options)), map(str, self.options), strict=False),
            ("of every model", ", ".join(self.common)),
        ]
        return "\n".join([f"{self.name}: {self.info}", *(f"  {key:<18}{value}" for key, value in rows)])


@dataclass(frozen=True)
class Spec:
    """One layer or model.

    name: what a sweep calls it; kind: ``layer`` or ``model``; target: "module:attribute" of the class or function;
    keywords: what tells this Spec from others of the same target (a ResNet's depths);
    shape: its shape axes with their defaults (None: derived from the others);
    arguments: shape → the keyword arguments of ``target``, besides algebra, n and path;
    input_shape: shape → the shape of the input tensor;
    constraints: (algebra, shape) → why this combination cannot be built, or None;
    repeats: how many arguments of ``forward`` the input fills (3: query, key and value of self-attention);
    algebras: the only ones that it is defined for (None: any; empty: it takes neither algebra nor n);
    paths: the contraction paths that it can run along, none if it takes no ``path``; ranked: whether it takes
    ``rank``; placed: whether it takes device and dtype;
    twin: the registered layer or model beside which it is measured: its baseline is the real twin of the same shape;
    info: one line for people; source: where the architecture was published;
    hypercomplex: which layers are over the algebra; real: which stay real;
    options: the keywords of ``target`` that tell one net from another; those with a shape axis have its default.
    """

    name: str
    kind: str
    target: str
    shape: Mapping[str, Any]
    arguments: Callable[[Shape], dict[str, Any]]
    input_shape: Callable[[Shape], tuple[int, ...]]
    constraints: Callable[[Algebra, Shape], str | None]
    info: str
    source: str = ""
    repeats: int = 1
    algebras: tuple[str, ...] | None = None
    paths: tuple[str, ...] = PATHS
    ranked: bool = False
    placed: bool = True
    twin: str = ""
    keywords: Mapping[str, Any] = field(default_factory=dict)
    hypercomplex: str = ""
    real: str = ""
    options: tuple[Option, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", MappingProxyType(dict(self.shape)))
        if self.algebras == ():  # a path is a way to contract with the rule of an algebra
            object.__setattr__(self, "paths", ())

    def words(self, axis: str) -> tuple[str, ...]:
        """The words that a shape axis may be; none if it is no choice of words."""
        return next((option.values for option in self.options if option.name == axis), ())

    def create(self, *args: Any, **kwargs: Any) -> torch.nn.Module:
        """The module, with the target's own arguments; its code is imported now."""
        module, _, attribute = self.target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        return target(*args, **self.keywords, **kwargs)

    def build(self, shape: Shape, **kwargs: Any) -> torch.nn.Module:
        """The module of this shape; kwargs: algebra, n, path, device, dtype, each unless the module takes none.

        Raises ValueError with the constraint's reason where there is one.
        """
        given = ("real", None) if self.algebras == () else (kwargs.get("algebra", "ph"), kwargs.get("n"))
        if reason := self.constraints(find_algebra(*given), shape):
            raise ValueError(f"{self.name}: {reason}")
        dropped = {"path"} if not self.paths else set()
        dropped |= {"algebra", "n"} if self.algebras == () else set()
        dropped |= {"device", "dtype"} if not self.placed else set()
        kwargs = {name: value for name, value in kwargs.items() if name not in dropped}
        return self.create(**self.arguments(shape), **kwargs)

    def example_inputs(self, shape: Shape, *, device: Any = None, dtype: Any = None) -> tuple[torch.Tensor, ...]:
        """Inputs of this shape, standard normal, from torch's generator."""
        import torch

        return (torch.randn(self.input_shape(shape), device=device, dtype=dtype),) * self.repeats


@dataclass(frozen=True)
class Origin:
    """Where a Spec comes from: its package in words, and the top module of its code."""

    package: str
    module: str


_SPECS: dict[tuple[str, str], Spec] = {}
_OWN = ("phnn.layers._specs", "phnn.models._published", "phnn.models._small")
_ORIGINS: dict[str, Origin] = {}
_left_out: list[str] | None = None  # plug-ins that could not be had, and why; None before any was looked for


def register(spec: Spec, origin: Origin | None = None) -> Spec:
    """Add a Spec; a ValueError for a name that is taken, and for a twin that it cannot be measured beside.

    origin: where it comes from, as far as its target does not tell.
    """
    module = spec.target.partition(":")[0].partition(".")[0]
    origin = origin or Origin(module, module)
    if spec.kind not in ("layer", "model"):
        raise ValueError(f"{spec.name!r}: kind is 'layer' or 'model', not {spec.kind!r}")
    if taken := _ORIGINS.get(spec.name):
        raise ValueError(
            f"a layer or model called {spec.name!r} is registered already, by {taken.package}: "
            f"{origin.package} must choose another name"
        )
    if spec.twin:
        _check_twin(spec)
    _SPECS[spec.kind, spec.name] = spec
    _ORIGINS[spec.name] = origin
    return spec


def _check_twin(spec: Spec) -> None:
    twin = _SPECS.get((spec.kind, spec.twin))
    if twin is None:
        raise ValueError(f"its twin {spec.twin!r} is no registered {spec.kind}")
    if absent := [axis for axis in twin.shape if axis not in spec.shape]:
        raise ValueError(f"its shape lacks {', '.join(absent)}, which its twin {spec.twin!r} has")


def _load_all() -> None:
    """Our own Specs, then those of other packages: a name that we have is ours."""
    global _left_out
    for module in _OWN:
        importlib.import_module(module)
    if _left_out is None:
        _left_out = []  # a plug-in that asks the registry while it is loaded finds what there is so far
        from .plugins import load

        _left_out = load()


def origin(name: str) -> Origin:
    """Where the layer or model called ``name`` comes from; a ValueError for an unknown name."""
    return _ORIGINS[find(name).name]


def specs(kind: str | None = None, pattern: str = "*") -> list[Spec]:
    """All Specs of a kind whose name matches a shell pattern, in order of registration."""
    _load_all()
    return [s for s in _SPECS.values() if kind in (None, s.kind) and fnmatch.fnmatchcase(s.name, pattern)]


def find(name: str, kind: str | None = None) -> Spec:
    """The Spec called ``name``; a ValueError with near matches if there is none."""
    known = {spec.name: spec for spec in specs(kind)}
    if name not in known:
        left_out = "".join(f" ({problem})" for problem in _left_out or ())
        raise ValueError(f"unknown {kind or 'subject'} {name!r}{near_matches(name, list(known))}{left_out}")
    return known[name]


def list_layers(pattern: str = "*") -> list[str]:
    """Names of the registered layers that match a shell pattern."""
    return [spec.name for spec in specs("layer", pattern)]


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern."""
    return [spec.name for spec in specs("model", pattern)]


def create_layer(name: str, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """A layer by name: its torch.nn namesake's arguments, ``algebra``, ``n`` and, where it has paths, ``path``."""
    return find(name, "layer").create(*args, **kwargs)


def create_model(name: str, **kwargs: Any) -> torch.nn.Module:
    """A model by name: ``create_model("resnet18", algebra="quaternion", num_classes=10)``."""
    return find(name, "model").create(**kwargs)


def model_info(name: str) -> ModelInfo:
    """Source, default input, what is over the algebra and what stays real, and the options of a model; no torch."""
    spec = find(name, "model")
    taken = {"path": bool(spec.paths), "rank": spec.ranked, "device": spec.placed, "dtype": spec.placed}
    return ModelInfo(
        name=spec.name,
        info=spec.info,
        source=spec.source,
        input_shape=spec.input_shape(spec.shape),
        hypercomplex=spec.hypercomplex,
        real=spec.real,
        options=spec.options,
        common=("algebra", "n", *(keyword for keyword, takes in taken.items() if takes)),
    )
