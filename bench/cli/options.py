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
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="module:attribute whose layers and models the sweep may measure; its code is run"),
]


def planned_of(
    path: Path,
    filters: list[str] | None,
    data: str | None,
    plugins: list[str] | None = None,
    quick: bool = False,
) -> tuple[Sweep, list[Planned]]:
    from phnn.plugins import load_named

    from ..selection import select
    from ..study.catalog import DATA
    from ..sweep import expand, load

    if data is not None and data not in DATA:
        raise UsageError(f"--data: unknown data set {data!r}: choose one of {', '.join(DATA)}")
    sweep = load(path)
    if quick or sweep.form == "quick":
        sweep = sweep.quick
    if refused := [name for name in sweep.plugins if name not in (plugins or [])]:
        raise UsageError(
            f"{path} asks for code that is not installed as a plug-in: if you trust it, add --plugin {refused[0]}"
        )
    for name in plugins or []:
        try:
            load_named(name)
        except ValueError as error:
            raise UsageError(f"--plugin: {error}") from None
    planned = expand(sweep, data)
    return sweep, select(planned, filters) if filters else planned
