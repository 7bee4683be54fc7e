"""Which layers of a model ``convert`` may swap, and the reason for each that stays real.

Reads the model and changes nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._twins import TWINS, Twin, quietly
from .algebras import near_matches
from .tolerances import dtypes
from .widths import misfit


@dataclass(frozen=True)
class Chosen:
    """What a decision about a layer depends on."""

    n: int
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    options: dict[str, Any]
    names: dict[int, list[str]]
    owners: dict[int, list[tuple[int, str]]]


def check_patterns(model: nn.Module, chosen: Chosen) -> None:
    """A ValueError for a pattern that no layer's name matches."""
    names = [name for name, module in model.named_modules(remove_duplicate=False) if _has_twin(module)]
    for argument, patterns in (("include", chosen.include), ("exclude", chosen.exclude)):
        for pattern in patterns:
            if pattern != "*" and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{argument}: no layer is called {pattern!r}{near_matches(pattern, names)}")


# ------------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class Layer:
    name: str
    module: nn.Module
    twin: Twin | None
    reason: str | None  # why it stays real


def layers_of(model: nn.Module, chosen: Chosen) -> Iterator[Layer]:
    """Every layer that may change, each once, in the model's order; parts of a layer are not listed with it.

    An encoder layer that cannot change as a whole, and is not excluded as one, is no layer: its parts are.
    """
    whole: list[str] = []
    opened: list[tuple[str, str]] = []  # encoder layers in parts, and why
    for name, module in model.named_modules():
        if not _has_twin(module) or any(_inside(name, outer) for outer in whole):
            continue
        reason = _reason(module, chosen)
        excluded = _excluded(module, chosen)
        if isinstance(module, nn.TransformerEncoderLayer) and reason is not None and excluded is None:
            opened.append((name, reason))
            continue
        if isinstance(module, nn.MultiheadAttention) and (
            around := next((why for outer, why in opened if _inside(name, outer)), None)
        ):
            reason = reason or f"its encoder layer, which reads torch's weights, stays: {around}"
        whole.append(name)
        yield Layer(name, module, TWINS.get(type(module)), reason)


def _has_twin(module: nn.Module) -> bool:
    return isinstance(module, tuple(TWINS))


def _inside(name: str, outer: str) -> bool:
    return outer == "" or name.startswith(f"{outer}.")


def _reason(module: nn.Module, chosen: Chosen) -> str | None:
    """Why a layer stays real, the rules for the first and the last left aside; None if it changes."""
    if type(module) not in TWINS:
        return _why_not_torchs(module)
    reasons = (_why_not_chosen, _why_not_plain, _why_shared, _why_unfit)
    return next((reason for why in reasons if (reason := why(module, chosen))), None)


def _why_not_torchs(module: nn.Module) -> str:
    if parametrize.is_parametrized(module):
        return f"its {', '.join(module.parametrizations)} is parametrized"  # type: ignore[arg-type]
    base = next(base for base in TWINS if isinstance(module, base))
    return f"{type(module).__module__}.{type(module).__qualname__} is a subclass of {base.__name__}"


def _why_not_chosen(module: nn.Module, chosen: Chosen) -> str | None:
    names = chosen.names[id(module)]
    if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in chosen.include):
        return f"not included by {', '.join(map(repr, chosen.include)) or 'any pattern'}"
    parts = [module]
    if isinstance(module, nn.TransformerEncoderLayer):
        parts += [module.self_attn, module.linear1, module.linear2]
    return next((reason for part in parts if (reason := _excluded(part, chosen))), None)


def _excluded(module: nn.Module, chosen: Chosen) -> str | None:
    names = chosen.names[id(module)]
    patterns = (pattern for pattern in chosen.exclude if any(fnmatch.fnmatchcase(name, pattern) for name in names))
    return next((f"excluded by {pattern!r}" for pattern in patterns), None)


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def why_altered(module: nn.Module) -> str | None:
    """What somebody has added to a module or its parts that another module would lose, or None."""
    for name, part in module.named_modules():
        where = f" of {name}" if name else ""
        if parametrize.is_parametrized(part):
            return f"parametrizations{where}"
        if any(getattr(part, hooks) for hooks in _HOOKS):
            return f"hooks{where}"
        if "forward" in vars(part):
            return f"a forward of its own{where}"
    return None


