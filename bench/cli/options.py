"""What several verbs take: the sweep, the filters, the data; and the exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..plan.case import Planned
    from ..plan.sweep import Sweep

OK, USAGE, SOME_FAILED, NOTHING_SUCCEEDED, GATE_CLOSED, INTERRUPTED = 0, 2, 3, 4, 5, 130


SweepFile = Annotated[Path, typer.Argument(help="a sweep file, such as bench/sweeps/quick.toml")]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", help="key=value on a factor or shape axis; commas: any of them")
]
Data = Annotated[str | None, typer.Option("--data", help="train on this data set instead of the sweep's")]
Margin = Annotated[str, typer.Option("--margin", help="a difference that makes none in practice")]
FailOn = Annotated[
    list[str] | None,
    typer.Option("--fail-on", help="slower:5% (shown to be) or maybe-slower:5% (not shown not to be): exit with 5"),
]
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

    from ..plan.expansion import expand
    from ..plan.selection import select
    from ..plan.sweep import load
    from ..study.catalog import DATA

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


def margin_of(text: str) -> float:
    from ..compare.gate import share_of

    margin = share_of(text)
    if margin is None:
        raise UsageError(f"--margin {text!r} is no share: write 1% or 0.01")
    return margin
