"""What a path costs: multiply-adds from shapes alone. No tensor is touched, so any size can be asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Multiply-adds (MAC) of one forward call.

    ``macs``: what the path executes on the input; ``macs_weight_build``: what building W takes, once for each
    build, however large the batch; ``macs_dense``: what the real layer of the same width executes; ``weights``: how
    many entries of weights, as the path applies them, a call has to read.
    """

    macs: int = 0
    macs_weight_build: int = 0
    macs_dense: int = 0
    weights: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.macs_weight_build + other.macs_weight_build,
            self.macs_dense + other.macs_dense,
            self.weights + other.weights,
        )


def product_cost(
    path: str,
    *,
    n: int,
    weight_numel: int,
    positions: int,
    rank: int | None = None,
    in_channels: int = 0,
    out_channels: int = 0,
    in_positions: int = 0,
    out_positions: int = 0,
) -> Cost:
    """Cost of applying a W of ``weight_numel`` entries at ``positions`` (rows of a linear, pixels of a batch).

    ``dense`` and ``kron`` run the real operator on W, and spend n multiply-adds on each entry of W. ``factored``
    applies every filter to every component, which is as much, and then mixes n^2 partial outputs into n.
    ``bilinear`` applies R blocks of W's n^2, mixes inputs before and outputs after, and makes R filters of n.
    The mixing is counted as the matrix product that it is. Of weights ``dense`` and ``kron`` read all of W,
    ``factored`` the filters F (an n-th of it) and ``bilinear`` its R blocks.
    in_positions, out_positions: rows or pixels of the input and of the output (default: positions).
    """
    dense = weight_numel * positions
    if path in ("dense", "kron"):
        return Cost(dense, macs_weight_build=n * weight_numel, macs_dense=dense, weights=weight_numel)
    out_mix = (out_positions or positions) * out_channels  # multiply-adds for each term of the mix
    if path == "factored":
        return Cost(dense + n * n * out_mix, macs_dense=dense, weights=weight_numel // n)
    if path == "bilinear" and rank:
        mixing = rank * ((in_positions or positions) * in_channels + out_mix)
        blocks = dense * rank // n**2
        built, read = rank * weight_numel // n, rank * weight_numel // n**2
        return Cost(blocks + mixing, macs_weight_build=built, macs_dense=dense, weights=read)
    raise ValueError(f"no cost is known for path {path!r}{'' if rank else ' without a rank'}")
