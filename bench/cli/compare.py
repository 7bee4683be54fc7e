"""``bench compare``: two runs, revisions or machines, or two variants within a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .options import GATE_CLOSED, FailOn, Filters, Margin, margin_of

if TYPE_CHECKING:
    from ..compare.comparison import Comparison, Side
    from ..compare.gate import Gate
    from ..compare.source import Source
    from ..compare.where import Conditions


def compare(
    a: Annotated[Path, typer.Argument(help="a run folder, a folder of runs, or a table.parquet or .csv")],
    b: Annotated[Path | None, typer.Argument(help="another; without it --a and --b choose within the first")] = None,
    of_a: Annotated[str, typer.Option("--a", help="what of it is side a: algebra=real")] = "",
    of_b: Annotated[str, typer.Option("--b", help="what is side b: algebra=ph,n=4; paired over all else")] = "",
    filters: Filters = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="default: latency, and the score of a task")
    ] = None,
    margin: Margin = "1%",
    fail_on: FailOn = None,
    out: Annotated[Path | None, typer.Option(help="a .csv file for all pairs")] = None,
) -> None:
    """Compare two runs, revisions or machines, or two variants within a run, with verdicts.

    With --fail-on it exits with 5 where the comparison shows what must not be.
    """
    from ..compare import gate, source, told, where
    from ..compare.comparison import compare as compare_sides
    from ..store.folder import write_whole

    gates = [gate.parse(text) for text in fail_on or []]
    if out is not None and out.suffix != ".csv":
        raise UsageError(f"--out: {out} is no .csv file")
    if b is None and not (of_a and of_b):
        raise UsageError(f"compare {a} with what? Name a second run, or two variants of it with --a and --b")
    read = functools.cache(source.read)  # two variants of a run are of one reading
    kept = where.any_of(filters or ())
    sides = [_side(read, *asked, kept) for asked in ((a, of_a, "--a"), (b or a, of_b, "--b"))]
    found = compare_sides(sides[0], sides[1], metrics or (), margin_of(margin))
    typer.echo(told.comparison(found))
    if out is not None:
        table = told.table(found)
        write_whole(out, lambda path: table.to_csv(path, index=False))
    closed = [text for own in gates for text in _closed(own, found)]
    for text in closed:
        typer.echo(f"bench compare: {told.plain(text)}", err=True)
    if closed:
        raise typer.Exit(GATE_CLOSED)


def _side(read: Callable[..., Source], path: Path, text: str, flag: str, kept: Conditions) -> Side:
    from ..compare import where
    from ..compare.comparison import side

    chosen = dict(where.one_each(text, flag)) if text else {}
    revision = chosen.pop("code_rev", (None,))
    if len(revision) > 1:
        raise UsageError(f"{flag}: one code_rev, not {len(revision)}")
    return side(read(path, revision[0]), chosen, flag, kept)


def _closed(own: Gate, found: Comparison) -> list[str]:
    """Why the gate is closed, a line for each pair; a case that a has and that failed in b closes every gate."""
    from ..compare import gate

    lines = []
    for compared in found.metrics:
        for factors, change in zip(compared.factors, compared.changes, strict=True):
            if change.problem:
                why = change.problem if change.lost or own.kind == "maybe-slower" else ""
            else:
                why = gate.closes(own, change.interval(compared.level), compared.metric)
            if why:
                where = ", ".join(f"{key} {value}" for key, value in factors.items()) or "the only pair"
                lines.append(f"{own}: {compared.metric} of {where}: {why}")
    return lines
