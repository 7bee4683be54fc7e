"""``bench list``: the cases of a sweep."""

from __future__ import annotations

import typer

from .options import Data, Filters, Plugins, QuickForm, SweepFile, planned_of


def list_cases(
    sweep_file: SweepFile,
    filters: Filters = None,
    data: Data = None,
    plugins: Plugins = None,
    quick: QuickForm = False,
) -> None:
    """List the cases of a sweep with their ids; nothing is measured."""
    _, planned = planned_of(sweep_file, filters, data, plugins, quick)
    for p in planned:
        note = f"  skipped: {p.skipped}" if p.skipped else ""
        typer.echo(f"{p.case.id}  {p.case.name}{note}")
    skipped = sum(p.skipped is not None for p in planned)
    typer.echo(f"{len(planned)} cases, {skipped} of them skipped", err=True)
