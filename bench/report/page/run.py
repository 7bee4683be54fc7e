"""What a run folder knows besides its table: the sweep, the machines, and the logs of what failed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...compare.where import as_text
from ...store.lines import each

_TOLD = ("ok", "skipped", "unsupported")  # what has these statuses was never begun, or says all in its reason


@dataclass(frozen=True)
class Log:
    """What a task printed. name: its file, as a person finds it; said: the last words that its results kept."""

    name: str = ""
    path: Path | None = None
    said: str = ""

    def tail(self, most: int) -> str:
        """Its last characters; of a log that is no longer there, what was kept of it."""
        text = (_text(self.path) if self.path else "") or self.said
        return text if len(text) <= most else "…" + text[len(text) - most :] if most > 0 else ""


Logs = Mapping[tuple[str, str], Log]  # case and machine → the log of the last task in which it failed


@dataclass(frozen=True)
class Run:
    """A folder as far as it tells something; what is not there is empty."""

    folder: Path
    title: str = ""
    analysis: str = ""
    sweep: str = ""
    protocol: str = ""
    environments: Mapping[str, Any] = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)


def run_of(folder: Path, df: pd.DataFrame) -> Run:
    """The run in ``folder``, whose table is ``df``."""
    sweep = _text(folder / "sweep.toml")
    try:
        told = tomllib.loads(sweep)
    except tomllib.TOMLDecodeError:
        told = {}
    protocol = told.get("protocol")
    settings = protocol.items() if isinstance(protocol, dict) else ()
    return Run(
        folder,
        title=str(told.get("title", "")),
        analysis=str(told.get("analysis", "")),
        sweep=sweep,
        protocol=", ".join(f"{name} {value}" for name, value in settings),
        environments=_environments(folder),
        logs={} if df["status"].isin(_TOLD).all() else _logs(folder),
    )


def _environments(folder: Path) -> dict[str, Any]:
    """env_id → what is known of that machine."""
    found = {}
    for path in [*sorted((folder / "envs").glob("*.json")), folder / "env.json"]:
        try:
            own = json.loads(_text(path))
        except ValueError:
            continue
        if isinstance(own, dict):
            found[str(own.get("env_id", path.stem))] = own
    return found


def _logs(folder: Path) -> dict[tuple[str, str], Log]:
    files: dict[str, Path] = {}  # a task's last attempt: ID.log, then ID.2.log
    for path in sorted((folder / "logs").rglob("*.log"), key=lambda path: (len(path.name), path.name)):
        files[path.name.partition(".")[0]] = path
    found = {}
    for line in each(folder, "tasks.jsonl"):
        for result in line["results"]:
            if result["status"] not in _TOLD:
                log = files.get(line["task_id"])
                name = log.relative_to(folder).as_posix() if log else ""
                found[result["case_id"], line["env_id"]] = Log(name, log, "\n".join(line.get("said", ())))
    return found


def _text(path: Path) -> str:
    """A file's text; none of a file that lies elsewhere: a run folder may be another person's."""
    try:
        return "" if path.is_symlink() else path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def provenance(df: pd.DataFrame, run: Run) -> dict[str, str]:
    """Where the rows come from: how many of each status, machines, protocol, code revisions, and when."""
    counts = [f"{count:,} {status}" for status, count in df["status"].value_counts().items()]
    started = _each(df["started"])
    return {
        "records": f"{len(df):,}: {', '.join(counts)}" if len(counts) > 1 else "".join(counts),
        "machine": "; ".join(_machine(env_id, run.environments.get(env_id)) for env_id in _each(df["env_id"])),
        "protocol": run.protocol,
        "code": ", ".join(_each(df["code_rev"])),
        "measured": _when(started[0], started[-1]) if started else "",
    }


def _machine(env_id: str, described: Any) -> str:
    """What a person asks of a machine, and by which name records have it."""
    identity = described.get("identity") if isinstance(described, dict) else None
    if not isinstance(identity, dict):
        return env_id
    model = identity.get("gpu_model") or identity.get("cpu_model")
    cores = f"{identity['cores']} cores" if "cores" in identity else ""
    packages = identity.get("packages")
    torch = f"torch {packages['torch']}" if isinstance(packages, dict) and packages.get("torch") else ""
    return f"{', '.join(str(word) for word in (model, cores, torch) if word)} ({env_id})"


def _each(column: pd.Series[Any]) -> list[str]:
    """The values of a column, each once, in order."""
    return sorted(set(as_text(column.drop_duplicates())) - {""})


def _when(first: str, last: str) -> str:
    """A span of times, each to the minute."""
    ends = [text[:16].replace("T", " ") for text in (first, last)]
    end = ends[1].removeprefix(first[:10] + " ")
    return f"{ends[0]} to {end} UTC" if ends[0] != ends[1] else f"{ends[0]} UTC"
