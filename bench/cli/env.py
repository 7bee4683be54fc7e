"""``bench env``: what this machine is, and its roofs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..machine.roofs import Roofs


def env(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    calibrate: Annotated[bool, typer.Option("--calibrate", help="measure this machine's roofs first")] = False,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="threads to calibrate at besides 1 and all cores")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="of each step of the calibration")] = 1.0,
) -> None:
    """Show what identifies this machine and software in every record, and the roofs measured on it."""
    from ..machine import roofs
    from ..machine.env import check_device, describe

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
    from ..machine.calibrate import calibrate
    from ..machine.watch import reasons

    measured = calibrate(device, threads, seconds)
    for reason in reasons(measured.watch):
        typer.echo(f"bench: the roofs may stand too low: {reason}; calibrate an idle machine", err=True)
    return measured
