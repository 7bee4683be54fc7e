"""Tidy tables of any size with plausible numbers, for what draws and tabulates them. Nothing in them was measured.

python tests/harness/support/made_tables.py 1000000 FOLDER      writes FOLDER/table.parquet
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from bench.metrics import METRICS
from bench.table import frames
from bench.table.records import COLUMNS

ENVS = ("cpu-made-8c-torch2.11.0-0000000a", "cuda-made-b-torch2.11.0-0000000b")
VARIANTS = (
    ("real", 1), ("complex", 2), ("split_complex", 2), ("dual", 2), ("quaternion", 4), ("split_quaternion", 4),
    ("tessarine", 4), ("klein4", 4), ("ph", 2), ("ph", 3), ("ph", 4), ("ph", 8), ("ph", 16),
)  # fmt: skip
_FACTORS = {
    "env_id": ENVS,
    "subject": ("linear", "conv2d", "conv1d", "conv_transpose2d"),
    "phase": ("infer", "train_step"),
    "dtype": ("float32", "bfloat16"),
    "batch": (1, 32, 8, 128),
    "threads": (1, 2, 4, 8),
    "size": (8, 16),
    "channels": (48, 96, 192, 384, 768, 1536),
}
_METRICS = ("params", "macs", "macs_weight_build", "peak_bytes", "arithmetic_intensity", "numeric_error", "latency",
            "latency_ratio", "efficiency")  # fmt: skip
_CONSTANT = {
    "twin": "", "kind": "layer", "seed": 0, "timer": "host_warm", "compile": "none", "precision": "none", "rank": 0,
    "memory_format": "contiguous", "control": "none", "data": "none", "recipe": "{}", "reason": "", "marks": "",
    "code_rev": "0123456789ab", "schema": 1, "started": "2026-01-01T00:00:00+00:00", "status": "ok",
    "out_channels": None, "kernel_size": 3, "width_scale": None,
}  # fmt: skip


def made(
    records: int,
    variants: tuple[tuple[str, int], ...] = VARIANTS,
    metrics: tuple[str, ...] = _METRICS,
    failures: bool = True,
    **factors: tuple[object, ...],
) -> pd.DataFrame:
    """A table of at most ``records`` rows, whole groups of cases only; ``factors`` replace the usual values."""
    axes = {**_FACTORS, **factors}
    per_group = len(variants) * len(metrics)
    groups = max(1, records // per_group)
    if factors:  # a table of just these; the usual one grows in sizes of images
        groups = min(groups, math.prod(len(values) for values in axes.values()))
    # the last factor varies first, the machine last but where there are few groups
    index = np.arange(groups)
    columns: dict[str, np.ndarray] = {}
    for name in ("channels", "env_id", "subject", "phase", "batch", "dtype", "threads", "size"):
        values = np.array(axes[name], dtype=object)
        columns[name] = values[index % len(values)]
        index = index // len(values)
    columns["size"] = np.array(
        [int(size) + 16 * int(turn) for size, turn in zip(columns["size"], index, strict=True)]
    )
    group = pd.DataFrame(columns)
    group["group_id"] = [f"g{i // 2:011x}" if len(axes["env_id"]) == 1 else f"g{i:011x}" for i in range(groups)]
    group["group_id"] = pd.util.hash_pandas_object(group.drop(columns=["env_id", "group_id"]), index=False).map(
        "{:012x}".format
    )
    cases = group.merge(pd.DataFrame(variants, columns=["algebra", "n"]), how="cross")
    cases["variant"] = cases["algebra"].where(cases["algebra"] != "ph", "ph n=" + cases["n"].astype(str))
    cases["case_id"] = cases["group_id"] + "-" + cases["variant"]
    cases["baseline_id"] = cases["group_id"] + "-real"
    cases["path"] = np.where(cases["algebra"] == "real", "none", "auto")
    cases["path_built"] = np.where(cases["algebra"] == "real", "torch", "dense")
    shape = cases[["batch", "channels", "size"]].astype(int).to_dict("records")
    cases["shape"] = [json.dumps({**own, "kernel_size": 3}, sort_keys=True) for own in shape]
    whole = pd.concat([_of_metric(cases, metric) for metric in metrics], ignore_index=True)
    for name, value in _CONSTANT.items():
        whole[name] = value
    if failures:
        lost = (
            (whole["n"] == 16)
            & (whole["channels"] == max(axes["channels"]))
            & whole["metric"].str.startswith("latency")
        )
        whole.loc[lost, ["status", "reason"]] = ["oom", "out of memory: 12 GiB wanted"]
        whole.loc[lost, ["value", "lo", "hi"]] = np.nan
        noisy = (whole["metric"] == "latency") & (whole["batch"] == 1)
        whole.loc[noisy, "marks"] = "noisy"
    return whole.astype({field.name: frames.DTYPES[field.type] for field in frames.TYPES})[list(COLUMNS)]


def _of_metric(cases: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric: laws that resemble the true ones, with noise of 2 % where a clock is read."""
    rng = np.random.default_rng(len(metric))
    n, channels, batch = (cases[name].astype(float).to_numpy() for name in ("n", "channels", "batch"))
    real = (cases["algebra"] == "real").to_numpy()
    flop = 2 * channels**2 * 9 * batch
    ratio = np.where(real, 1.0, np.where(batch == 1, 1.4 / n**0.8, 0.9 + 0.05 * n) * (1 + 20 / channels))
    ratio = np.where(real, 1.0, ratio * np.exp(rng.normal(0, 0.02, len(cases))))
    seconds = 3e-6 + flop / 5e10 * ratio
    values = {
        "params": channels**2 * 9 / n + n**3 * ~real,
        "macs": flop / 2,
        "macs_weight_build": np.where(real, 0, channels**2 * 9 * n),
        "peak_bytes": 4 * (channels**2 * 9 + 64 * batch * channels),
        "arithmetic_intensity": flop / (4 * (channels**2 * 9 / n + 64 * batch * channels)),
        "numeric_error": np.full(len(cases), 2e-7),
        "latency": seconds,
        "latency_ratio": ratio,
        "efficiency": np.clip(0.7 / ratio * channels / (channels + 200), 0.01, 0.95),
    }[metric]
    rows = cases.assign(metric=metric, unit=METRICS[metric].unit, value=values, samples=1, processes=1, details="{}")
    if METRICS[metric].task == "timing":
        reach = np.where(real & (metric == "latency_ratio"), 0.0, np.abs(rng.normal(0.02, 0.01, len(cases))))
        rows = rows.assign(lo=values * (1 - reach), hi=values * (1 + reach), samples=60, processes=3)
    else:
        rows = rows.assign(lo=np.nan, hi=np.nan)
    if metric == "latency_ratio":
        lo, hi = rows["lo"].to_numpy(), rows["hi"].to_numpy()
        said = np.select([lo > 1.01, hi < 1 / 1.01], ["SLOWER", "FASTER"], "CAN'T TELL")
        rows["details"] = [
            "{}" if base else json.dumps({"compared": 12, "margin": 0.01, "verdict": word})
            for base, word in zip(real, said, strict=True)
        ]
    if metric == "efficiency":
        roof = {"seconds": 1e-5, "bound": "memory", "peak": 9.1e10, "bandwidth": 2.4e10}
        rows["details"] = json.dumps({"roof": roof})
    return rows


