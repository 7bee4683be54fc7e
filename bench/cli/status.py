"""``bench status``: how far a run folder is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..schedule.estimate import spoken
from .options import Data, Filters, Plugins, planned_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store.status import Kind


def status(
    folder: Annotated[Path, typer.Argument(help="a run folder; a run may be under way in it")],
    filters: Filters = None,
    data: Data = None,
    plugins: Plugins = None,
) -> None:
    """Show what is done, failed and left of a run folder's sweep by kind of task, and how long the rest will take."""
    from ..plan.case import Case
    from ..store.claims import held
    from ..store.lines import each
    from ..store.status import status as count

    if not (folder / "plan.jsonl").is_file():
        raise UsageError(f"{folder} is no run folder: it has no plan.jsonl; make one with bench run")
    if not (folder / "sweep.toml").is_file():
        raise UsageError(f"{folder} holds several sweeps, or none: bench report shows what it has")
    sweep, planned = planned_of(folder / "sweep.toml", filters, data, plugins)
    # what was asked of this folder: perhaps a shard of the sweep, or what matched a filter
    asked = {Case.from_factors(line["case"]).id for line in each(folder, "plan.jsonl")}
    planned = [p for p in planned if p.case.id in asked]
    if not planned:
        raise UsageError(
            f"{folder} was asked for none of these cases: give the --data, --plugin and --filter of its run"
        )
    found = count(sweep, planned, each(folder, "tasks.jsonl"), held(folder / "claims"))
    for env_id, kinds in found.items():
        typer.echo("\n".join(told(env_id, kinds)))


def told(env_id: str, kinds: Sequence[Kind]) -> list[str]:
    """A heading for the machine, a line a kind of task, and a line for them all."""
    lines = [env_id or "not begun"]
    for kind in kinds:
        if not kind.done and not kind.left:
            continue
        beside = [f"{kind.failed} of them failed"] if kind.failed else []
        beside += [f"{kind.other_code} by other code than is here"] if kind.other_code else []
        running = f", {kind.running} of them under way" if kind.running else ""
        done = f"{kind.done} done" + (f" ({', '.join(beside)})" if beside else "")
        lines.append(f"  {kind.name}: {done}, {kind.left} left{running}{_time(kind.seconds, kind.left)}")
    seconds = [kind.seconds for kind in kinds if kind.left]
    total = None if None in seconds else sum(second or 0.0 for second in seconds)
    left = sum(kind.left for kind in kinds)
    lines.append(f"  all: {sum(kind.done for kind in kinds)} done, {left} left{_time(total, left)}")
    return lines


def _time(seconds: float | None, left: int) -> str:
    if not left:
        return ""
    if seconds is None:
        return ", time unknown: none has been measured yet"
    return f", about {spoken(seconds)}"
