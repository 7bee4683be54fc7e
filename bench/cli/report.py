"""``bench report``: tables and figures from what a run folder stores, or from a stored table alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import Filters

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Wanted:
    """How to report: a preset of sizes and fonts, formats of figures, a file with figures of one's own, filters."""

    preset: str = "plain"
    formats: tuple[str, ...] = ("pdf", "svg", "png")
    figures: Path | None = None
    filters: tuple[str, ...] = ()


def report(
    source: Annotated[
        Path, typer.Argument(help="a run folder, or a table (.parquet, .csv) or the folder that has one")
    ],
    out: Annotated[Path | None, typer.Option(help="where to write (default: the folder itself)")] = None,
    preset: Annotated[str, typer.Option(help="sizes and fonts of figures: plain, ieee, neurips or icml")] = "plain",
    formats: Annotated[str, typer.Option("--format", help="of figures, of pdf,svg,png")] = "pdf,svg,png",
    figures: Annotated[
        Path | None, typer.Option(help="a TOML file of figures, drawn instead of the usual ones")
    ] = None,
    filters: Filters = None,
) -> None:
    """Write the tables and the figures anew: of a run folder from its tasks, else from the stored table."""
    wanted = Wanted(preset, _formats(formats), figures, tuple(filters or ()))
    if wanted.filters and out is None:
        raise UsageError("--filter reports on a part of the table: choose a folder of its own for it with --out")
    if (source / "plan.jsonl").exists():
        write_report(source, out or source, wanted)
        return
    from ..table import files

    path = files.find(source)
    df = files.read(path)
    if not len(df):
        raise UsageError(f"{path} is empty: it has columns and no record")
    _show(df, path.parent, out or path.parent, wanted, typer.echo, stored=path)


def _formats(text: str) -> tuple[str, ...]:
    known = ("pdf", "svg", "png")
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if not found or (unknown := next((part for part in found if part not in known), None)):
        raise UsageError(
            f"--format {text!r}: {f'{unknown} is none' if found else 'it names none'} of {', '.join(known)}"
        )
    return found


Tell = Callable[[str], object]


def write_report(folder: Path, out: Path, wanted: Wanted | None = None, tell: Tell = typer.echo) -> list[str]:
    """Derive the records, write tables and figures, name them; the statuses of all rows."""
    from ..store.folder import read_plan
    from ..table.records import missing
    from ..table.tidy import of_run

    df = of_run(folder)
    if not len(df):
        raise UsageError(f"{folder} holds no finished case yet: bench run continues it")
    statuses = _show(df, folder, out, wanted or Wanted(), tell)
    keys = ["case_id", "metric", "env_id"]
    have = (dict(zip(keys, row, strict=True)) for row in df[keys].itertuples(index=False, name=None))
    if absent := missing(read_plan(folder), have):
        tell(f"not measured yet: {absent} more records; bench run continues")
    return statuses


def _show(
    df: pd.DataFrame, folder: Path, out: Path, wanted: Wanted, tell: Tell, stored: Path | None = None
) -> list[str]:
    """Write everything that the table gives, and name it. stored: where the table lies already."""
    from ..report import curves, figures, page, paper, pareto, style, tables
    from ..report.provenance import provenance
    from ..report.summary import section, summary
    from ..store.folder import inside, write_whole
    from ..table import files, filters

    preset = style.preset(wanted.preset)
    specs = figures.load(wanted.figures) if wanted.figures else None
    if wanted.filters:
        df = filters.select(df, wanted.filters)
        if not len(df):
            raise UsageError(f"--filter {' '.join(wanted.filters)} leaves no record of the table")
    try:
        for name in ("figures", "tables"):
            inside(out, name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): choose another folder with --out") from None
    if stored is None or stored.parent.resolve() != out.resolve():
        told, (first, *others) = "", files.write(df, out)
    else:
        told, first, others = ", as stored", stored, []
    others += [*curves.write(df, out), *pareto.write(df, out), out / "summary.md"]
    tell(f"table:   {first} ({len(df)} records{told}; also {', '.join(path.name for path in others)})")
    origin = provenance(df, folder, _options(wanted))
    models, subjects = paper.tables(df), tables.of(df)
    told = "\n\n".join([*map(section, models), summary(df, subjects)])
    write_whole(out / "summary.md", lambda path: path.write_text(told, encoding="utf-8"))
    for path in tables.write([*models, *subjects], out / "tables", origin):
        if path.suffix == ".tex":
            tell(f"table:   {path}")
    if models or subjects:
        tell(f"         (of each also .md and .csv in {out / 'tables'})")
    options: dict[str, Any] = {"specs": specs, "preset": preset, "formats": wanted.formats, "provenance": origin}
    drawn = figures.write(df, out / "figures", **options, cores=_cores())
    more = ", ".join(f".{kind}" for kind in wanted.formats[1:])
    for path in drawn.paths:
        if path.suffix == f".{wanted.formats[0]}":
            tell(f"figure:  {path}" + (f" (also {more})" if more else ""))
    if not drawn.paths:
        tell("figure:  none: nothing that was measured can be drawn")
    for note in drawn.notes:
        tell(f"note:    {note}")
    tell(f"page:    {page.write(df, out, page.run_of(folder, df))} (to explore, in a browser)")
    statuses: list[str] = df["status"].tolist()
    counts = ", ".join(f"{count} {status}" for status, count in df["status"].value_counts(sort=False).items())
    tell(f"records: {counts}")
    return statuses


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options(wanted: Wanted) -> str:
    """What of the command bears on what is drawn, as a person would type it."""
    preset = f" --preset {wanted.preset}" if wanted.preset != "plain" else ""
    own = f" --figures {wanted.figures.name}" if wanted.figures else ""
    return preset + own + "".join(f" --filter {text}" for text in wanted.filters)
