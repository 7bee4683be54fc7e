"""Where a figure or a table comes from, written into the file itself: run, machine, command, code revision."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

MADE_BY = "made by:"
CREATOR = "phnn-bench report"  # in every figure: what tells it from a file of yours


@dataclass(frozen=True)
class Provenance:
    """run: the sweep's name; envs, code_revs: of the rows; command: what makes the file anew. No date, no host name:
    the same table gives the same bytes."""

    run: str = "unnamed"
    envs: tuple[str, ...] = ()
    code_revs: tuple[str, ...] = ()
    command: str = "bench report"

    @property
    def text(self) -> str:
        """One line for people and programs."""
        envs, revs = (", ".join(values) or "none" for values in (self.envs, self.code_revs))
        return f"run {self.run}; env {envs}; code {revs}; {MADE_BY} {self.command}"

    def metadata(self, kind: str, title: str) -> dict[str, str | None]:
        """What matplotlib's savefig takes for a file of ``kind``: pdf, svg or png."""
        if kind == "pdf":
            return {"Title": title, "Subject": self.text, "Creator": CREATOR, "CreationDate": None}
        if kind == "svg":
            return {"Title": title, "Description": self.text, "Creator": CREATOR, "Date": None}
        return {"Title": title, "Description": self.text, "Source": CREATOR}


_MOST = 12  # revisions or machines that are named one by one


def provenance(df: pd.DataFrame, folder: Path, options: str = "") -> Provenance:
    """That of a table in ``folder``. options: of the command, where they bear on what is drawn."""
    try:
        run = str(tomllib.loads((folder / "sweep.toml").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError):  # a table without its sweep: the folder names the run
        run = folder.parent.name or folder.name
    return Provenance(run, _named(df["env_id"]), _named(df["code_rev"]), f"bench report {_where(folder)}{options}")


def _named(values: pd.Series[str]) -> tuple[str, ...]:
    found = sorted({str(value) for value in values.dropna().unique()} - {""})
    return tuple(found[:_MOST]) + ((f"{len(found) - _MOST} more",) if len(found) > _MOST else ())


def _where(folder: Path) -> str:
    """The folder as seen from here; of one elsewhere, the sweep and the environment that it is named after."""
    full = folder.resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else "/".join(full.parts[-2:])
