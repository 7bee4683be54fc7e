"""Which factors tell rows apart, and what machines are called where several share a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import pandas as pd

# what may tell two rows of a variant apart; a column is shown where it does
FACTORS = ("env_id", "batch", "channels", "out_channels", "size", "kernel_size", "width_scale", "dtype", "precision",
           "compile", "timer", "threads", "memory_format", "path", "recipe", "shape")  # fmt: skip


def varying(rows: pd.DataFrame, but: Sequence[str] = ()) -> list[str]:
    """The factors in which rows differ, ``but`` those; shape as a whole only where no single axis tells."""
    found = [name for name in FACTORS if name not in but and _differs(rows, name)]
    single = [name for name in found if name != "shape"]
    told_apart = not rows.duplicated([*single, *but, "variant", "metric", "seed"]).any()
    return single if told_apart else found


def _differs(rows: pd.DataFrame, name: str) -> bool:
    # what was never run was on no machine
    return rows[name].nunique(dropna=name == "env_id") > 1


def named(factor: str, value: object) -> str:
    """A factor's value in a title: what speaks for itself alone, a number with its name."""
    if pd.isna(value):  # type: ignore[call-overload]
        return f"no {factor.replace('_', ' ')}"
    return str(value) if isinstance(value, str) else f"{factor.replace('_', ' ')} {value:g}"


def machines(envs: Iterable[str]) -> dict[str, str]:
    """env_id → the shortest name that still tells them apart: without hash and torch's release if that will do."""
    every = sorted(set(envs))
    for pattern in (r"-torch[^-]*-[0-9a-f]{8}$", r"-[0-9a-f]{8}$"):
        short = [re.sub(pattern, "", env) for env in every]
        if len(set(short)) == len(every):
            return dict(zip(every, short, strict=True))
    return {env: env for env in every}


def differing(shapes: pd.Series[str]) -> list[str]:
    """Of each shape, the axes in which they differ."""
    parsed = {text: json.loads(text) for text in shapes.unique()}
    names = sorted({name for own in parsed.values() for name in own})
    told = [name for name in names if len({json.dumps(own.get(name)) for own in parsed.values()}) > 1]
    shown = {
        text: ", ".join(f"{name}={own[name]}" for name in told if own.get(name) is not None)
        for text, own in parsed.items()
    }
    return [shown[text] for text in shapes]
