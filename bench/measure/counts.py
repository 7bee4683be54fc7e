"""What a static task counts of a subject as its module says: sizes, operations and bytes, into its result."""

from __future__ import annotations

from collections.abc import Callable

from ..task.protocol import Result
from ..task.subject import Subject, build
from . import flops, params, traffic


def _sizes(result: Result, subject: Subject, wanted: set[str]) -> None:
    sizes = {"params": params.params, "weight_bytes": params.weight_bytes, "file_bytes": params.file_bytes}
    result.values |= {name: sizes[name](subject.module) for name in wanted}


def _counts(result: Result, subject: Subject, wanted: set[str]) -> None:
    cost = flops.costs(subject)
    counted = {"macs": cost.macs, "macs_dense": cost.macs_dense, "macs_weight_build": cost.macs_weight_build}
    if flops.is_strange(subject.case):
        _strange_counts(result, subject, counted)
    result.values |= {name: value for name, value in counted.items() if name in wanted}


def _flops_torch(result: Result, subject: Subject, _wanted: set[str]) -> None:
    value, uncounted = flops.flops_torch(subject)
    result.values["flops_torch"] = value
    result.details["flops_torch_uncounted"] = uncounted


def _strange_counts(result: Result, subject: Subject, counted: dict[str, int]) -> None:
    """Another package's subject: its twin knows what the real form takes, and what was not counted is said."""
    case = subject.case
    if case.twin:
        counted["macs_dense"] = flops.costs(build(case.real_twin, "cpu")).macs
    elif case.algebra == "none":
        del counted["macs_dense"]
        result.unsupported["macs_dense"] = f"{case.subject} names no twin, so it has no real form"
    result.details["macs_uncounted"] = flops.uncounted(subject)


def _intensity(result: Result, subject: Subject, _wanted: set[str]) -> None:
    found = traffic.traffic(subject, flops.costs(subject))
    result.details["traffic"] = {"flop": found.flop, "bytes": found.bytes}
    if found.intensity is None:
        result.unsupported["arithmetic_intensity"] = "nothing in it multiplies, so it has no intensity"
    else:
        result.values["arithmetic_intensity"] = found.intensity


def _fvcore(result: Result, subject: Subject, _wanted: set[str]) -> None:
    try:
        value, uncounted = flops.macs_fvcore(subject.module, subject.inputs)
    except ImportError:
        result.unsupported["macs_fvcore"] = "fvcore is not installed: pip install fvcore"
        return
    result.values["macs_fvcore"] = value
    result.details["macs_fvcore_uncounted"] = uncounted


# the metrics that one look at a subject gives, and the look; the metrics asked for are its third argument
MEASURES: tuple[tuple[set[str], Callable[[Result, Subject, set[str]], None]], ...] = (
    ({"params", "weight_bytes", "file_bytes"}, _sizes),
    ({"macs", "macs_dense", "macs_weight_build"}, _counts),
    ({"flops_torch"}, _flops_torch),
    ({"arithmetic_intensity"}, _intensity),
    ({"macs_fvcore"}, _fvcore),
)
