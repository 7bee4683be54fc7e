"""Two sides compared, case by case and over all cases: runs, revisions or machines, or variants within a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import UsageError
from ..metrics import METRICS
from ..stats import MARGIN, Estimate, Interval, Verdict, combination, estimate_interval, together, verdict_level
from .change import Change, change, of_one_run, over_seeds, shown
from .direction import worse
from .pairing import pair
from .source import Source
from .where import Conditions, as_text, select


@dataclass(frozen=True)
class Side:
    """What is compared: rows of a source, and the factors by which they were chosen."""

    source: Source
    rows: pd.DataFrame
    told: str
    named: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.source.path} {self.told}".strip()


@dataclass(frozen=True)
class Compared:
    """All pairs of one metric, each with the factors that tell it from the others.

    Verdicts are right together with 95 %, while each interval is of 95 % by itself.
    """

    metric: str
    changes: Sequence[Change]
    factors: Sequence[Mapping[str, str]]
    only_a: int = 0
    only_b: int = 0
    margin: float = MARGIN

    @property
    def measured(self) -> list[Change]:
        """The pairs that have a figure on both sides."""
        return [found for found in self.changes if not found.problem]

    @property
    def level(self) -> float:
        """The level of each verdict's interval; exact figures are no comparison of chance."""
        return verdict_level(max(1, sum(found.estimate.variance != 0 for found in self.measured)))

    def verdict(self, found: Change) -> Verdict:
        """SLOWER: worse by more than the margin, whatever the metric."""
        return worse(found.interval(self.level), self.metric, self.margin)

    @property
    def overall(self) -> Interval | None:
        """The mean over all pairs (of ratios the geometric one) with its interval; None without a pair.

        Pairs that were timed in the same processes are taken to share all of their noise, others none.
        """
        found = mean_of(self.measured)
        return shown(estimate_interval(found), self.metric) if found else None


def mean_of(changes: Sequence[Change]) -> Estimate | None:
    """The mean of the estimates of pairs, those of one cluster as dependent as can be; None without a pair."""
    clusters: dict[str, list[Estimate]] = {}
    for found in changes:
        clusters.setdefault(found.cluster, []).append(found.estimate)
    if not clusters:
        return None
    weights = [len(own) / len(changes) for own in clusters.values()]
    return combination(weights, [together(own) for own in clusters.values()])


@dataclass(frozen=True)
class Comparison:
    """What was compared with what, and what came of it, metric by metric."""

    a: Side
    b: Side
    metrics: Sequence[Compared]


def side(source: Source, named: Conditions, flag: str, kept: Conditions | None = None) -> Side:
    """The rows of a source that meet the conditions. named: in which the sides differ; kept: those of both."""
    told = ",".join(f"{key}={value}" for key, values in named.items() for value in values)
    rows = select(select(source.rows, named, flag), kept or {}, "--filter")
    return Side(source, rows, told, frozenset(named))


DEFAULT_METRICS = ("latency", "accuracy", "sed_score", "mse")


def compare(a: Side, b: Side, metrics: Sequence[str] = (), margin: float = MARGIN) -> Comparison:
    """Compare two sides in ``metrics`` (by default the latency and the score of each task, as far as both have them).

    Raises UsageError for a metric that one side lacks, for sides that share no case, and for sides in which several
    cases could be paired with several.
    """
    shared = [name for name in METRICS if all((s.rows["metric"] == name).any() for s in (a, b))]
    if not shared:
        raise UsageError(f"{a} and {b} have no metric in common")
    if absent := [name for name in metrics if name not in shared]:
        raise UsageError(f"--metric {absent[0]}: both sides have only {', '.join(shared)}")
    wanted = list(metrics) or [name for name in DEFAULT_METRICS if name in shared] or shared[:1]
    named = (a.named | b.named | _machine(a, b)) - {"code_rev"}
    found = [_compared(a, b, named, metric, margin) for metric in wanted]
    if not any(compared.changes for compared in found):
        raise UsageError(f"no case of {a} has its like in {b}: all factors that --a and --b do not name must agree")
    return Comparison(a, b, found)


def _machine(a: Side, b: Side) -> frozenset[str]:
    """env_id as a factor that need not agree, where the sides are of two machines; a machine on both meets itself."""
    own = [set(as_text(s.rows["env_id"]).unique()) - {""} for s in (a, b)]
    if own[0] & own[1] or "env_id" in a.named | b.named:
        return frozenset()
    for flag, ids in zip(("--a", "--b"), own, strict=True):
        if len(ids) > 1:
            raise UsageError(f"{flag}: of which machine? env_id is one of {', '.join(sorted(ids))}")
    return frozenset({"env_id"})


def _compared(a: Side, b: Side, named: Collection[str], metric: str, margin: float) -> Compared:
    pairs = pair(a.rows, b.rows, named, metric)
    one_run = (a.source.path, a.source.code_rev) == (b.source.path, b.source.code_rev)
    run = of_one_run(a.source.findings, pd.concat([a.rows, b.rows])) if one_run else None
    trained = pairs.rows["data_a"] != "none"
    single, nets = pairs.rows[~trained], pairs.rows[trained]
    net = [name for name in nets.columns if name.startswith("key_")] + ["variant_a", "variant_b"]
    found = [change(row, metric, run) for row in single.to_dict("records")]
    found += [over_seeds(own, metric) for _, own in nets.groupby(net, sort=False, dropna=False)]
    first = pd.concat([single, nets.drop_duplicates(net)])
    return Compared(metric, found, _telling(first), pairs.only_a, pairs.only_b, margin)


_FACTORS = ("subject", "data", "phase", "channels", "batch", "out_channels", "size", "kernel_size", "width_scale",
            "dtype", "precision", "compile", "timer", "threads", "memory_format", "seed", "env_id", "variant", "path",
            "shape", "recipe")  # fmt: skip


def _telling(rows: pd.DataFrame) -> list[dict[str, str]]:
    """For each pair the factors that tell it from the others, no more; one of each side where they do not agree."""
    told = pd.DataFrame(index=rows.index)
    for name in _FACTORS:
        a, b = (as_text(rows[f"{name}_{s}" if f"{name}_{s}" in rows else name]) for s in "ab")
        columns = {name: a} if (a == b).all() else {f"{name} a": a, f"{name} b": b}
        for title, column in columns.items():
            finer = told.assign(**{title: column})
            if len(finer.drop_duplicates()) > max(1, len(told.drop_duplicates()) if len(told.columns) else 1):
                told = finer
    return [{str(title): value for title, value in row.items()} for row in told.to_dict("records")]
