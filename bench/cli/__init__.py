"""The command line: one file a verb, each of which loads what it needs when it is called."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from phnn.plugins import PluginWarning

from ..errors import UsageError
from .check import check
from .compare import compare
from .env import env
from .list import list_cases
from .merge import merge
from .options import USAGE
from .rank import rank
from .report import report
from .run import run
from .status import status

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What hypercomplex layers cost, and what they buy.",
)
app.command("list")(list_cases)
for verb in (run, status, merge, report, compare, rank, env, check):
    app.command()(verb)


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
