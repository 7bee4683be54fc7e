"""The table in short, for people: Markdown, a row a variant, a column a metric, failures by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..stats import geometric_means

# what may tell two rows of a variant apart; a column is shown where it does
_FACTORS = ("env_id", "batch", "channels", "out_channels", "size", "kernel_size", "width_scale", "dtype", "precision",
            "compile", "timer", "threads", "memory_format", "path", "recipe", "shape")  # fmt: skip


def summary(df: pd.DataFrame) -> str:
    """A section for each subject and phase, one for each data set, and what was not measured with the reason."""
    from .trained import trained  # it shows numbers as this module does

    ok = df[df["status"] == "ok"]
    ok = ok.assign(subject=ok["twin"].where(ok["twin"] != "", ok["subject"]))  # what is compared is shown together
    parts = []
    for (subject, phase), rows in ok[ok["data"] == "none"].groupby(["subject", "phase"], sort=False):
        parts.append(f"### {subject}, {phase}\n\n{_measured(rows)}")
    for (subject, data), rows in ok[ok["data"] != "none"].groupby(["subject", "data"], sort=False):
        parts.append(f"### {subject} on {data}\n\n{trained(rows)}")
    lines = [line for _, rows in df[df["status"] != "ok"].groupby("subject", sort=False) for line in _failed(rows)]
    if lines:
        parts.append("### Not measured\n\n" + "\n".join(dict.fromkeys(lines)))
    return "\n\n".join(parts) + "\n"


def _failed(rows: pd.DataFrame) -> list[str]:
    """What was not measured of one subject, by variant and by the axes in which its failures differ."""
    told: list[dict[Any, Any]] = rows.assign(shape=differing(rows["shape"])).to_dict("records")
    named = [", ".join(filter(None, (r["variant"], r["shape"]))) for r in told]
    return [f"- `{r['subject']}` {of}: **{r['status']}** ({r['reason']})" for of, r in zip(named, told, strict=True)]


def varying(rows: pd.DataFrame, but: Sequence[str] = ()) -> list[str]:
    """The factors in which rows differ, ``but`` those; shape as a whole only where no single axis tells."""
    found = [name for name in _FACTORS if name not in but and rows[name].nunique(dropna=False) > 1]
    single = [name for name in found if name != "shape"]
    told_apart = not rows.duplicated([*single, "variant", "metric", "seed"]).any()
    return single if told_apart else found


def _measured(rows: pd.DataFrame) -> str:
    keys = varying(rows)
    index = [key for key in keys if key != "path"] + ["variant"] + (["path"] if "path" in keys else [])
    rows = rows.assign(text=[_value(row) for row in rows.itertuples()], shape=differing(rows["shape"]))
    metrics = list(rows["metric"].unique())
    lines = []
    for values, own in rows.groupby(index, sort=False, dropna=False):
        cells = own.set_index("metric")["text"]
        assert cells.index.is_unique, f"two rows of {values} would be shown as one"
        lines.append(dict(zip(index, values, strict=True)) | {m: cells.get(m, "") for m in metrics} | _verdict(own))
    table = pd.DataFrame(lines)
    if "verdict" in table:
        table["verdict"] = table.pop("verdict").fillna("")  # the last column, beside the ratio that it judges
    order = [key for key in index if key not in ("variant", "path", "shape", "recipe")]
    shown = markdown(table.sort_values(order, kind="stable") if order else table)
    return "\n\n".join(filter(None, (shown, _margin(rows), _overall(rows, keys))))


def _verdict(own: pd.DataFrame) -> dict[str, str]:
    """What the rows of one case say of its ratio, where they say it."""
    said = [json.loads(details).get("verdict") for details in own[own["metric"] == "latency_ratio"]["details"]]
    return {"verdict": said[0]} if said and said[0] else {}


def _margin(rows: pd.DataFrame) -> str:
    """What the verdicts of a table mean."""
    told = [json.loads(details) for details in rows[rows["metric"] == "latency_ratio"]["details"]]
    margins = {f"{100 * own['margin']:g} %" for own in told if "verdict" in own}
    if not margins:
        return ""
    return (
        f"A verdict is about a difference of more than {', '.join(sorted(margins))} from the real layer; those of "
        "one group are right together with 95 %, while each interval is of 95 % by itself."
    )


_IN_GROUP = ("path", "memory_format")  # factors in which the cases of a group may differ


def _overall(rows: pd.DataFrame, keys: Sequence[str]) -> str:
    """Geometric means of the ratio over the groups that all variants have, and what was left out."""
    ratios = rows[rows["metric"] == "latency_ratio"]
    inner = ["variant", *(key for key in keys if key in _IN_GROUP)]
    outer = [key for key in keys if key not in _IN_GROUP]
    names = {own.group_id: ", ".join(f"{key.replace('_', ' ')} {getattr(own, key)}" for key in outer)
             for own in ratios.itertuples()}  # fmt: skip
    by_variant = {
        " ".join(str(part) for part in variant if part != "none"): dict(
            zip(own["group_id"], own["value"].astype(float), strict=True)
        )
        for variant, own in ratios.groupby(inner, sort=False, dropna=False)
        if (own["case_id"] != own["baseline_id"]).any()  # the baseline is 1 everywhere
    }
    if len(names) < 2 or not by_variant:
        return ""
    found = geometric_means(by_variant)
    left = "; ".join(f"{names[group]} (no {', '.join(lacking)})" for group, lacking in found.left_out.items())
    if not found.cases:
        return f"No group has all variants, so there is no mean of the ratio over groups: {left}."
    means = ", ".join(f"{variant} {mean:.3g}" for variant, mean in found.means.items())
    groups = f"{len(found.cases)} groups that have" if len(found.cases) > 1 else "1 group that has"
    over = f"Geometric mean of the latency ratio over {groups} all variants: {means}."
    return f"{over} Left out: {left}." if left else over


def differing(shapes: pd.Series[str]) -> list[str]:
    """Of each shape, the axes in which they differ."""
    axes = [json.loads(shape) for shape in shapes]
    names = sorted({name for own in axes for name in own})
    told = [name for name in names if len({json.dumps(own.get(name)) for own in axes}) > 1]
    return [", ".join(f"{name}={own[name]}" for name in told if own.get(name) is not None) for own in axes]


def markdown(df: pd.DataFrame) -> str:
    head = "| " + " | ".join(str(c).replace("_", " ") for c in df.columns) + " |"
    rule = "|" + "---|" * len(df.columns)
    body = ["| " + " | ".join(str(value) for value in row) + " |" for row in df.itertuples(index=False)]
    return "\n".join([head, rule, *body])


def _value(row: Any) -> str:
    if row.metric == "latency_ratio" and row.hi > row.lo:
        return plus_minus(float(row.value), float(row.hi - row.lo) / 2)
    return readable(row.value, row.unit)


_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))}
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def readable(value: Any, unit: str) -> str:
    number = float(value)
    if unit in _SCALES:
        scale, name = next((s for s in _SCALES[unit] if number >= s[0]), _SCALES[unit][-1])
        return f"{number / scale:.3g} {name}"
    if 0 < abs(number) < 1e-2:
        return f"{number:.1e}"
    scale, name = next((s for s in _COUNTS if number >= s[0]), (1.0, ""))
    return f"{number / scale:.4g}{' ' + name if name else ''}"


def plus_minus(value: float, half: float) -> str:
    """As many digits as the interval supports: its half-width to one or two."""
    if math.isnan(half):  # one observation
        return f"{value:.3g}"
    digits = 2 if half >= 0.0095 else 3
    digits = 1 if half >= 0.95 else digits
    return f"{value:.{digits}f} ± {half:.{digits}f}"
