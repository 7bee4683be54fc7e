"""Which of the planned cases are asked for: by filters, and by shards of a sweep. No torch."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from typing import Any

from phnn.algebras import algebra as find_algebra
from phnn.algebras import near_matches

from ..errors import UsageError
from .case import FACTORS, Case, Planned


def select(planned: Sequence[Planned], filters: Sequence[str]) -> list[Planned]:
    """The cases that match every ``key=value`` filter (commas: any of them), with baselines and slim controls.

    A key is a factor or a shape axis. Raises UsageError for a key that no case has and for an empty selection.
    """
    wanted = [parse_filter(text) for text in filters]
    for key, values in wanted:
        if not any(_has(p.case, key) for p in planned):
            keys = sorted({k for p in planned for k in (*FACTORS, *p.case.axes)})
            raise UsageError(f"--filter {key}=…: no case has a factor {key!r}{near_matches(key, keys)}")
        have = list(dict.fromkeys(_text(p.case, key) for p in planned))
        if not set(values) & set(have):
            raise UsageError(f"--filter {key}={','.join(values)}: no case matches; {key} is one of {', '.join(have)}")
    kept = [p for p in planned if all(_text(p.case, key) in values for key, values in wanted)]
    if not kept:
        raise UsageError(
            f"no case matches {' '.join(f'--filter {text}' for text in filters)} together: see bench list"
        )
    ids, groups = {p.case.id for p in kept}, {p.case.group_id for p in kept}
    controlled = {p.case.controlled.id for p in kept}

    def belongs(p: Planned) -> bool:
        if p.controlled is not None and p.controlled.id in controlled:
            return True
        return p.case.id in ids or (p.case.is_baseline and p.case.group_id in groups)

    return [p for p in planned if belongs(p)]


COMMA = re.compile(r",(?![^(]*\))")  # commas inside parentheses belong to an algebra's name


def parse_filter(text: str) -> tuple[str, list[str]]:
    """``key=value,value`` as its key and the values, any of which is meant."""
    key, sign, values = text.partition("=")
    if not sign or not key or not values:
        raise UsageError(f"--filter {text!r} is not of the form key=value, for example algebra=quaternion")
    return key, [canonical(key, value, "--filter") for value in COMMA.split(values)]


def canonical(key: str, value: str, flag: str) -> str:
    """A value as records have it: an algebra by the name that it has there, whichever alias was typed."""
    if key != "algebra" or value in ("ph", "none"):
        return value
    try:
        return find_algebra(value).name
    except ValueError as error:
        raise UsageError(f"{flag} algebra={value}: {error}") from None


def _has(case: Case, key: str) -> bool:
    return key in FACTORS or key in case.axes


def _text(case: Case, key: str) -> str:
    """A factor or shape axis as text; of an axis that is called like a factor, the axis."""
    value = case.axes[key] if key in case.axes else getattr(case, key, None)
    return str(dict(value) if key in ("shape", "recipe", "options") and isinstance(value, tuple) else value)


def shard(planned: Sequence[Planned], text: str) -> list[Planned]:
    """The cases of shard ``i/k``: whole groups, whose cases are compared with each other, dealt out by their sizes.

    The k shards have every case once, and a sweep always falls into the same ones. Raises UsageError for what is no
    shard, and for one that has no case.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text!r} is not of the form i/k with i from 1 to k, for example 2/4")
    sizes: dict[str, int] = {}
    for p in planned:
        sizes[p.case.group_id] = sizes.get(p.case.group_id, 0) + (p.skipped is None)
    loads = [(0, i) for i in range(count)]
    heapq.heapify(loads)
    mine = set()
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)):
        load, place = heapq.heappop(loads)
        heapq.heappush(loads, (load + sizes[group], place))
        if place == number - 1:
            mine.add(group)
    kept = [p for p in planned if p.case.group_id in mine]
    if not kept:
        raise UsageError(f"--shard {text}: the sweep has only {len(sizes)} groups of cases, so this shard is empty")
    return kept


def of_lines(lines: Iterable[dict[str, Any]], filters: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of a stored plan whose cases match the filters, with baselines and slim controls."""
    lines = list(lines)
    planned = []
    for line in lines:
        controlled = line.get("controlled")
        planned.append(
            Planned(
                Case.from_factors(line["case"]),
                frozenset(line["metrics"]),
                line["skipped"],
                Case.from_factors(controlled) if controlled else None,
            )
        )
    kept = {p.case.id for p in select(planned, filters)}
    return [line for line, p in zip(lines, planned, strict=True) if p.case.id in kept]
