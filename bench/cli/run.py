"""``bench run``: measure a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import INTERRUPTED, NOTHING_SUCCEEDED, OK, SOME_FAILED, Data, DataRoot, Filters, SweepFile, planned_of
from .report import write_report


def run(
    sweep_file: SweepFile,
    out: Annotated[Path | None, typer.Option(help="the run folder (default: results/<sweep>/<env>)")] = None,
    filters: Filters = None,
    data: Data = None,
    data_root: DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="fetch an absent data set into --data-root")] = False,
) -> None:
    """Run a sweep: measure what is not yet in the run folder, then write the table and the figures."""
    from .. import env, roofs
    from ..progress import make_progress
    from ..run import run as run_sweep
    from ..store import Store

    sweep, planned = planned_of(sweep_file, filters, data)
    env.check_device(sweep.device)  # before anything is written
    identifier = env.env_id(sweep.device)
    if all(p.skipped for p in planned):
        raise UsageError(f"every case of {sweep.name!r} is skipped; the first because {planned[0].skipped}")
    if wanted := sorted({p.case.data for p in planned if p.case.data != "none"}):
        _check_data(wanted, data_root, download)
    folder = out or Path("results") / sweep.name / identifier
    with Store(folder) as store:
        store.tasks()  # a damaged store is found before anything in it is replaced
        store.write("sweep.toml", sweep_file.read_text(encoding="utf-8"))
        store.write("env.json", json.dumps(env.describe(sweep.device), indent=2) + "\n")
        if measured := roofs.load(roofs.kept_at(identifier)):
            roofs.save(folder / roofs.FILE, measured)
        try:
            with make_progress(sweep.title) as progress:
                summary = run_sweep(sweep, planned, store, progress, data_root)
        except KeyboardInterrupt:
            typer.echo("bench: interrupted; what was finished is kept, the same command continues", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if summary.resumed:
        typer.echo(f"{summary.resumed} tasks were done before and were not repeated; {summary.measured} measured now")
    statuses = write_report(folder, folder)
    raise typer.Exit(_exit_code(statuses))


def _check_data(names: list[str], root: Path | None, download: bool) -> None:
    from ..study.catalog import DATA

    if all(DATA[name].bundled for name in names):
        return
    from ..study.tasks import check

    for name in names:
        check(name, root, download)


def _exit_code(statuses: list[str]) -> int:
    if all(status in ("ok", "skipped") for status in statuses):
        return OK
    return SOME_FAILED if "ok" in statuses else NOTHING_SUCCEEDED
