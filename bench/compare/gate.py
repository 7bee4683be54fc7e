"""``--fail-on slower:5%``: when a comparison ends with an exit code of its own."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..stats import Interval, Verdict
from .direction import within, worse

# slower: shown to be slower by more than the share (of other metrics: worse); maybe-slower: not shown to be within it
_KINDS = {"slower": "slower", "worse": "slower", "maybe-slower": "maybe-slower", "maybe-worse": "maybe-slower"}


@dataclass(frozen=True)
class Gate:
    """What a comparison must not show; share: of the time, or of the range of an accuracy."""

    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{100 * self.share:g}%"


def parse(text: str) -> Gate:
    """``slower:5%`` or ``maybe-slower:0.05``; a UsageError for anything else."""
    kind, _, amount = text.partition(":")
    share = share_of(amount)
    if kind not in _KINDS or share is None:
        raise UsageError(f"--fail-on {text!r} is not of the form slower:5% or maybe-slower:5%")
    return Gate(_KINDS[kind], share)


def share_of(text: str) -> float | None:
    """``5%`` or ``0.05`` as a number of at least 0; None of what is neither."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return share if 0 <= share < float("inf") else None


def closes(gate: Gate, change: Interval, metric: str) -> str:
    """Why a change of ``metric`` closes the gate; empty if it does not."""
    share = f"{100 * gate.share:g} %"
    if worse(change, metric, gate.share) is Verdict.SLOWER:
        return f"worse by more than {share}"
    if gate.kind == "maybe-slower" and not within(change, metric, gate.share):
        return f"not shown to be within {share}"
    return ""
