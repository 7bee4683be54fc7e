"""``bench report``: tables and figures from what a run folder stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import Filters


def report(
    folder: Annotated[Path, typer.Argument(help="a run folder")],
    out: Annotated[Path | None, typer.Option(help="where to write (default: the run folder)")] = None,
    filters: Filters = None,
) -> None:
    """Write the table and the figures of a run folder anew, from what it stores."""
    write_report(folder, out or folder, filters)


def write_report(
    folder: Path, out: Path, filters: list[str] | None = None, tell: Callable[[str], object] = typer.echo
) -> list[str]:
    """Derive the records, write tables and figures, name them; the statuses of all rows."""
    from .. import roofs
    from ..records import derive, missing
    from ..selection import of_lines
    from ..store import inside, read_plan, read_tasks, write_whole

    if not (folder / "plan.jsonl").exists():
        raise UsageError(f"{folder} is no run folder: it has no plan.jsonl; make one with bench run")
    plan = of_lines(read_plan(folder), filters) if filters else read_plan(folder)
    records = derive(plan, read_tasks(folder), roofs.of_run(folder))
    if not records:
        raise UsageError(f"{folder} holds no finished case yet: bench run continues it")
    from ..report import curves, figures, paper, pareto, table
    from ..report.summary import summary

    df = table.frame(records)
    try:
        inside(out, "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): choose another folder with --out") from None
    written = table.write(df, out)
    told = "\n\n".join([*paper.sections(df), summary(df)])
    write_whole(out / "summary.md", lambda path: path.write_text(told, encoding="utf-8"))
    tables = paper.write(df, out)
    beside = [*curves.write(df, out), *pareto.write(df, out)]
    drawn = figures.write(df, out / "figures")
    also = ", ".join(path.name for path in (written[1], *beside))
    tell(f"table:   {written[0]} ({len(df)} records; also {also}, summary.md)")
    for path in tables:
        if path.suffix == ".tex":
            tell(f"table:   {path} (also .csv)")
    for path in drawn:
        if path.suffix == ".pdf":
            tell(f"figure:  {path} (also .png)")
    statuses = df["status"].tolist()
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
    tell(f"records: {counts}")
    if absent := missing(plan, records):
        tell(f"not measured yet: {absent} more records; bench run continues")
    return statuses
