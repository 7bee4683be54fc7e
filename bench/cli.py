"""The command line: ``bench list | run | report | env | check``. Verbs load what they need when they are called."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phnn.plugins import PluginWarning

from .errors import UsageError

if TYPE_CHECKING:
    from .case import Planned
    from .roofs import Roofs
    from .sweep import Sweep

OK, USAGE, SOME_FAILED, NOTHING_SUCCEEDED, INTERRUPTED = 0, 2, 3, 4, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What hypercomplex layers cost, and what they buy.",
)

SweepFile = Annotated[Path, typer.Argument(help="a sweep file, such as bench/sweeps/quick.toml")]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", help="key=value on a factor or shape axis; commas: any of them")
]
Data = Annotated[str | None, typer.Option("--data", help="train on this data set instead of the sweep's")]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="the folder that holds the data sets")]


def _plan(path: Path, filters: list[str] | None, data: str | None) -> tuple[Sweep, list[Planned]]:
    from .study.catalog import DATA
    from .sweep import expand, load, select

    if data is not None and data not in DATA:
        raise UsageError(f"--data: unknown data set {data!r}: choose one of {', '.join(DATA)}")
    sweep = load(path)
    planned = expand(sweep, data)
    return sweep, select(planned, filters) if filters else planned


@app.command("list")
def list_cases(sweep_file: SweepFile, filters: Filters = None, data: Data = None) -> None:
    """List the cases of a sweep with their ids; nothing is measured."""
    _, planned = _plan(sweep_file, filters, data)
    for p in planned:
        note = f"  skipped: {p.skipped}" if p.skipped else ""
        typer.echo(f"{p.case.id}  {p.case.name}{note}")
    skipped = sum(p.skipped is not None for p in planned)
    typer.echo(f"{len(planned)} cases, {skipped} of them skipped", err=True)


@app.command()
def run(
    sweep_file: SweepFile,
    out: Annotated[Path | None, typer.Option(help="the run folder (default: results/<sweep>/<env>)")] = None,
    filters: Filters = None,
    data: Data = None,
    data_root: DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="fetch an absent data set into --data-root")] = False,
) -> None:
    """Run a sweep: measure what is not yet in the run folder, then write the table and the figures."""
    from . import env, roofs
    from .progress import make_progress
    from .run import run as run_sweep
    from .store import Store

    sweep, planned = _plan(sweep_file, filters, data)
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
    statuses = _report(folder, folder)
    raise typer.Exit(_exit_code(statuses))


def _check_data(names: list[str], root: Path | None, download: bool) -> None:
    from .study.catalog import DATA

    if all(DATA[name].bundled for name in names):
        return
    from .study.data import check

    for name in names:
        check(name, root, download)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="a run folder")],
    out: Annotated[Path | None, typer.Option(help="where to write (default: the run folder)")] = None,
) -> None:
    """Write the table and the figures of a run folder anew, from what it stores."""
    _report(folder, out or folder)


def _report(folder: Path, out: Path) -> list[str]:
    """Derive the records, write tables and figures, name them; the statuses of all rows."""
    from . import roofs
    from .records import derive, missing
    from .store import read_plan, read_tasks, write_whole

    if not (folder / "plan.jsonl").exists():
        raise UsageError(f"{folder} is no run folder: it has no plan.jsonl; make one with bench run")
    plan = read_plan(folder)
    records = derive(plan, read_tasks(folder), roofs.load(folder / roofs.FILE))
    if not records:
        raise UsageError(f"{folder} holds no finished case yet: bench run continues it")
    from .report import figures, paper, table
    from .report.summary import summary

    df = table.frame(records)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): choose another folder with --out") from None
    written = table.write(df, out)
    told = "\n\n".join([*paper.sections(df), summary(df)])
    write_whole(out / "summary.md", lambda path: path.write_text(told, encoding="utf-8"))
    tables = paper.write(df, out)
    drawn = figures.write(df, out / "figures")
    typer.echo(f"table:   {written[0]} ({len(df)} records; also {written[1].name}, summary.md)")
    for path in tables:
        if path.suffix == ".tex":
            typer.echo(f"table:   {path} (also .csv)")
    for path in drawn:
        if path.suffix == ".pdf":
            typer.echo(f"figure:  {path} (also .png)")
    statuses = df["status"].tolist()
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
    typer.echo(f"records: {counts}")
    if absent := missing(plan, records):
        typer.echo(f"not measured yet: {absent} more records; bench run continues")
    return statuses


def _exit_code(statuses: list[str]) -> int:
    if all(status in ("ok", "skipped") for status in statuses):
        return OK
    return SOME_FAILED if "ok" in statuses else NOTHING_SUCCEEDED


@app.command()
def env(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    calibrate: Annotated[bool, typer.Option("--calibrate", help="measure this machine's roofs first")] = False,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="threads to calibrate at besides 1 and all cores")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="of each step of the calibration")] = 1.0,
) -> None:
    """Show what identifies this machine and software in every record, and the roofs measured on it."""
    from . import roofs
    from .env import check_device, describe

    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device: {device!r} is neither cpu nor cuda")
    if threads and not calibrate:
        raise UsageError("--threads is for --calibrate: add it, or leave --threads out")
    described = describe(device)
    path = roofs.kept_at(described["env_id"])
    if calibrate:
        check_device(device)
        roofs.save(path, _calibrated(device, threads or [], seconds))
        typer.echo(f"bench: roofs kept in {path}", err=True)
    measured = roofs.load(path)
    described["measured"] = measured.model_dump(mode="json") if measured else None
    typer.echo(json.dumps(described, indent=2))


def _calibrated(device: str, threads: list[int], seconds: float) -> Roofs:
    from .calibrate import calibrate
    from .watch import reasons

    measured = calibrate(device, threads, seconds)
    for reason in reasons(measured.watch):
        typer.echo(f"bench: the roofs may stand too low: {reason}; calibrate an idle machine", err=True)
    return measured


@app.command()
def check(
    quick: Annotated[bool, typer.Option("--quick", help="fewer and shorter: 3 minutes instead of 30")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="default: all physical cores, as in a sweep")] = None,
    out: Annotated[Path | None, typer.Option(help="a JSON file for all figures and raw ratios")] = None,
) -> None:
    """Test this machine with the harness: which differences does it tell apart? Exits with 3 if a bar is missed."""
    from . import env

    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device: {device!r} is neither cpu nor cuda")
    if out is not None and not os.access(out.parent, os.W_OK):  # before half an hour is spent
        raise UsageError(f"--out: {out} cannot be written: choose a file in a folder that exists and is yours")
    env.check_device(device)
    cores = env.identity("cpu")["cores"]
    if threads is not None and threads > cores:
        raise UsageError(
            f"--threads: {threads} are more than the {cores} cores of this machine: choose at most {cores}"
        )
    from .check import launch, session, tell
    from .check.plan import FULL, QUICK
    from .store import write_whole

    try:
        with launch.local(device) as machine:
            report = session.run(
                QUICK if quick else FULL, machine, threads or cores, lambda line: typer.echo(f"... {line}", err=True)
            )
    except session.CheckFailedError as error:
        typer.echo(f"bench check: {error}", err=True)
        raise typer.Exit(SOME_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(tell.page(report))
    if out is not None:
        text = json.dumps(tell.document(report, env.describe(device)), indent=2, allow_nan=False) + "\n"
        write_whole(out, lambda path: path.write_text(text, encoding="utf-8"))
    raise typer.Exit(SOME_FAILED if report.missed else OK)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **kwargs: Any) -> None:
    """A plug-in that is left out is a line for the user; other warnings are for programmers, and look so."""
    if issubclass(category, PluginWarning):
        typer.echo(f"bench: {message}", err=True)
    else:
        _show_other(message, category, *where, **kwargs)


_show_other = warnings.showwarning


def main() -> None:
    """Entry point: what a person can mend is one line and exit code 2."""
    warnings.showwarning = _show_warning
    try:
        app()
    except UsageError as error:
        typer.echo(f"bench: {error}", err=True)
        sys.exit(USAGE)
