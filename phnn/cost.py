"""What a path costs: multiply-adds from shapes alone. No tensor is touched, so any size can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

PATHS = ("kron", "dense")  # the contraction paths by name; functional.py executes them


@dataclass(frozen=True)
class Cost:
    """Multiply-adds (MAC) of one forward call.

    ``macs``: what the path executes on the input; ``macs_weight_build``: what building W takes, once for each
    build, however large the batch; ``macs_dense``: what the real layer of the same width executes.
    """

    macs: int = 0
    macs_weight_build: int = 0
    macs_dense: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.macs_weight_build + other.macs_weight_build,
            self.macs_dense + other.macs_dense,
        )


def product_cost(path: str, *, n: int, weight_numel: int, positions: int) -> Cost:
    """Cost of applying a W of ``weight_numel`` entries at ``positions`` (rows of a linear, pixels of a batch).

    ``dense`` and ``kron`` run the real operator on W, and spend n multiply-adds on each entry of W.
    """
    dense = weight_numel * positions
    if path in ("dense", "kron"):
        return Cost(macs=dense, macs_weight_build=n * weight_numel, macs_dense=dense)
    raise ValueError(f"no cost is known for path {path!r}")
