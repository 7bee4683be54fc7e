"""Joining run folders, of one machine or several, into one: every finished task once, oldest first.

Records are derived per (case, env), so tasks of other machines stand side by side, and of one machine the newest
measurement counts. What is in several folders is told:

    duplicates    the same task, finished at the same moment: one measurement that was copied, kept once
    twice         one task of one machine, measured in several folders: all are kept, the newest counts
    conflicts     of these, where one failed and the other did not, or where they count differently what can be
                  counted; and a case that one plan skips and another asks for, on the same machine

A measurement that stands differently in two folders was changed by hand: such folders are not merged.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ..errors import UsageError
from ..importers import pytest_benchmark
from ..machine import roofs
from ..plan.case import Case, digest
from .folder import Store, inside, runs_below, write_whole
from .lines import Growing, Line, Name, each, parse, text_of

_TASKS, _PLAN = "tasks.jsonl", "plan.jsonl"


@dataclass
class Merged:
    """What came of a merge. tasks: env_id → how many; conflicts, uncollected: in words."""

    folders: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    duplicates: int = 0
    twice: int = 0
    conflicts: list[str] = field(default_factory=list)
    uncollected: list[str] = field(default_factory=list)


def merge(folders: Sequence[Path], out: Path, filters: Sequence[str] = ()) -> Merged:
    """Join the runs of ``folders`` in ``out``, which is new or one of them.

    folders: run folders, folders of such, or sessions of pytest-benchmark as JSON. filters: of a new one, the cases
    that are kept, with baselines and slim controls, and what was measured with them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _merge([_imported(path, Path(scratch) / str(i)) for i, path in enumerate(folders)], out, filters)


def _imported(path: Path, scratch: Path) -> Path:
    """A folder as it is; a session of pytest-benchmark as the run folder that it becomes, which has its name."""
    if not pytest_benchmark.reads(path):
        return path
    pytest_benchmark.write(path, scratch / path.name)
    return scratch / path.name


def _merge(folders: Sequence[Path], out: Path, filters: Sequence[str]) -> Merged:
    sources = list(dict.fromkeys(run for folder in folders for run in _runs(folder)))
    found = Merged(folders=len(sources))
    if (out / _PLAN).exists() and out.resolve() not in [source.resolve() for source in sources]:
        raise UsageError(f"{out} holds a run already: name it among the folders to be merged, or a new --out")
    if filters and (out / _PLAN).exists():
        raise UsageError(f"{out} would lose what does not match --filter: join the folders in a new --out")
    wanted = _matching(sources, filters) if filters else None
    with Store(out) as store, store.alone(), contextlib.ExitStack() as opened:
        tasks = _Tasks(sources, [_mapped(source / _TASKS, opened) for source in sources], found, wanted)
        envs = [tasks.add(number) for number in range(len(sources))]
        found.twice = sum(len({at.source for at in own}) > 1 for own in tasks.kept.values())
        plan = _plan(sources, envs, found, wanted)
        _described(sources, out, found)
        write_whole(out / _PLAN, lambda path: path.write_bytes(plan))
        write_whole(out / _TASKS, tasks.write)
    return found


def _matching(sources: Sequence[Path], filters: Sequence[str]) -> frozenset[str]:
    """The ids of the planned cases that match, and of those that they are compared with."""
    from ..plan.selection import of_lines

    planned = [line for source in sources for line in each(source, _PLAN)]
    return frozenset(Case.from_factors(line["case"]).id for line in of_lines(planned, filters))


def _runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: name run folders, or folders of them")
    found = sorted(runs_below(folder))
    if not found:
        raise UsageError(f"{folder} holds no run: there is no {_PLAN} in or below it")
    if lone := [run for run in found if not (run / _PLAN).is_file()]:
        raise UsageError(f"{lone[0]} holds a table without the tasks that it is from: it can be loaded, not joined")
    return found


