"""Trainings of one subject on one data set: means over seeds, and differences seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ...stats import Interval, holm, mean_interval, paired_difference
from ..varying import differing, machines, varying
from . import numbers
from .model import Cell, Column, Table, words

_ADJUSTED = (
    "Differences are paired by seed, with an interval of 95 % each; p is that of Student's paired test, adjusted by "
    "Holm for the {} comparisons of the table."
)
_BOLD = "Bold: better than every other row over the same seeds, by the same test at 5 %, adjusted by Holm."
_LEVEL = 0.05


def trained(rows: pd.DataFrame, title: str, name: str) -> Table:
    """Mean accuracy over seeds, and the difference to each control seed by seed: they share split and order."""
    ok = rows[rows["status"] == "ok"]
    paths = rows["path"].where(rows["path"] != "none").nunique()  # the real net has none
    index = [*(key for key in varying(rows) if key != "path"), "variant", *(["path"] if paths > 1 else [])]
    accuracy = ok[ok["metric"] == "accuracy"]
    told: list[dict[Any, Any]] = accuracy.to_dict("records")
    by_case = {(row["case_id"], row["env_id"]): float(row["value"]) for row in told}
    by_variant = {(row["group_id"], row["env_id"], row["variant"]): float(row["value"]) for row in told}
    shown = rows.assign(
        shape=differing(rows["shape"]),
        env_id=rows["env_id"],
    )
    names = machines(rows["env_id"].dropna())
    lines: list[dict[str, Cell]] = []
    differences: list[tuple[dict[str, Cell], str, tuple[Interval, float] | None]] = []
    for values, own in shown.groupby(index, sort=False, dropna=False):
        line = {_head(key): _factor(names.get(str(v), v)) for key, v in zip(index, values, strict=True)}
        params = own[(own["metric"] == "params") & (own["status"] == "ok")]["value"].astype(float)
        line["params"] = Cell(f"{params.iloc[0]:,.0f}", params.iloc[0]) if len(params) else Cell()
        mine = own[(own["metric"] == "accuracy") & (own["status"] == "ok")]
        lost = own[own["status"] != "ok"].drop_duplicates("case_id")
        notes = tuple(
            dict.fromkeys(f"{row.status}, seed {row.seed}: {_line(row.reason)}" for row in lost.itertuples())
        )
        if len(mine):
            found = mean_interval((100 * mine["value"].astype(float)).tolist())
            text = numbers.plus_minus(found.value, (found.hi - found.lo) / 2)
            line["accuracy (%)"] = Cell(text, *numbers.supported(found.value, found.lo, found.hi), notes=notes)
            line["seeds"] = Cell(str(len(mine)), len(mine))
            others = mine[mine["case_id"] != mine["baseline_id"]]
            slim = f"slim real ({own['variant'].iloc[0]})"
            against_real = [by_case.get(pair) for pair in zip(others["baseline_id"], others["env_id"], strict=True)]
            keys = zip(mine["group_id"], mine["env_id"], strict=True)
            against_slim = [by_variant.get((*key, slim)) for key in keys]
            differences.append((line, "- real (points)", _difference(others, against_real)))
            differences.append((line, "- slim real (points)", _difference(mine, against_slim)))
        elif len(lost):
            line["accuracy (%)"] = Cell(str(lost["status"].iloc[0]), notes=notes)
        lines.append(line)
    made = [(line, column, found) for line, column, found in differences if found]
    adjusted = holm([p for _, _, (_, p) in made])
    for (line, column, (interval, _)), p in zip(made, adjusted, strict=True):
        text = numbers.plus_minus(100 * interval.value, 50 * (interval.hi - interval.lo))
        line[column] = Cell(
            f"{text} (p = {p:.2g})", round(100 * interval.value, 4), 100 * interval.lo, 100 * interval.hi
        )
    best = (
        _best(accuracy) if accuracy["env_id"].nunique() == 1 and len(lines) == accuracy["variant"].nunique() else None
    )
    if best is not None:
        for line in lines:
            if line["variant"].text == best:
                line["accuracy (%)"] = _bold(line["accuracy (%)"])
    heads = [*map(_head, index), "params"]
    heads += [
        h for h in ("accuracy (%)", "seeds", "- real (points)", "- slim real (points)") if any(h in n for n in lines)
    ]
    if any("- real (points)" in line for line in lines) and "- slim real (points)" not in heads:
        heads.append("- slim real (points)")
    below = [_BOLD] if best is not None else []
    below += [_ADJUSTED.format(len(made))] if len(made) > 1 else []
    columns = tuple(
        Column(head, head in ("variant", "path", "dtype", "recipe", "shape", "machine")) for head in heads
    )
    body = tuple(tuple(line.get(head, Cell()) for head in heads) for line in lines)
    return Table(name, title, columns, body, tuple(below))


def _head(key: str) -> str:
    return "machine" if key == "env_id" else key.replace("_", " ")


def _factor(value: object) -> Cell:
    if pd.isna(value):  # type: ignore[call-overload]
        return Cell()
    return Cell(str(value), float(value)) if isinstance(value, int | float) else words(value)


def _line(text: object) -> str:
    return " ".join(str(text).split())[:120]


def _bold(cell: Cell) -> Cell:
    return Cell(cell.text, cell.value, cell.lo, cell.hi, True, cell.notes)


def _difference(mine: pd.DataFrame, control: Sequence[float | None]) -> tuple[Interval, float] | None:
    """The difference over the pairs that there are, with its p-value; None with fewer than two."""
    pairs = [(float(a), b) for a, b in zip(mine["value"], control, strict=True) if b is not None]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs]) if len(pairs) > 1 else None


def _best(accuracy: pd.DataFrame) -> str | None:
    """The variant whose accuracy is above every other's over the same seeds, by paired tests; None where none is."""
    grid = accuracy.assign(value=accuracy["value"].astype(float)).pivot_table(
        index="seed", columns="variant", values="value", aggfunc="mean"
    )
    grid = grid.dropna()
    if len(grid) < 2 or grid.shape[1] < 2:
        return None
    first = str(grid.mean().idxmax())
    tests = [
        paired_difference(grid[first].tolist(), grid[other].tolist()) for other in grid.columns if other != first
    ]
    below = all(p < _LEVEL for p in holm([p for _, p in tests]))
    return first if below and all(interval.value > 0 for interval, _ in tests) else None
