"""What several verbs take: the sweep, the filters, the data; and the exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..case import Planned
    from ..sweep import Sweep

OK, USAGE, SOME_FAILED, NOTHING_SUCCEEDED, INTERRUPTED = 0, 2, 3, 4, 130


SweepFile = Annotated[Path, typer.Argument(help="a sweep file, such as bench/sweeps/quick.toml")]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", help="key=value on a factor or shape axis; commas: any of them")
]
Data = Annotated[str | None, typer.Option("--data", help="train on this data set instead of the sweep's")]
QuickForm = Annotated[bool, typer.Option("--quick", help="the sweep's short form: fewer seeds, shorter trainings")]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="the folder that holds the data sets")]


def planned_of(
    path: Path, filters: list[str] | None, data: str | None, quick: bool = False
) -> tuple[Sweep, list[Planned]]:
    from ..study.catalog import DATA
    from ..sweep import expand, load, select

    if data is not None and data not in DATA:
        raise UsageError(f"--data: unknown data set {data!r}: choose one of {', '.join(DATA)}")
    sweep = load(path).quick if quick else load(path)
    planned = expand(sweep, data)
    return sweep, select(planned, filters) if filters else planned