# ---------------------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True, slots=True)
class _At:
    """Where a task's line stands. since: the latest moment at which a task up to this one of its folder was begun."""

    since: str
    source: int
    start: int
    end: int
    started: str


@dataclass
class _Tasks:
    """The lines to be kept, by task, machine and code; only where they stand is held in memory.

    wanted: the cases of which one must be in a line; None: any.
    """

    sources: Sequence[Path]
    texts: Sequence[mmap.mmap | bytes]
    found: Merged
    wanted: frozenset[str] | None = None
    kept: dict[tuple[Any, ...], list[_At]] = field(default_factory=lambda: defaultdict(list))

    def add(self, source: int) -> list[str]:
        """Keep what another folder has not; the machines of this one."""
        since, start = "", 0
        envs: dict[str, None] = {}
        for line, text in Growing(self.sources[source] / _TASKS).fresh():
            since, env_id = max(since, line["started"]), line["env_id"]
            at = _At(since, source, start, start + len(text), line["started"])
            start, envs[env_id] = at.end, None
            if self.wanted is not None and self.wanted.isdisjoint(result["case_id"] for result in line["results"]):
                continue
            others = self.kept[line["task_id"], env_id, line["code_rev"], line["protocol_version"]]
            if self._is_new(at, line, text, [other for other in others if other.source != source]):
                others.append(at)
                self.found.tasks[env_id] += 1
        return list(envs)

    def write(self, path: Path) -> None:
        """All that is kept, by the moment at which it was begun; lines of one folder stay in their order."""
        places = sorted((at for own in self.kept.values() for at in own), key=attrgetter("since", "source", "start"))
        with path.open("wb") as file:
            for at in places:
                file.write(self._text(at))

    def _text(self, at: _At) -> bytes:
        return self.texts[at.source][at.start : at.end]

    def _is_new(self, at: _At, line: Line, text: bytes, foreign: Sequence[_At]) -> bool:
        """Whether no other folder has this line; what a comparison shows is noted."""
        for other in foreign:
            if self._text(other) == text:
                self.found.duplicates += 1
                return False
            if other.started == at.started:
                raise UsageError(
                    f"task {line['task_id']} of {at.started} stands differently in {self.sources[other.source]} and "
                    f"{self.sources[at.source]}: one was changed by hand; remove that line of {_TASKS}"
                )
        if foreign:
            earlier = parse(_TASKS, self._text(foreign[-1]))
            where = f"{self.sources[foreign[-1].source]} and {self.sources[at.source]}"
            self.found.conflicts += [f"{told} in {where}" for told in _contradictions(earlier, line)]
        return True


def _contradictions(one: Line, other: Line) -> Iterator[str]:
    """Where two measurements of one task, by one code on one machine, cannot both be right."""
    theirs = {result["case_id"]: result for result in one["results"]}
    for mine in other["results"]:
        before = theirs.get(mine["case_id"])
        if before is None:
            continue
        if before["status"] != mine["status"] and "skipped" not in (before["status"], mine["status"]):
            yield f"case {mine['case_id']} ({other['kind']}) is {before['status']} and {mine['status']}"
        for metric, value in mine["values"].items() if other["kind"] == "static" else ():
            counted = before["values"].get(metric, value)
            if counted != value and counted.is_integer() and value.is_integer():  # what is counted is whole
                yield f"{metric} of case {mine['case_id']} is {counted:.16g} and {value:.16g}"


def _mapped(path: Path, opened: contextlib.ExitStack) -> mmap.mmap | bytes:
    """A file's bytes, not a copy of them; they stay what they were when the file is replaced."""
    if not path.exists() or not path.stat().st_size:
        return b""
    file = opened.enter_context(path.open("rb"))
    return opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


# ---------------------------------------------------------------------------------------------- plan, machines


