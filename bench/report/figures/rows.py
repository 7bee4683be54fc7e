"""Which rows of the tidy table a figure draws, and how they fall into panels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...metrics import METRICS
from ...stats import mean_interval
from ..varying import differing, machines, named, varying

# what a net is made of is the same however it is run: one panel is enough
_OF_THE_NET = ("params", "weight_bytes", "file_bytes", "macs_weight_build")
_OF_THE_CALL = ("macs", "macs_dense", "macs_fvcore", "flops_torch")
_HOW_RUN = ("phase", "timer", "compile", "precision", "threads", "memory_format", "env_id")
_INPUT = ("batch", "size", "frames", "length")  # axes of the input, on which no parameter depends

_UNUSED = ("samples", "processes", "marks", "code_rev", "schema", "started", "unit", "details")

MOST_PANELS = 24  # of one figure; more are named, not drawn


@dataclass(frozen=True)
class Panel:
    """What one pair of axes shows. names: what tells it from the subject's other panels.

    rows: those with a finite number; failed: those that have none for a reason other than that they were skipped.
    """

    subject: str
    names: tuple[str, ...]
    rows: pd.DataFrame
    failed: pd.DataFrame

    @property
    def title(self) -> str:
        """The subject and its names."""
        return ", ".join([self.subject, *self.names])


def of_metric(df: pd.DataFrame, metric: str, details: bool = False, trained: bool | None = None) -> pd.DataFrame:
    """The rows of one metric as plain floats, algebras named as the legend names them.

    ``good``: a finite number and status ok. trained: whether rows of trainings are meant;
    they are if the metric is measured in training.
    """
    rows = df[(df["metric"] == metric) & (df["status"] != "skipped")]
    if trained is None:
        trained = metric in METRICS and METRICS[metric].task == "training"
    rows = rows[(rows["data"] != "none") == trained]
    rows = rows.drop(columns=[name for name in _UNUSED if name in rows and not (details and name == "details")])
    for column in ("value", "lo", "hi"):
        rows[column] = rows[column].astype(float)
    rows["good"] = (rows["status"] == "ok") & np.isfinite(rows["value"])
    rows["look"] = rows["algebra"].where(rows["control"] == "none", "slim real")
    rows["look"] = rows["look"].mask(rows["algebra"] == "none", rows["subject"])
    rows["subject"] = rows["subject"].mask(rows["twin"] != "", rows["twin"])
    return _once(rows, metric) if metric in (*_OF_THE_NET, *_OF_THE_CALL) and len(rows) else rows


def _once(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Counts that several cases share, once each: their factors that do not bear on them become one."""
    same = [*_HOW_RUN, *([] if metric in ("weight_bytes", "file_bytes") else ["dtype"])]
    rows = rows.assign(**{name: rows[name].iloc[0] for name in same if name != "phase"}, phase="none")
    if metric in _OF_THE_NET:
        parsed = {text: json.loads(text) for text in rows["shape"].unique()}
        bare = {
            text: json.dumps({key: value for key, value in own.items() if key not in _INPUT}, sort_keys=True)
            for text, own in parsed.items()
        }
        rows = rows.assign(shape=rows["shape"].map(bare))
        rows[["batch", "size"]] = pd.NA
    return rows.drop_duplicates(["subject", "variant", "path", "dtype", "shape", "seed", "data", "control"])


def panels(
    rows: pd.DataFrame, but: Sequence[str] = (), *, x: str = "", least: int = 1, most: int = MOST_PANELS
) -> tuple[list[Panel], int]:
    """A panel for each subject, phase and data set, and for what else varies ``but`` some; and how many there are.

    x: what lies along the axis, at ``least`` values of which a panel has numbers. Where that is not the path, a panel
    has one path, the default where it was measured. At most ``most`` are made, as many of each subject and phase.
    """
    short = machines(rows["env_id"].dropna())
    found = []
    for (subject, _, data), of_phase in rows.groupby(["subject", "phase", "data"], sort=False):
        own, path = (of_phase, []) if x == "path" else _one_path(of_phase)
        names = _same(own, but, path)
        keys = [key for key in varying(own, but=[*but, "path"]) if key != "recipe"]
        if "shape" in keys:
            own = own.assign(shape=differing(own["shape"]))
        count, parts = _parts(own, keys, x, least)
        of = str(subject) if data == "none" else f"{subject} on {data}"
        found.append((count, _made(parts, of, names, keys, short)))
    shares = _shares([count for count, _ in found], most)
    made = [panel for share, (_, own) in zip(shares, found, strict=True) for panel in itertools.islice(own, share)]
    return made, sum(count for count, _ in found)


def _shares(counts: Sequence[int], most: int) -> list[int]:
    """How many of each count are taken, so that none has much less than another that has as many."""
    shares = [0] * len(counts)
    left, order = most, sorted(range(len(counts)), key=lambda at: counts[at])
    for turn, at in enumerate(order):
        shares[at] = min(counts[at], max(1, left // (len(order) - turn)), max(left, 0))
        left -= shares[at]
    return shares


def _same(rows: pd.DataFrame, but: Sequence[str], path: Sequence[str]) -> list[str]:
    """What all rows of a subject and phase share and a title names."""
    phase, batch = str(rows["phase"].iloc[0]), rows["batch"].iloc[0]
    names = [*([] if phase == "none" else [phase.replace("_", " ")]), *path]
    of_layers = "batch" not in but and (rows["data"] == "none").all() and rows["batch"].notna().all()
    return [*names, f"batch {batch}"] if of_layers and (rows["batch"] == batch).all() else names


Parts = Iterable[tuple[tuple[object, ...], pd.DataFrame]]


def _made(
    parts: Parts, of: str, names: Sequence[str], keys: Sequence[str], short: Mapping[str, str]
) -> Iterator[Panel]:
    for values, part in parts:
        told = [short.get(str(v), "") if k == "env_id" else named(k, v) for k, v in zip(keys, values, strict=True)]
        yield Panel(of, (*names, *_unlike(told)), part[part["good"]], part[~part["good"]])


def _parts(rows: pd.DataFrame, keys: list[str], x: str, least: int) -> tuple[int, Parts]:
    at = rows[x].where(rows["good"]) if x else rows["good"]
    if not keys:
        return (1, [((), rows)]) if at.nunique() >= least else (0, [])
    if x:
        rows = rows[at.groupby([rows[key] for key in keys], sort=False, dropna=False).transform("nunique") >= least]
    groups = rows.groupby(keys, sort=False, dropna=False)
    return groups.ngroups, groups


def _unlike(told: list[str]) -> list[str]:
    """Shapes as JSON are for programs; in a title they would hide all else."""
    return [text if len(text) <= 60 else text[:57] + "…" for text in told if text]


_PREFERRED = ("auto", "tuned", "dense")


def _one_path(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one path, the default where there is any, and those that take none; and the path's name."""
    have = list(rows.loc[rows["path"] != "none", "path"].unique())
    path = next((path for path in (*_PREFERRED, *have) if path in have), "auto")
    return rows[rows["path"].isin([path, "none"])], [] if path == "auto" else [path]


def one_each(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of ``keys``: seeds become their mean, of others the first stays."""
    if not rows.duplicated(list(keys)).any():
        return rows
    if rows["data"].iloc[0] == "none":
        return rows.drop_duplicates(list(keys))
    lines = []
    for _, own in rows.groupby(list(keys), sort=False, dropna=False):
        found = mean_interval(own["value"].tolist())
        lines.append({**own.iloc[0].to_dict(), "value": found.value, "lo": found.lo, "hi": found.hi})
    return pd.DataFrame(lines)
