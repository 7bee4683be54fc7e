"""What follows from how a process ended: results that are settled, and what the next process shall measure. Pure.

    replied             its results are settled; cases of which it says nothing are measured again
    timeout             settled for the case that the crumb names; the others are measured again without it
    died                measured again, twice; the second time the case that the crumb named both times is tried
                        alone, with the baseline; its third death settles it as crashed, the others go on without it
    died for memory     settled as oom at once where the process said so, at the second time where the kernel did:
                        the first may have been another's fault, and is measured again
    lost                measured again: nothing is known against the case

The baseline stays in every chunk until it is a culprit itself; then the others are measured without it, and their
ratios say what became of it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..launch.engine import Attempt
from ..launch.processes import ending
from ..plan.case import Case
from ..task.protocol import Result, Status, wants_memory

DEATHS = 3  # of unknown cause at one case, until it counts as crashed
OOM_DEATHS = 2  # by the kernel, for want of memory
LOSSES = 5  # nodes or jobs that vanish under one task until it is given up

_UNCAUGHT = re.compile(r"^(terminate called|.*: terminating)", re.M)  # how libstdc++ and libc++ begin


@dataclass(frozen=True)
class State:
    """A task that is not finished: which cases are still to be measured, and what is settled.

    suspect: the case that is now tried alone; deaths: of unknown cause, whom the crumb named at each (nobody, if the
    process died before its first case); part: the number of the next settled process; said: a line for each attempt
    that did not reply.
    """

    left: tuple[Case, ...]
    found: tuple[Result, ...] = ()
    suspect: str = ""
    deaths: tuple[str, ...] = ()
    losses: int = 0
    attempts: int = 0
    part: int = 0
    said: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """What the next process shall measure."""
        if not self.suspect:
            return self.left
        return tuple(case for case in self.left if case.is_baseline or case.id == self.suspect)


def begin(cases: Sequence[Case], known: Sequence[Result] = ()) -> State:
    """A task before its first attempt; known: cases that took a process of its chunk, and are not tried again."""
    state = State(tuple(cases))
    return _without(state, {result.case_id for result in known}, known) if known else state


def after(state: State, attempt: Attempt) -> State:
    """What is known after one more attempt; the task is finished when nothing is left."""
    state = replace(state, attempts=state.attempts + 1)
    asked = {case.id for case in state.cases}
    if results := [r for r in attempt.reply.results if r.case_id in asked] if attempt.reply else []:
        return _replied(state, results)
    state = replace(state, said=(*state.said, f"attempt {state.attempts}: {_how(attempt)}"))
    if attempt.ending == "timeout":
        seconds = attempt.order.request.protocol.timeout
        return _settled(state, attempt, "timeout", f"no result after {seconds:g} s{_at(attempt)}; see {attempt.log}")
    if attempt.ending == "lost":
        state = replace(state, losses=state.losses + 1)
        if state.losses < LOSSES:
            return state
        reason = f"the machine was lost {LOSSES} times while it was measured; see {attempt.log}"
        return _settled(state, replace(attempt, crumb=None), "crashed", reason)
    return _died(state, attempt)


def culprits(state: State) -> list[Result]:
    """Settled results of cases that took their process, or its memory: no other task of the chunk need try them."""
    return [result for result in state.found if result.status in ("timeout", "crashed", "oom")]


def _replied(state: State, results: Sequence[Result]) -> State:
    """All of its cases, or the one that raised when the others could no longer be measured beside it."""
    tried = next((case for case in state.left if case.id == state.suspect), None)
    if tried is not None and tried.is_baseline:
        # it can be measured alone, which says nothing of the others beside it: once more, all together
        return replace(state, suspect="")
    sound = {case.id for case in state.left if case.is_baseline} & {r.case_id for r in results if r.status == "ok"}
    return _without(state, {result.case_id for result in results} - sound, results)


def _died(state: State, attempt: Attempt) -> State:
    if _wants_memory(attempt):
        return _settled(state, attempt, "oom", f"no memory{_at(attempt)}: {_last_line(attempt)}")
    culprit = _culprit(state, attempt)
    state = replace(state, deaths=(*state.deaths, culprit))
    times = state.deaths.count(culprit)
    if attempt.oom_kills > 0 and attempt.code == -9 and times >= OOM_DEATHS:
        reason = f"killed for want of memory{_at(attempt)}, {times} times; see {attempt.log}"
        return _settled(state, attempt, "oom", reason)
    if times >= DEATHS:
        return _settled(state, attempt, "crashed", f"{_how(attempt)}, {times} times; {_spoken(attempt)}")
    if times == DEATHS - 1 and culprit and len(state.left) > 1:
        return replace(state, suspect=culprit)
    return state


def _settled(state: State, attempt: Attempt, status: Status, reason: str) -> State:
    """The culprit has its result; where nobody knows who it is, all that were measured have it."""
    culprit = _culprit(state, attempt)
    ids = [case.id for case in state.cases if culprit in ("", case.id)]
    return _without(state, set(ids), [Result(case_id=id_, status=status, reason=reason) for id_ in ids])


def _without(state: State, ids: set[str], results: Sequence[Result]) -> State:
    """The state once ``results`` are settled and the cases ``ids`` need no more processes.

    A baseline stays beside cases that are left, and by itself only until it is measured.
    """
    found = (*state.found, *(result.model_copy(update={"part": state.part}) for result in results))
    have = {result.case_id for result in found}
    left = tuple(case for case in state.left if case.id not in ids)
    if all(case.id in have for case in left):
        left = ()
    return replace(state, left=left, found=found, suspect="", losses=0, part=state.part + bool(results))


def _culprit(state: State, attempt: Attempt) -> str:
    """The case that the crumb names; a process of a single case needs none."""
    named = attempt.crumb.case_id if attempt.crumb else ""
    ids = [case.id for case in state.cases]
    return named if named in ids else ids[0] if len(ids) == 1 else ""


def _wants_memory(attempt: Attempt) -> bool:
    """Whether that is what ended the process: an exception that nobody caught, in C++ (SIGABRT) or in Python (1).

    What it said before may be of another case, which raised and was caught; whom a signal ends says nothing of why.
    """
    if attempt.code == -signal.SIGABRT:
        uncaught = [match.start() for match in _UNCAUGHT.finditer(attempt.said)]
        return bool(uncaught) and wants_memory(attempt.said[uncaught[-1] :])
    return attempt.code == 1 and wants_memory(" ".join(attempt.said.splitlines()[-3:]))


def _how(attempt: Attempt) -> str:
    if attempt.ending == "lost":
        return "its machine was lost"
    if attempt.ending == "timeout":
        return f"no result in time{_at(attempt)}"
    if attempt.code == 0:
        return "the process wrote no sound reply"
    return f"it ended with {ending(attempt.code or 0)}{_at(attempt)}"


def _at(attempt: Attempt) -> str:
    return f" at {attempt.crumb.step}" if attempt.crumb else " before its first case"


def _last_line(attempt: Attempt) -> str:
    return (attempt.said.splitlines() or [""])[-1].strip()


def _spoken(attempt: Attempt) -> str:
    line = _last_line(attempt)
    return f"its last line: {line}; see {attempt.log}" if line else f"it printed nothing; see {attempt.log}"
