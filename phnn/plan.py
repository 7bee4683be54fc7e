"""A plan: how one layer runs, its path and what goes with it. A value; tuning makes it, layers follow it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from .algebras import near_matches

PATHS = ("kron", "dense", "factored", "bilinear")
MEMORY_FORMATS = ("keep", "contiguous", "channels_last")


@dataclass(frozen=True)
class Plan:
    """One way to run a layer.

    path: see ``phnn.functional``; memory_format: what the input is brought into, and the output left in (``keep``:
    as it comes); packed: weights kept in the CPU library's own layout (inference); chunk: images, or rows of a
    linear, that the bilinear path takes through its three steps at a time in inference, 0 for all at once; fused:
    components mixed by the compiled kernel, where this machine has it (``phnn.kernels``); plain: nothing but the
    path, the operator runs as torch would run it.
    """

    path: str
    memory_format: str = "keep"
    packed: bool = False
    chunk: int = 0
    fused: bool = False
    # asked at every call, and no cached_property, whose lock a compiler cannot enter
    plain: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("path", self.path, PATHS),
            ("memory_format", self.memory_format, MEMORY_FORMATS),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}{near_matches(str(value), known)}")
        if self.chunk < 0:
            raise ValueError(f"chunk counts images or rows, not {self.chunk}")
        plain = self.memory_format == "keep" and not (self.packed or self.chunk or self.fused)
        object.__setattr__(self, "plain", plain)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``Plan(**plan.as_dict())`` is the plan again."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def __str__(self) -> str:
        words = [self.path]
        if self.memory_format != "keep":
            words.append(self.memory_format)
        if self.packed:
            words.append("packed")
        if self.fused:
            words.append("fused")
        if self.chunk:
            words.append(f"chunk={self.chunk}")
        return " ".join(words)


PLAIN = {path: Plan(path) for path in PATHS}
