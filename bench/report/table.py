"""The tidy table on disk, and its short form for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..stats import mean_interval

_WHOLE = ("n", "seed", "threads", "samples", "processes", "schema", "batch", "channels", "out_channels", "size",
          "kernel_size")  # fmt: skip


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records as a DataFrame: whole numbers stay whole, numbers are floats, the rest is text."""
    df = pd.DataFrame(records)
    for column in _WHOLE:
        df[column] = df[column].astype("Int64")
    for column in ("value", "lo", "hi", "width_scale"):
        df[column] = df[column].astype("Float64")
    return df


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table.csv and table.parquet; the same rows in both."""
    csv, parquet = folder / "table.csv", folder / "table.parquet"
    df.to_csv(csv, index=False)
    df.to_parquet(parquet, index=False)
    return [csv, parquet]


def summary(df: pd.DataFrame) -> str:
    """Markdown: a table a subject, a row a variant, a column a metric; failures by name and reason below."""
    ok = df[df["status"] == "ok"]
    parts = []
    for (subject, phase), rows in ok[ok["data"] == "none"].groupby(["subject", "phase"], sort=False):
        parts.append(f"### {subject}, {phase}\n\n{_measured(rows)}")
    trained = ok[ok["data"] != "none"]
    for (subject, data), rows in trained.groupby(["subject", "data"], sort=False):
        parts.append(f"### {subject} on {data}\n\n{_trained(rows)}")
    bad = df[~df["status"].isin(["ok"])].drop_duplicates(["case_id", "status", "reason"])
    if len(bad):
        lines = [f"- `{r.subject}` {r.variant}, {r.shape}: **{r.status}** ({r.reason})" for r in bad.itertuples()]
        parts.append("### Not measured\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _measured(rows: pd.DataFrame) -> str:
    rows = rows.assign(text=[_value(r) for r in rows.itertuples()])
    keys = ["batch", "channels", "variant", "path"]
    wide = rows.pivot_table(index=keys, columns="metric", values="text", aggfunc="first", sort=False, dropna=False)
    wide = wide.dropna(how="all").reset_index()
    if wide["channels"].isna().all():
        wide = wide.drop(columns="channels")
    return _markdown(wide.fillna("").sort_values([c for c in ("batch", "channels") if c in wide], kind="stable"))


def _trained(rows: pd.DataFrame) -> str:
    lines = []
    for variant, own in rows.groupby("variant", sort=False):
        accuracy = own[own["metric"] == "accuracy"]["value"].astype(float).tolist()
        params = own[own["metric"] == "params"]["value"].astype(float).tolist()
        line = {"variant": str(variant), "params": _text(params[0], "1") if params else ""}
        if accuracy:
            found = mean_interval(accuracy)
            line["accuracy (%)"] = _plus_minus(100 * found.value, 50 * (found.hi - found.lo))
            line["seeds"] = str(len(accuracy))
        lines.append(line)
    return _markdown(pd.DataFrame(lines).fillna(""))


def _markdown(df: pd.DataFrame) -> str:
    head = "| " + " | ".join(str(c).replace("_", " ") for c in df.columns) + " |"
    rule = "|" + "---|" * len(df.columns)
    body = ["| " + " | ".join(str(value) for value in row) + " |" for row in df.itertuples(index=False)]
    return "\n".join([head, rule, *body])


def _value(row: Any) -> str:
    if row.metric == "latency_ratio" and row.hi > row.lo:
        return _plus_minus(float(row.value), float(row.hi - row.lo) / 2)
    return _text(row.value, row.unit)


_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))}
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def _text(value: Any, unit: str) -> str:
    number = float(value)
    if unit in _SCALES:
        scale, name = next((s for s in _SCALES[unit] if number >= s[0]), _SCALES[unit][-1])
        return f"{number / scale:.3g} {name}"
    if 0 < abs(number) < 1e-2:
        return f"{number:.1e}"
    scale, name = next((s for s in _COUNTS if number >= s[0]), (1.0, ""))
    return f"{number / scale:.4g}{' ' + name if name else ''}"


def _plus_minus(value: float, half: float) -> str:
    """As many digits as the interval supports: its half-width to one or two."""
    if math.isnan(half):  # one observation
        return f"{value:.3g}"
    digits = 2 if half >= 0.0095 else 3
    digits = 1 if half >= 0.95 else digits
    return f"{value:.{digits}f} ± {half:.{digits}f}"
