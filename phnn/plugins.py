"""Layers and models of other packages, found by their entry points when the registry is first asked.

A package that lists an entry point of group ``phnn.layers`` or ``phnn.models`` enters everything that the registry
serves: ``create_layer``, ``create_model`` and every sweep. The entry point's value is a Spec, several of them, or a
function without arguments that returns either. One that cannot be loaded, or whose Spec is refused, is left out with
a warning that names its package; nothing else suffers. Only installed packages are looked at, and none of their code
runs before the registry is asked. Loads no torch itself.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .registry import Origin, Spec, register, specs

GROUPS = {"phnn.layers": "layer", "phnn.models": "model"}


class PluginWarning(UserWarning):
    """A plug-in was left out; the text names its package and what to do."""


def load() -> list[str]:
    """Register what installed packages offer; what was left out, and why, a sentence each."""
    problems = []
    for group, kind in GROUPS.items():
        # by name, so that of two that claim a name it is always the same that gets it
        for point in sorted(entry_points(group=group), key=lambda point: (_package(point), point.name)):
            problems += [f"plug-in {point.name!r} of {_package(point)} {why}" for why in _register(point, kind)]
    for problem in problems:
        warnings.warn(problem, PluginWarning, stacklevel=2)
    return problems


def load_named(value: str) -> None:
    """Register the Specs that ``value`` names in the form of an entry point, "module:attribute"; again: nothing.

    For code that no installed package offers. Importing it runs it, so only the user may name it, never a file.
    Raises ValueError with what is wrong.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        raise ValueError(f"{value!r} is not of the form module:attribute, for example my_layers.specs:LAYERS")
    if value in _named:
        return
    point = EntryPoint(value.partition(":")[2], value, "")
    try:
        found = _specs(point.load())
    except Exception as error:
        raise ValueError(f"plug-in {value!r} cannot be loaded: {type(error).__name__}: {error}") from error
    known = {spec.name: spec.target for spec in specs()}
    for spec in found:
        if known.get(spec.name) == spec.target:
            continue  # an installed package offers it too
        register(spec, Origin(f"plug-in {value}", point.module.partition(".")[0]))
    _named.add(value)


_named: set[str] = set()  # plug-ins that were loaded by name


def _register(point: EntryPoint, kind: str) -> list[str]:
    """Register the Specs of one entry point; why any of them was left out."""
    try:
        found = _specs(point.load())
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises costs that plug-in alone
        return [f"is left out: {type(error).__name__}: {error}"]
    origin, problems = Origin(_package(point), point.module.partition(".")[0]), []
    for spec in found:
        try:
            if spec.kind != kind:
                raise ValueError(f"{spec.name!r} is a {spec.kind}: list it in the group phnn.{spec.kind}s")
            register(spec, origin)
        except ValueError as error:
            problems.append(f"loses {spec.name!r}: {error}")
    return problems


def _specs(value: Any) -> list[Spec]:
    if callable(value):  # a Spec is not
        value = value()
    found = [value] if isinstance(value, Spec) else list(value) if isinstance(value, Iterable) else [value]
    for item in found:
        if not isinstance(item, Spec):
            raise TypeError(f"an entry point gives a phnn.registry.Spec or several, not {item!r}")
    return found


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name} {point.dist.version}" if point.dist else "a package without metadata"
