"""``bench rank``: variants by the geometric mean of their cost over the real layer's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import GATE_CLOSED, FailOn, Filters, Margin, margin_of

if TYPE_CHECKING:
    from ..compare.gate import Gate
    from ..compare.rank import Ranking


def rank(
    run: Annotated[Path, typer.Argument(help="a run folder, a folder of runs, or a table.parquet or .csv")],
    metric: Annotated[str, typer.Option(help="latency, params, peak_bytes, …")] = "latency",
    by: Annotated[str, typer.Option(help="a ranking for each value of these columns: subject,phase")] = "",
    filters: Filters = None,
    margin: Margin = "1%",
    fail_on: FailOn = None,
) -> None:
    """Rank variants by the geometric mean of their cost over the real layer's, on the cases that all of them have.

    With --fail-on it exits with 5 where a variant's mean is, against the real layer, what must not be.
    """
    from ..compare import gate, source, told, where
    from ..compare.rank import rank as rank_rows
    from ..errors import UsageError

    gates = [gate.parse(text) for text in fail_on or []]
    read = source.read(run)
    columns = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in columns if name not in where.KEYS]:
        raise UsageError(f"--by: no column {unknown[0]!r}: choose among {', '.join(where.KEYS)}")
    rows = read.rows
    if filters:  # the real layer stays: it is what others are held to
        kept = where.select(rows, where.any_of(filters), "--filter")
        beside = (rows["case_id"] == rows["baseline_id"]) & rows["group_id"].isin(kept["group_id"])
        rows = rows[rows.index.isin(kept.index) | beside]
    found = rank_rows(rows, metric, columns, read.findings, margin_of(margin))
    typer.echo(told.rankings(found))
    closed = [text for own in gates for ranking in found for text in _closed(own, ranking)]
    for text in closed:
        typer.echo(f"bench rank: {told.plain(text)}", err=True)
    if closed:
        raise typer.Exit(GATE_CLOSED)


def _closed(own: Gate, ranking: Ranking) -> list[str]:
    from ..compare import gate

    lines = [f"{own}: {text}" for text in ranking.failures]
    for place in (place for place in ranking.places if place.variant != "real"):
        if why := gate.closes(own, place.joint, ranking.metric):
            title = f" ({ranking.title})" if ranking.title else ""
            lines.append(f"{own}: {ranking.metric} of {place.variant}{title}: {why} than real")
    return lines
