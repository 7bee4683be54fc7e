"""The report of a conversion, a value: which layers changed, which not and why, parameters before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerChange:
    """What became of one layer.

    name: the layer's, "" for the model itself; aliases: other names of the same module; kind, became: class names,
    ``became`` None where the layer stays real, for ``reason``; params_before, params_after: its parameters;
    error: ||W - W_ph|| / ||W|| over its weights, after ``init="project"``.
    """

    name: str
    kind: str
    became: str | None
    reason: str | None
    params_before: int
    params_after: int
    error: float | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """The report of ``convert``: every layer of a class that it swaps, in the model's order, and the whole.

    params_before, params_after: of the whole model, each parameter once (a rule that layers share counts in each of
    theirs). ``str`` gives a table, ``as_dict`` what JSON can hold.
    """

    algebra: str
    n: int
    init: str
    layers: tuple[LayerChange, ...]
    params_before: int
    params_after: int

    @property
    def converted(self) -> tuple[LayerChange, ...]:
        """The layers that changed."""
        return tuple(layer for layer in self.layers if layer.became is not None)

    @property
    def kept(self) -> tuple[LayerChange, ...]:
        """The layers that stayed real, each with its reason."""
        return tuple(layer for layer in self.layers if layer.became is None)

    @property
    def convertible(self) -> int:
        """Parameters that the converted layers had."""
        return sum(layer.params_before for layer in self.converted)

    @property
    def removed(self) -> float:
        """The share of the convertible parameters that is gone; 0 where nothing was converted."""
        after = sum(layer.params_after for layer in self.converted)
        return 1 - after / self.convertible if self.convertible else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "convertible": self.convertible, "removed": self.removed}

    def __str__(self) -> str:
        rows = [("layer", "was", "is", "params", "", "error")]
        for layer in self.layers:
            error = "" if layer.error is None else f"{layer.error:.2g}"
            name = " = ".join((layer.name or "(model)", *layer.aliases))
            is_now = layer.became or f"real: {layer.reason}"
            rows.append((name, layer.kind, is_now, f"{layer.params_before:,}", f"{layer.params_after:,}", error))
        widths = [max(len(row[i]) for row in rows if i != 2 or not row[2].startswith("real")) for i in range(6)]
        lines = []
        for name, kind, is_now, before, after, error in rows:
            text = f"{name:{widths[0]}}  {kind:{widths[1]}}  "
            if is_now.startswith("real"):
                lines.append(text + is_now)
                continue
            counts = f"{before:>{widths[3]}} {'→' if after else ' '} {after:>{widths[4]}}"
            lines.append(f"{text}{is_now:{widths[2]}}  {counts}  {error}".rstrip())
        over = self.algebra if self.algebra != "ph" else f"ph, n={self.n}"
        lines.append(
            f"{over}: {len(self.converted)} of {len(self.layers)} layers, whose parameters shrink by "
            f"{100 * self.removed:.1f} %; the model's go from {self.params_before:,} to {self.params_after:,}"
        )
        return "\n".join(lines)
