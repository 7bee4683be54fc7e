"""The findings: sentences and tables from the reference results, which docs/fill.py puts into docs/findings.md.

Each function of ``FINDINGS`` takes the tidy table of the reference sweep that its block names; it returns Markdown. A
ratio is to the real layer of the same width in the same group; means over groups are geometric, over the groups that
have all variants of the table; [least, greatest] are over those groups and no interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from scipy.stats import gmean

from bench.report import trained

# by dimension, then by name; what a table does not have is left out
VARIANTS = (
    "ph n=1", "complex", "split_complex", "dual", "ph n=2", "ph n=3", "quaternion", "split_quaternion", "tessarine",
    "klein4", "ph n=4", "ph n=8", "ph n=16",
)  # fmt: skip
LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d")
VERDICTS = ("FASTER", "SLOWER", "CAN'T TELL", "SAME")


def measured(df: pd.DataFrame) -> pd.DataFrame:
    """What was measured without training, with the ratio to the group's real layer as a column ``ratio``."""
    ok = df[(df["status"] == "ok") & (df["data"] == "none")]
    keys = ["env_id", "case_id", "metric"]
    real = ok.rename(columns={"value": "real", "case_id": "of"})[["env_id", "of", "metric", "real"]]
    joined = ok.merge(
        real, how="left", left_on=["env_id", "baseline_id", "metric"], right_on=["env_id", "of", "metric"]
    )
    return joined.assign(ratio=joined["value"] / joined["real"]).drop_duplicates(keys)


