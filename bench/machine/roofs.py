"""Roofs: how fast this machine can go at all, as measured on it, and the share of that which a call reaches.

``bench env --calibrate`` (``calibrate``) measures them. They are kept in the user's cache folder by env_id and
copied into each run folder; they are no part of env_id. No torch here.

    seconds at the roof = max(FLOP / peak, bytes / bandwidth)
    efficiency          = seconds at the roof / seconds measured
                        = FLOP/s reached / min(peak, intensity x bandwidth)

The peak is that of the case's arithmetic and number of threads. The bandwidth is that of the fastest level of memory
that holds what the call moves: for a timer that keeps caches warm, the greatest rate of copying or reading measured
on any working set at least as large; for a cold one, that of the largest working set, which no cache holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phnn.rank import cache_folder

from ..errors import UsageError

FORMAT = 1  # raise it with what is written (Roofs.format)
FILE = "roofs.json"  # beside a run's results

_ARITHMETIC = {"amp_bf16": "bfloat16", "amp_fp16": "float16", "tf32": "tf32"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Rates(_Strict):
    """What a number of threads reaches; 0 threads on a device that does not count them.

    flops: arithmetic (a dtype, or tf32) → FLOP/s of the best matrix product; copied, read: bytes of the working set →
    B/s, reads and writes both counted; unsupported: arithmetic → why it has no peak.
    """

    threads: int
    flops: dict[str, _Rate]
    copied: dict[int, _Rate] = Field(min_length=1)
    read: dict[int, _Rate]
    unsupported: dict[str, str] = {}

    def bandwidth(self, working_set: int, cold: bool = False) -> float:
        """B/s of the fastest memory that holds the working set; that of the main memory if caches are cold."""
        largest = max(self.copied)
        least = largest if cold else min(working_set, largest)
        return max(rate for size, rate in [*self.copied.items(), *self.read.items()] if size >= least)


class Roofs(_Strict):
    """All that is measured of a machine.

    launch: seconds of an operator on one element; timer: the least step of the clock in seconds; caches: name →
    bytes, caches_by: ``os`` or ``sweep``; marks, watch: what happened to the machine meanwhile (``watch``).
    """

    format: Literal[1] = 1
    env_id: str
    device: str
    rates: list[Rates]
    launch: float
    timer: float
    caches: dict[str, int]
    caches_by: str
    measured: str
    marks: list[str] = []
    watch: dict[str, Any] = {}


@dataclass(frozen=True)
class Roof:
    """The roof over one call: the least seconds that it could take, and what sets them."""

    seconds: float
    bound: str  # compute | memory
    peak: float
    bandwidth: float


def roof(roofs: Roofs, *, flop: int, moved: int, arithmetic: str, threads: int, cold: bool) -> Roof | str:
    """The roof over a call of ``flop`` FLOP that moves ``moved`` bytes, or why there is none."""
    rates = next((r for r in roofs.rates if r.threads in (threads, 0)), None)
    if rates is None:
        have = ", ".join(str(r.threads) for r in roofs.rates)
        more = f"bench env --calibrate --threads {threads}"
        return f"the roofs were measured at {have} threads, not at {threads}: {more}"
    if arithmetic not in rates.flops:
        why = rates.unsupported.get(arithmetic, "it was not measured")
        return f"there is no peak for {arithmetic}: {why}"
    if not flop or not moved:
        return "nothing in it multiplies, so it has no intensity"
    peak, bandwidth = rates.flops[arithmetic], rates.bandwidth(moved, cold)
    compute, memory = flop / peak, moved / bandwidth
    return Roof(max(compute, memory), "compute" if compute >= memory else "memory", peak, bandwidth)


def arithmetic_of(factors: Mapping[str, Any]) -> str:
    """The arithmetic that a case's products run in: its precision's, else its dtype."""
    return _ARITHMETIC.get(factors["precision"], factors["dtype"])


# -------------------------------------------------------------------------------------------------- kept


def kept_at(env_id: str) -> Path:
    """Where this machine keeps the roofs of an environment."""
    return cache_folder() / "roofs" / f"{env_id}.json"


def load(path: Path) -> Roofs | None:
    """The roofs in a file; None where there is none. A UsageError for one that is damaged or of another format."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): mend its permissions, or remove it") from None
    try:
        return Roofs.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        raise UsageError(f"{path} holds no roofs of format {FORMAT}: remove it, then bench env --calibrate") from None


def of_run(folder: Path) -> dict[str, Roofs]:
    """env_id → roofs that a run folder holds: its machine's, and those of the machines that were merged into it."""
    found = [load(path) for path in [*sorted((folder / "roofs").glob("*.json")), folder / FILE]]
    return {measured.env_id: measured for measured in found if measured}


def save(path: Path, roofs: Roofs) -> None:
    """Write the file whole; a UsageError where it cannot be written."""
    from ..store.folder import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be made ({error.strerror}): set XDG_CACHE_HOME") from None
    write_whole(path, lambda where: where.write_text(roofs.model_dump_json(indent=2) + "\n", encoding="utf-8"))