def _why_not_plain(module: nn.Module, chosen: Chosen) -> str | None:
    """What torch's constructor would not have made, and a twin would therefore lose."""
    if altered := why_altered(module):
        return f"it has {altered}"
    if getattr(module, "proj_size", 0):
        return f"proj_size={module.proj_size} is not supported"
    tensors = list(module.parameters())
    if any(type(t) is not nn.Parameter or str(t.dtype).removeprefix("torch.") not in dtypes() for t in tensors):
        kinds = sorted({f"{type(t).__name__} of {t.dtype}" for t in tensors})
        return f"its weights are {', '.join(kinds)}"
    if len({(t.device, t.dtype) for t in tensors}) > 1:
        return "its parameters differ in device or dtype"
    try:
        template = quietly(type(module), **TWINS[type(module)].arguments(module), device="meta")
    except (AttributeError, TypeError, ValueError) as error:  # a part of another kind
        return f"it is not as torch made it: {error}"
    for what, is_now, was in (
        ("parameters", _shapes(module.named_parameters()), _shapes(template.named_parameters())),
        ("buffers", _shapes(module.named_buffers()), {}),
        ("parts", _classes(module), _classes(template)),
    ):
        if is_now != was:
            differ = sorted({*is_now, *was} - {name for name in is_now if is_now[name] == was.get(name)})
            return f"its {what} are not torch's: {', '.join(differ)}"
    return None


def _shapes(tensors: Iterator[tuple[str, Tensor]]) -> dict[str, Any]:
    return {name: tuple(t.shape) for name, t in tensors}


def _classes(module: nn.Module) -> dict[str, Any]:
    return {name: type(part) for name, part in module.named_modules() if name}


def _why_shared(module: nn.Module, chosen: Chosen) -> str | None:
    """What is the model's elsewhere too, and would be torn apart."""
    own = {id(part) for part in module.modules()}
    for name, parameter in module.named_parameters():
        others = [place for owner, place in chosen.owners[id(parameter)] if owner not in own]
        if others:
            return f"its {name} is also {others[0]}"
    for name, part in module.named_modules():
        places = chosen.names[id(part)]
        outside = [place for place in places if not any(_inside(place, m) for m in chosen.names[id(module)])]
        if outside and part is not module:
            return f"its {name} is also {outside[0]}"
    return None


def _why_unfit(module: nn.Module, chosen: Chosen) -> str | None:
    twin, path = TWINS[type(module)], chosen.options["path"]
    widths = twin.widths(module)
    if getattr(module, "groups", 1) > 1 and min(widths.values()) == 1 < chosen.n:
        return f"depthwise: one channel in each of its {module.groups} groups"
    if reason := misfit(chosen.n, **widths):
        return reason
    if chosen.options["rank"] is not None and not twin.ranked:
        return f"{twin.target.__name__} takes no rank"
    if path not in ("auto", *twin.paths):
        return f"{twin.target.__name__} has no path {path!r}"
    return None


def check_module(model: object) -> None:
    """A TypeError for what is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, not {type(model).__name__}")


def computed_tensors(model: nn.Module) -> dict[int, Any]:
    """A memo for deepcopy, which refuses the results of computations (a weight of torch's old weight_norm)."""
    values = [value for module in model.modules() for value in vars(module).values()]
    return {id(t): t.detach().clone() for t in values if isinstance(t, Tensor) and not t.is_leaf}


def names_of(model: nn.Module) -> dict[int, list[str]]:
    """All names of each module."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    return names


def owners_of(model: nn.Module) -> dict[int, list[tuple[int, str]]]:
    """The modules that hold each parameter, with its name there."""
    owners: dict[int, list[tuple[int, str]]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            where = ".".join(filter(None, (prefix, name)))
            if nn.parameter.is_lazy(parameter):
                raise ValueError(f"{where} has no shape yet: run a batch through the model before it is converted")
            owners.setdefault(id(parameter), []).append((id(module), where))
    return owners