def ratios(df: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Groups by variants: the ratio of a metric to the real layer; times as they were compared, round by round."""
    rows = measured(df)
    if metric == "latency":
        rows = rows[rows["metric"] == "latency_ratio"].assign(ratio=lambda r: r["value"])
    else:
        rows = rows[rows["metric"] == metric]
    rows = rows[(rows["control"] == "none") & (rows["algebra"] != "real")]
    return rows.set_index(["subject", "phase", "batch", "group_id", "variant"])["ratio"].unstack("variant")


def mean(values: Iterable[float], spread: bool = True) -> str:
    """Geometric mean, with the least and the greatest."""
    found = [float(v) for v in values]
    if not found:
        return ""
    middle = f"{gmean(found):.2f}"
    return f"{middle} [{min(found):.2f}, {max(found):.2f}]" if spread and len(found) > 1 else middle


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _present(columns: Iterable[str]) -> list[str]:
    return [name for name in VARIANTS if name in set(columns)]


def by_layer(df: pd.DataFrame, metric: str, phase: str) -> str:
    """A row a variant, a column a layer and batch: the mean ratio over widths."""
    found = ratios(df, metric)
    variants, columns = _present(found.columns), []
    for layer in LAYERS:
        for batch in (1, 32):
            own = found[found.index.isin([layer], level="subject") & found.index.isin([phase], level="phase")
                        & found.index.isin([batch], level="batch")][variants].dropna()  # fmt: skip
            if len(own):
                columns.append((f"{layer}, batch {batch}", own))
    rows = [[variant, *(mean(own[variant], spread=False) for _, own in columns)] for variant in variants]
    rows.append(["widths", *(len(own) for _, own in columns)])
    return markdown(["", *(name for name, _ in columns)], rows)


def verdicts(df: pd.DataFrame) -> str:
    """How often each variant was faster or slower than the real layer."""
    rows = df[(df["metric"] == "latency_ratio") & (df["status"] == "ok") & (df["algebra"] != "real")]
    told = rows["details"].map(lambda text: json.loads(text).get("verdict", ""))
    counted = pd.crosstab([rows["variant"], rows["phase"]], told)
    lines = []
    for variant in _present(rows["variant"]):
        cells = [variant]
        for phase in ("infer", "train_step"):
            own = counted.loc[(variant, phase)] if (variant, phase) in counted.index else {}
            cells += [str(int(own.get(v, 0))) for v in VERDICTS]
        lines.append(cells)
    heads = [f"{phase}: {v}" for phase in ("infer", "train step") for v in VERDICTS]
    return markdown(["", *heads], lines)


def growth(df: pd.DataFrame) -> str:
    """How time grows with n: time at n over time at n = 2, in the same group."""
    found = ratios(df, "latency")
    names = ["ph n=2", "ph n=4", "ph n=8", "ph n=16"]
    rows = []
    for phase in ("infer", "train_step"):
        for layer in LAYERS:
            own = found[found.index.isin([layer], level="subject") & found.index.isin([phase], level="phase")]
            own = own[names].dropna()
            if len(own):
                relative = own.div(own["ph n=2"], axis=0)
                rows.append([layer, phase.replace("_", " "), len(own), *(mean(relative[n]) for n in names[1:])])
    return markdown(["layer", "phase", "groups", "n = 4 / n = 2", "n = 8 / n = 2", "n = 16 / n = 2"], rows)


def memory(df: pd.DataFrame) -> str:
    """Bytes over those of the real layer: of weights, at the peak of inference and of a training step."""
    peaks, weights = ratios(df, "peak_bytes"), ratios(df, "weight_bytes")
    variants = _present(peaks.columns)
    columns = [("weights", weights[variants].dropna())]
    for phase in ("infer", "train_step"):
        for batch in (1, 32):
            own = peaks[peaks.index.isin([phase], level="phase") & peaks.index.isin([batch], level="batch")]
            columns.append((f"{phase.replace('_', ' ')}, batch {batch}", own[variants].dropna()))
    rows = [[variant, *(mean(own[variant]) for _, own in columns)] for variant in variants]
    rows.append(["groups", *(len(own) for _, own in columns)])
    return markdown(["", *(name for name, _ in columns)], rows)


def nets(df: pd.DataFrame, metric: str) -> str:
    """A row a net, phase and batch, a column a variant."""
    rows = measured(df)
    wanted = rows[
        (rows["metric"] == ("latency_ratio" if metric == "latency" else metric)) & (rows["algebra"] != "real")
    ]
    variants = _present(wanted["variant"])
    lines = []
    for (subject, phase, batch), own in wanted.groupby(["subject", "phase", "batch"], sort=False):
        cells = []
        for variant in variants:
            row = own[own["variant"] == variant]
            if row.empty:
                cells.append("")
            elif metric == "latency":
                cells.append(_with_interval(row))
            else:
                cells.append(f"{row['ratio'].iloc[0]:.2f}")
        lines.append([subject, str(phase).replace("_", " "), batch, *cells])
    return markdown(["net", "phase", "batch", *variants], lines)


def _with_interval(rows: pd.DataFrame) -> str:
    """A ratio and its 95 % interval; nothing of no row."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    return f"{first['value']:.2f} [{first['lo']:.2f}, {first['hi']:.2f}]"


def paths(df: pd.DataFrame) -> str:
    """Each path of a learned rule with n = 4 and of quaternions, as ratio to the real layer."""
    rows = df[(df["metric"] == "latency_ratio") & (df["status"] == "ok") & (df["rank"] == 0)]
    rows = rows[rows["variant"].isin(["quaternion", "ph n=4", "ph n=8"])]
    order = ["kron", "dense", "factored", "bilinear", "tuned"]
    lines = []
    keys = ["subject", "phase", "batch", "channels", "variant"]
    for (subject, phase, batch, channels, variant), own in rows.groupby(keys, sort=False, dropna=False):
        found = {path: own[own["path"] == path].nsmallest(1, "value") for path in order}
        if found["kron"].empty:
            continue
        what = subject if pd.isna(channels) else f"{subject} {int(channels)}"
        cells = [_with_interval(found[path]) for path in order]
        lines.append([what, str(phase).replace("_", " "), batch, variant, *cells])
    return markdown(["", "phase", "batch", "rule", *order], lines)


# ------------------------------------------------------------------------------------------------- sentences


def _range(values: Iterable[float]) -> str:
    """The least and the greatest, once if they round to one."""
    found = sorted(float(v) for v in values)
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _learned(df: pd.DataFrame, metric: str, phase: str) -> pd.DataFrame:
    """Learned rules of all n, in one phase; groups that lack one are left out."""
    found = ratios(df, metric)
    names = [name for name in ("ph n=2", "ph n=3", "ph n=4", "ph n=8", "ph n=16") if name in found]
    return found[found.index.isin([phase], level="phase")][names].dropna()


def _means(found: pd.DataFrame, layers: Sequence[str], batch: int) -> list[float]:
    """The geometric mean over widths of each layer and n."""
    own = found[found.index.isin(layers, level="subject") & found.index.isin([batch], level="batch")]
    return [float(gmean(values)) for _, rows in own.groupby("subject") for values in rows.to_numpy(dtype=float).T]


def say_time(df: pd.DataFrame) -> str:
    """How much longer than the real layer learned rules take, untuned."""
    lines = []
    for phase, words in (("infer", "In inference"), ("train_step", "In a training step")):
        found = _learned(df, "latency", phase)
        convolutions = [layer for layer in LAYERS if layer != "linear"]
        conv, linear = (
            [_range(_means(found, layers, batch)) for batch in (32, 1)] for layers in (convolutions, ["linear"])
        )
        lines.append(
            f"{words} an untuned layer over a learned rule, n = 2 to 16, takes {conv[0]} times as long as the real "
            f"convolution at batch 32 and {conv[1]} at batch 1; a linear layer {linear[0]} and {linear[1]}."
        )
    return " ".join(lines) + " Each is a geometric mean over the widths of one layer at one n."


def say_growth(df: pd.DataFrame) -> str:
    """Whether time grows with n."""
    told = []
    for phase, words in (("infer", "inference"), ("train_step", "a training step")):
        found = _learned(df, "latency", phase)
        relative = found["ph n=16"] / found["ph n=2"]
        told.append(
            f"{mean(relative, spread=False)} times as long at n = 16 as at n = 2 in {words} "
            f"({len(relative)} groups, {_range(relative)})"
        )
    return f"Over all layers, widths and batches a call takes {' and '.join(told)}."


def say_memory(df: pd.DataFrame) -> str:
    """What of 1/n in the parameters is left at the peaks."""
    told = []
    for name in ("ph n=4", "ph n=8"):
        weights = mean(ratios(df, "weight_bytes")[name].dropna(), spread=False)
        infer, step = (
            mean(_learned(df, "peak_bytes", phase)[name], spread=False) for phase in ("infer", "train_step")
        )
        told.append(
            f"with {name.removeprefix('ph ').replace('=', ' = ')} the weights take {weights} of the real layer's "
            f"bytes, the peak of inference {infer} and that of a training step {step}"
        )
    return f"{'; '.join(told)} (geometric means over all layers).".capitalize()


def say_paths(df: pd.DataFrame) -> str:
    """What the published code's way costs, and the best path."""
    rows = df[(df["metric"] == "latency_ratio") & (df["status"] == "ok") & (df["rank"] == 0)]
    nets = rows[(rows["subject"] == "resnet18") & rows["variant"].isin(["quaternion", "ph n=4"])]
    least = nets.groupby(["phase", "batch", "variant", "path"])["value"].min()

    def of(phase: str, batch: int, path: str) -> str:
        return _range(v for (p, b, _, q), v in least.items() if (p, b, q) == (phase, batch, path))

    calls = (("infer", 1), ("infer", 32), ("train_step", 32))
    kron, tuned = ([of(phase, batch, path) for phase, batch in calls] for path in ("kron", "tuned"))
    return (
        "ResNet18 over n = 4 or quaternions, built as published code builds it (`kron`), takes "
        f"{kron[0]} times as long as the real net at batch 1, {kron[1]} times at batch 32 and {kron[2]} times in a "
        f"training step. Tuned, the same net takes {tuned[0]} of the real net's time at batch 1, {tuned[1]} at "
        f"batch 32 and {tuned[2]} in a training step."
    )


def say_accuracy(df: pd.DataFrame) -> str:
    """How far the trained nets are from the real ones, and from slim real nets of as many parameters."""
    lines = []
    for subject, data, metric, factor, unit in (
        ("resnet20", "digits", "accuracy", 100.0, " points"),
        ("seldnet", "sounds", "sed_score", 1.0, ""),
    ):
        own = df[(df["subject"] == subject) & (df["data"] == data) & (df["status"] == "ok")]
        rows = own[own["recipe"].map(lambda text: json.loads(text)["start"]) == "random"]
        params = rows[rows["metric"] == "params"].groupby("variant")["value"].first()
        of_metric = rows[(rows["metric"] == metric) & (rows["control"] == "none") & (rows["algebra"] != "real")]
        told = []
        for variant, mine in of_metric.groupby("variant"):
            kept = f"{100 * params[variant] / params['real']:.0f} % of the parameters"
            less_real = trained.compare(mine, rows, list(mine["baseline_id"]), metric)
            less_slim = trained.compare(mine, rows, trained.slim_controls(mine, rows), metric)
            differences = [
                f"{factor * found.interval.value:.2f} [{factor * found.interval.lo:.2f}, "
                f"{factor * found.interval.hi:.2f}]{unit} from {whom}, p = {found.p:.2g}"
                for found, whom in ((less_real, "the real net"), (less_slim, "a slim real net of as many parameters"))
                if found
            ]
            told.append(f"{variant} ({kept}) is {' and '.join(differences)}")
        seeds = int(rows["seed"].nunique())
        lines.append(f"- {subject} on {data}, {metric.replace('_', ' ')} over {seeds} seeds: {'; '.join(told)}.")
    return "\n".join(lines)


FINDINGS: dict[str, Callable[[pd.DataFrame], str]] = {
    "time of layers in inference": lambda df: by_layer(df, "latency", "infer"),
    "time of layers in training": lambda df: by_layer(df, "latency", "train_step"),
    "verdicts of layers": verdicts,
    "growth with n": growth,
    "memory of layers": memory,
    "time of nets": lambda df: nets(df, "latency"),
    "memory of nets": lambda df: nets(df, "peak_bytes"),
    "parameters of nets": lambda df: nets(df, "params"),
    "paths": paths,
    "time in words": say_time,
    "growth in words": say_growth,
    "memory in words": say_memory,
    "paths in words": say_paths,
    "accuracy in words": say_accuracy,
}