def _plan(
    sources: Sequence[Path], envs: Sequence[Sequence[str]], found: Merged, wanted: frozenset[str] | None
) -> bytes:
    """The lines of all plans, each for the machines that its folder measured on."""
    asked: dict[tuple[str, str | None], tuple[str | None, Path]] = {}
    texts: dict[bytes, None] = {}
    for source, measured in zip(sources, envs, strict=True):
        described = _description(source / "env.json")
        where: list[str | None] = [*measured] or [described["env_id"] if described else None]
        for line in each(source, _PLAN):
            if wanted is not None and Case.from_factors(line["case"]).id not in wanted:
                continue
            case_id = digest(line["case"])
            for env_id in [line["env_id"]] if line.get("env_id") else where:
                skipped, other = asked.get((case_id, env_id), (line["skipped"], source))
                if skipped != line["skipped"]:
                    reasons = [
                        f"skipped ({reason})" if reason else "asked for" for reason in (skipped, line["skipped"])
                    ]
                    told = f"case {case_id} is {' and '.join(reasons)} on {env_id} in {other} and {source}"
                    found.conflicts += [told] if other != source else []
                asked[case_id, env_id] = line["skipped"], source
                texts[text_of({**line, **({"env_id": env_id} if env_id else {})})] = None
    found.cases = len({case_id for case_id, _ in asked})
    return b"".join(texts)


class _Described(TypedDict):
    """What a run folder says of its machine; only what is read of it is checked."""

    env_id: Name
    identity: dict[str, Any]


def _description(path: Path) -> Line | None:
    """The env.json of a run; None where there is none."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        TypeAdapter(_Described).validate_json(text)
        found: Line = json.loads(text)
        return found
    except ValueError:
        raise UsageError(f"{path} describes no machine: remove it, or run bench run in its folder again") from None


def _described(sources: Sequence[Path], out: Path, found: Merged) -> None:
    """Write what is known of each machine, identity and roofs, under its env_id; the sweep, if all ran the same."""
    machines: dict[str, Line] = {}
    measured: dict[str, roofs.Roofs] = {}
    for source in sources:
        for path in [source / "env.json", *sorted((source / "envs").glob("*.json"))]:
            if described := _description(path):
                before = machines.setdefault(described["env_id"], described)
                if before["identity"] != described["identity"]:
                    found.conflicts.append(f"{path} says otherwise than another folder what {described['env_id']} is")
        for env_id, own in roofs.of_run(source).items():
            if env_id not in measured or measured[env_id].measured <= own.measured:
                measured[env_id] = own
    for env_id, described in machines.items():
        _write_json(out, "envs", env_id, json.dumps(described, indent=2))
    for env_id, own in measured.items():
        _write_json(out, "roofs", env_id, own.model_dump_json(indent=2))
    sweeps = {path.read_bytes() for source in sources if (path := source / "sweep.toml").is_file()}
    if len(sweeps) == 1:
        write_whole(inside(out, "sweep.toml"), lambda path: path.write_bytes(sweeps.pop()))
    for source in sources:
        if any((source / "spool").glob("*.json")):
            found.uncollected.append(str(source))


def keep_described(folder: Path, env_id: str) -> None:
    """Before ``env_id`` is described in a run folder: what is said of another stays, under its name."""
    with contextlib.suppress(UsageError):  # it is damaged, and about to be replaced
        if (other := _description(folder / "env.json")) and other["env_id"] != env_id:
            _write_json(folder, "envs", other["env_id"], json.dumps(other, indent=2))
        if (measured := roofs.load(folder / roofs.FILE)) and measured.env_id != env_id:
            _write_json(folder, "roofs", measured.env_id, measured.model_dump_json(indent=2))


def _write_json(out: Path, kind: str, env_id: str, text: str) -> None:
    folder = inside(out, kind)
    folder.mkdir(exist_ok=True)
    write_whole(inside(folder, f"{env_id}.json"), lambda path: path.write_text(text + "\n", encoding="utf-8"))
