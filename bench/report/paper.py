"""The published models: their parameter counts beside ours, and what each net costs. Tables for a paper.

Published figures are data (published.toml); what explains a difference is measured, not asserted: the same net is
counted with and without what the published form has beside ours.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from phnn.registry import find

from .tables.model import Cell, Column, Table
from .tables.numbers import readable

_INPUT = ("batch", "size", "frames", "length")  # axes of the input, on which no count of parameters depends

# of a fixed path, which is what makes them comparable between nets; the weights of other paths are built by none
_PATHS = ("dense", "factored", "bilinear")


@dataclass(frozen=True)
class Published:
    """Counts of one net as its authors' code builds it: variant → parameters; see published.toml for the fields."""

    model: str
    subject: str
    source: str
    params: Mapping[str, int]
    axes: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@cache
def published() -> tuple[Published, ...]:
    """All published counts that the project knows."""
    data = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
    return tuple(Published(**entry) for entry in data["counts"])


def _net(shape: Mapping[str, Any]) -> str:
    """What of a shape makes a net: two cases of one net have as many parameters."""
    return json.dumps({key: value for key, value in shape.items() if key not in _INPUT}, sort_keys=True)


def _params(df: pd.DataFrame) -> dict[tuple[str, str, str], int]:
    """(subject, net, variant) → parameters."""
    rows = df[(df["metric"] == "params") & (df["status"] == "ok") & (df["data"] == "none")]
    nets = rows["shape"].map(json.loads).map(_net)
    keys = zip(rows["subject"], nets, rows["variant"], strict=True)
    return dict(zip(keys, rows["value"].astype(int), strict=True))


def comparison(df: pd.DataFrame) -> pd.DataFrame | None:
    """A row for each published count: ours without and with what its form has beside, and what the difference is.

    None where the table counts no net in a published form: it is of another sweep.
    """
    counted = _params(df)
    lines, forms = [], 0
    for entry in published():
        net = {**find(entry.subject).shape, **entry.axes}
        for variant, count in entry.params.items():
            ours = counted.get((entry.subject, _net(net), variant))
            as_published = counted.get((entry.subject, _net({**net, **entry.form}), variant))
            if ours is None or as_published is None:
                continue
            forms += bool(entry.form)
            lines.append(
                {
                    "model": entry.model,
                    "variant": variant,
                    "published": count,
                    "ours": ours,
                    "ours in the published form": as_published,
                    "difference": count - ours,
                    "explained by": _explained(entry, count, ours, as_published),
                    "source": entry.source,
                }
            )
    return pd.DataFrame(lines) if forms else None


def _explained(entry: Published, count: int, ours: int, as_published: int) -> str:
    if left := count - as_published:
        return f"not explained: {left:+,} remain"
    return entry.why if ours != count else "no difference"


def costs(df: pd.DataFrame) -> pd.DataFrame | None:
    """A row for each net and variant whose file was measured: parameters, bytes, and multiply-adds along each path.

    The bilinear path of a learned rule is that of a rule parametrised by its factors (its rank is a column).
    """
    rows = df[(df["status"] == "ok") & (df["kind"] == "model") & (df["control"] == "none") & (df["data"] == "none")]
    rows = rows.assign(net=rows["shape"].map(json.loads).map(_net))
    lines = []
    for keys, own in rows[rows["metric"] == "file_bytes"].groupby(["subject", "shape", "algebra", "n"], sort=False):
        subject, shape, algebra, n = keys
        same = rows[(rows["subject"] == subject) & (rows["shape"] == shape) & (rows["algebra"] == algebra)]
        same = same[same["n"] == n]
        mine = same[same["case_id"] == own["case_id"].iloc[0]].set_index("metric")["value"].astype(float)
        line: dict[str, Any] = {"model": _title(str(subject), own["net"].iloc[0]), "variant": own["variant"].iloc[0]}
        line |= {name: mine.get(name) for name in ("params", "file_bytes", "macs_dense", "macs_weight_build")}
        macs = same[same["metric"] == "macs"]
        for path in _PATHS:
            ran = macs[macs["path"] == path]
            line[f"macs_along_{path}"] = ran["value"].iloc[0] if len(ran) else None
        ranks = macs[macs["path"] == "bilinear"]["rank"]
        line["rank"] = int(ranks.iloc[0]) if len(ranks) and ranks.iloc[0] else None
        if algebra == "real":
            line["macs_along_dense"] = mine.get("macs")
        lines.append(line)
    if not lines:
        return None
    table = pd.DataFrame(lines)
    return table.astype(dict.fromkeys(table.columns.difference(["model", "variant"]), "Int64"))


def _title(subject: str, net: str) -> str:
    """What the publication calls a net, or the subject with the axes that differ from its defaults."""
    default = find(subject).shape
    for entry in published():
        if entry.subject == subject and _net({**default, **entry.axes}) == net:
            return entry.model
    changed = [f"{key}={value}" for key, value in json.loads(net).items() if default.get(key) != value]
    return ", ".join([subject, *changed])


TABLES = {"published": ("Published parameter counts", comparison), "costs": ("Costs of the models", costs)}

_UNITS = {"file_bytes": "B", "macs_dense": "MAC", "macs_weight_build": "MAC"}
_UNITS |= {f"macs_along_{path}": "MAC" for path in _PATHS}
_WORDS = ("model", "variant", "explained by", "source")


def tables(df: pd.DataFrame) -> list[Table]:
    """The tables that df has rows for."""
    made = ((name, title, make(df)) for name, (title, make) in TABLES.items())
    return [_table(name, title, frame) for name, title, frame in made if frame is not None]


def _table(name: str, title: str, frame: pd.DataFrame) -> Table:
    columns = tuple(
        Column(column.replace("_", " "), column in _WORDS, "csv" if column == "source" else "index")
        for column in frame.columns
    )
    rows = tuple(
        tuple(_cell(column, value) for column, value in zip(frame.columns, row, strict=True))
        for row in frame.itertuples(index=False, name=None)
    )
    return Table(name, title, columns, rows)


def _cell(column: str, value: Any) -> Cell:
    """Counts of parameters to the unit, bytes and multiply-adds in short."""
    if pd.isna(value):
        return Cell()
    if isinstance(value, str):
        return Cell(value)
    if column in _UNITS:
        return Cell(readable(value, _UNITS[column]), float(value))
    return Cell((f"{value:+,}" if value else "0") if column == "difference" else f"{value:,}", float(value))
