"""``bench run``: measure a sweep."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .options import (
    INTERRUPTED,
    NOTHING_SUCCEEDED,
    OK,
    SOME_FAILED,
    Data,
    DataRoot,
    Filters,
    Plugins,
    QuickForm,
    SweepFile,
    planned_of,
)
from .report import write_report
from .where import On, Where, where

if TYPE_CHECKING:
    from ..plan.case import Planned
    from ..plan.sweep import Sweep
    from ..schedule.events import Events
    from ..schedule.run import Options, Summary


class OnError(StrEnum):
    """What a failure does to the tasks that have not started."""

    CONTINUE = "continue"
    STOP = "stop"


def run(
    sweep_file: SweepFile,
    out: Annotated[Path | None, typer.Option(help="the run folder (default: results/<sweep>/<env>)")] = None,
    filters: Filters = None,
    data: Data = None,
    data_root: DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="fetch an absent data set into --data-root")] = False,
    on: Annotated[On, typer.Option("--on", help="where the tasks run")] = On.LOCAL,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="what to ask of a cluster, instead of the sweep's [launch.slurm]")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="whether tasks are still started after one that failed")
    ] = OnError.CONTINUE,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="measure again what crashed, hung, lacked memory or raised")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="measure everything again; the old rows are kept")] = False,
    accept_older: Annotated[
        bool, typer.Option("--accept-older-code", help="leave as it is what an earlier version of the code measured")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/K", help="only the I-th of K parts of the sweep, of whole groups"),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            "--time-budget", metavar="TIME", help="90s, 8m, 1h30m: what is most urgent first, the rest skipped"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be measured, and measure nothing")
    ] = False,
    events: Annotated[
        str | None,
        typer.Option("--events", metavar="FILE", help="a JSON line for everything that happens; - : stdout"),
    ] = None,
    plugins: Plugins = None,
    quick: QuickForm = False,
    track: Annotated[
        str | None, typer.Option("--track", help="follow trainings: tensorboard, wandb or module:callable")
    ] = None,
) -> None:
    """Run a sweep: measure what is not yet in the run folder, then write the table and the figures.

    Exits with 0 if all is well, skipped or unsupported here, 3 if some failed, 4 if nothing succeeded, 2 if it was
    asked wrongly.
    """
    from ..plan.selection import shard as shard_of
    from ..schedule import estimate
    from ..schedule.events import make_events
    from ..schedule.resume import Policy
    from ..schedule.run import Options

    budget = estimate.parse(time_budget) if time_budget else None
    sweep, planned = planned_of(sweep_file, filters, data, plugins, quick)
    if shard:
        planned = shard_of(planned, shard)
    machines = where(on, profile, sweep)
    if all(p.skipped for p in planned):
        raise UsageError(f"every case of {sweep.name!r} is skipped; the first because {planned[0].skipped}")
    if wanted := sorted({p.case.data for p in planned if p.case.data != "none"}):
        _check_data(wanted, data_root, download)
    if track:
        _check_track(track, planned)
    folder = out or Path("results") / sweep.name / machines.name
    options = Options(
        places=machines.places,
        policy=Policy(retry_failed, fresh, accept_older),
        stop_on_error=on_error is OnError.STOP,
        budget=budget,
        data_root=str(data_root.resolve()) if data_root else None,
        plugins=tuple(plugins or ()),
        track=track,
    )
    if dry_run:
        _tell_plan(sweep, planned, folder, options, machines)
        return
    # what programs read is not mixed with what people read
    tell = functools.partial(typer.echo, err=events == "-")
    with make_events(events, _say) as stream:
        summary = _measure(sweep_file, sweep, planned, folder, options, machines, stream)
        for line in _told(summary):
            tell(line)
        code = _exit_code(write_report(folder, folder, tell=tell))
        stream.tell("finish", **asdict(summary), exit_code=code)
    raise typer.Exit(code)


def _measure(
    sweep_file: Path,
    sweep: Sweep,
    planned: list[Planned],
    folder: Path,
    options: Options,
    machines: Where,
    stream: Events,
) -> Summary:
    from ..plan.sweep import load
    from ..schedule.events import Several
    from ..schedule.progress import make_progress
    from ..schedule.run import run as run_sweep
    from ..store.folder import Store

    with Store(folder) as store:
        store.tasks()  # a damaged store is found before anything in it is replaced
        text = sweep_file.read_text(encoding="utf-8")
        said = "" if sweep.form == load(sweep_file).form else f'form = "{sweep.form}"\n'  # what --quick made of it
        store.write("sweep.toml", said + text)
        machines.describe(store)
        try:
            engine = machines.engine(folder, store.tasks(), options.policy.fresh, _say)
            with engine, make_progress(sweep.title) as display:
                return run_sweep(sweep, planned, store, Several([display, stream]), engine, options)
        except KeyboardInterrupt:
            typer.echo("bench: interrupted; what was finished is kept, the same command continues", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _say(text: str) -> None:
    typer.echo(f"bench: {text}", err=True)


def _tell_plan(sweep: Sweep, planned: list[Planned], folder: Path, options: Options, machines: Where) -> None:
    from ..schedule import estimate
    from ..schedule.run import plan
    from ..store.folder import read_tasks

    lines = read_tasks(folder)
    with machines.engine(folder, lines, options.policy.fresh, typer.echo) as engine:
        made = plan(sweep, planned, lines, engine, options)
    for (kind, subject), count in Counter((j.task.kind, estimate.subject_of(j.task)) for j in made.jobs).items():
        typer.echo(f"{kind:<9} {subject}: {count} tasks")
    typer.echo(
        f"{len(made.jobs)} tasks would be measured, in about {estimate.spoken(made.seconds)}; {made.done} are done"
    )
    if made.unfit:
        typer.echo(f"{len(made.unfit)} tasks do not fit into the budget and would be skipped")


def _told(summary: Summary) -> list[str]:
    """What a run did that its table does not show."""
    told = []
    if summary.resumed:
        told.append(
            f"{summary.resumed} tasks were done before and were not repeated; {summary.measured} measured now"
        )
    if summary.failed_before:
        told.append(f"{summary.failed_before} of those done before had failed: --retry-failed measures them again")
    if summary.skipped:
        told.append(f"{summary.skipped} tasks did not fit into the budget; the same command without one continues")
    if summary.elsewhere:
        told.append(f"{summary.elsewhere} tasks were left to another run into this folder")
    if summary.stopped:
        told.append(f"stopped at the first failure: {summary.stopped} tasks were not started")
    return told


def _check_data(names: list[str], root: Path | None, download: bool) -> None:
    from ..study.catalog import DATA

    needing = [name for name in names if not DATA[name].bundled or DATA[name].extra]
    if not needing:
        return
    from ..study.tasks import check

    for name in needing:
        check(name, root, download)


def _check_track(track: str, planned: list[Planned]) -> None:
    from ..study.training.tracking import check

    if all(p.case.data == "none" for p in planned):
        raise UsageError(f"--track {track}: nothing is trained here; leave --track out")
    check(track)


def _exit_code(statuses: list[str]) -> int:
    """That a machine or its software cannot do something is no failure; if it can do nothing, nothing succeeded."""
    if "ok" in statuses:
        return OK if set(statuses) <= {"ok", "skipped", "unsupported"} else SOME_FAILED
    return OK if set(statuses) <= {"skipped"} else NOTHING_SUCCEEDED
