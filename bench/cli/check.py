"""``bench check``: the harness tested on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import INTERRUPTED, OK, SOME_FAILED


def check(
    quick: Annotated[bool, typer.Option("--quick", help="fewer and shorter: 3 minutes instead of 30")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="default: all physical cores, as in a sweep")] = None,
    out: Annotated[Path | None, typer.Option(help="a JSON file for all figures and raw ratios")] = None,
) -> None:
    """Test this machine with the harness: which differences does it tell apart? Exits with 3 if a bar is missed."""
    from ..machine import env

    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device: {device!r} is neither cpu nor cuda")
    if out is not None and (out.is_dir() or not os.access(out.parent, os.W_OK)):  # before half an hour is spent
        raise UsageError(f"--out: {out} cannot be written: choose a file in a folder that exists and is yours")
    env.check_device(device)
    cores = env.identity("cpu")["cores"]
    if threads is not None and threads > cores:
        raise UsageError(
            f"--threads: {threads} are more than the {cores} cores of this machine: choose at most {cores}"
        )
    from ..check import launch, session, tell
    from ..check.plan import FULL, QUICK
    from ..store.folder import write_whole

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
