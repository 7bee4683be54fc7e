"""Learning curves as records: a row for each number of each epoch, derived from the tidy table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ..store.folder import write_whole

# what identifies a training, as the tidy table has it
KEYS = ("subject", "variant", "algebra", "n", "path", "control", "data", "seed", "recipe", "case_id", "group_id",
        "env_id", "code_rev")  # fmt: skip

COLUMNS = (*KEYS, "stage", "epoch", "metric", "unit", "value")

_UNITS = {"seconds": "s", "peak_bytes": "B", "peak_rss_bytes": "B"}


def frame(df: pd.DataFrame) -> pd.DataFrame:
    """All curves of a tidy table: stage (train, finetune), epoch, metric, unit, value; val_… is of validation.

    seconds: of all steps so far, validation not counted. Empty where nothing was trained.
    """
    rows: list[dict[str, Any]] = []
    trained = df[(df["data"] != "none") & (df["status"] == "ok")] if len(df) else df
    for record in trained.to_dict("records"):
        details = json.loads(record["details"])
        keys = {name: record[name] for name in KEYS}
        for stage, curve in _stages(details).items():
            for point in curve:
                rows += [
                    {**keys, "stage": stage, "epoch": point["epoch"], "metric": name, "unit": _UNITS.get(name, "1"),
                     "value": float(value)}
                    for name, value in point.items() if name != "epoch"
                ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _stages(details: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """The curves of one training by stage; only one record of a case holds them."""
    if "curve" not in details:
        return {}
    if "curve_before" not in details:
        return {"train": details["curve"]}
    return {"train": details["curve_before"], **({"finetune": details["curve"]} if details["curve"] else {})}


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write curves.csv where anything was trained; nothing otherwise."""
    curves = frame(df)
    if curves.empty:
        return []
    path = folder / "curves.csv"
    write_whole(path, lambda to: curves.to_csv(to, index=False))
    return [path]
