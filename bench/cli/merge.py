"""``bench merge``: run folders joined into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import OK, SOME_FAILED, Filters

if TYPE_CHECKING:
    from ..store.merge import Merged

_SHOWN = 20  # conflicts


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="run folders, folders that hold some, or JSON files of pytest-benchmark")
    ],
    out: Annotated[Path, typer.Option(help="the folder to join them in: a new one, or one of them")],
    filters: Filters = None,
) -> None:
    """Join runs of one machine or several: every finished task once. Exits with 3 if they contradict each other."""
    from ..store.merge import merge as join

    found = join(folders, out, filters or ())
    typer.echo(told(found, out))
    raise typer.Exit(SOME_FAILED if found.conflicts else OK)


def told(found: Merged, out: Path) -> str:
    """What was joined, and what does not fit, a line each."""
    machines = "".join(f"\n  {count} on {env_id}" for env_id, count in found.tasks.items())
    lines = [f"{out}: {found.tasks.total()} tasks of {found.cases} cases from {found.folders} folders{machines}"]
    if found.duplicates:
        lines.append(f"duplicates: {found.duplicates} tasks were in several folders and are kept once")
    if found.twice:
        lines.append(f"measured twice: {found.twice} tasks, by the same code on the same machine; the newest counts")
    lines += [f"conflict: {conflict}" for conflict in found.conflicts[:_SHOWN]]
    if more := found.conflicts[_SHOWN:]:
        lines.append(f"conflict: {len(more)} more")
    lines += [
        f"not collected: {folder} holds answers in spool/; bench run there first" for folder in found.uncollected
    ]
    return "\n".join([*lines, f"next: bench report {out}"])