def trained(variants: tuple[str, ...] = ("real", "quaternion", "ph n=2", "ph n=4"), seeds: int = 5) -> pd.DataFrame:
    """A table of trainings: accuracies, parameters and losses by epoch, paired by seed."""
    lines = []
    for index, name in enumerate(variants):
        algebra, n = [*name.split(" n="), "1"][:2] if "=" in name else (name, {"quaternion": 4}.get(name, 1))
        for seed in range(seeds):
            losses = [2.3 * 0.6**epoch + 0.05 * index + 0.02 * ((seed * 7 + epoch) % 5) for epoch in range(12)]
            accuracy = 0.90 + 0.01 * ((seed * 3) % 5) - 0.002 * index + 0.001 * ((seed + index) % 3)
            for metric, value in (("accuracy", accuracy), ("params", 1e5 / int(n)), ("train_loss", losses[-1])):
                lines.append(
                    {
                        **_CONSTANT, "subject": "resnet8", "kind": "model", "variant": name, "algebra": algebra, "n": int(n),
                        "shape": '{"size": 8}', "batch": 64, "channels": None, "size": 8, "seed": seed, "phase": "none",
                        "timer": "none", "dtype": "float32", "path": "none" if name == "real" else "auto", "threads": 1,
                        "data": "digits", "recipe": '{"epochs": 12}', "metric": metric, "unit": "1", "value": value,
                        "lo": None, "hi": None, "samples": 1, "processes": 1, "path_built": "dense",
                        "details": json.dumps({"losses": losses}), "case_id": f"{name}-{seed}", "group_id": f"t{seed}",
                        "baseline_id": f"real-{seed}", "env_id": ENVS[0],
                    }
                )  # fmt: skip
    return frames.of_records([{column: line[column] for column in COLUMNS} for line in lines])


def beside_paths(
    df: pd.DataFrame, paths: tuple[str, ...] = ("kron", "dense", "factored", "bilinear", "tuned")
) -> pd.DataFrame:
    """The table with every variant along several paths."""
    real = df["algebra"] == "real"
    copies = []
    for index, path in enumerate(paths):
        own = df[~real].assign(path=path, path_built=path)
        timed = own["metric"].isin(["latency", "latency_ratio"])
        for column in ("value", "lo", "hi"):
            own[column] = own[column].where(~timed, own[column] * (1.6 - 0.22 * index))
        own["case_id"] = own["case_id"] + f"-{path}"
        copies.append(own)
    return pd.concat([df[real], *copies], ignore_index=True)


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    made(int(sys.argv[1])).to_parquet(folder / "table.parquet", index=False)
