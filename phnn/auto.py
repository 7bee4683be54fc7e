"""What an untuned ``path="auto"`` runs: a pure function of the algebra, the shapes, the dtype, the device, the phase.

Measuring beats guessing (``phnn.tune``); this is the guess, and it errs towards ``dense``, which is never far off.
The constants are where the paths crossed on a 2-core CPU in float32; see docs/contraction-paths.md.
"""

from __future__ import annotations

# Reading W is what a call waits for, until each weight is used by this many rows.
FACTORED_ROWS = 4
# Below this many entries W stays in the cache and one matrix product beats three calls.
FACTORED_WEIGHT = 1 << 19
# Block products of fewer channels leave the vector units half idle, and mixing costs as much as it saves.
BILINEAR_CHANNELS = 128
BILINEAR_ROWS = 64
# A bilinear rank above this share of n^2 saves less arithmetic than mixing costs.
BILINEAR_SHARE = 0.6


def auto_path(
    *,
    n: int,
    rank: int | None,
    rows: int,
    columns: int,
    taps: int,
    positions: int,
    dtype: str,
    device: str,
    phase: str,
    convolution: bool,
    channels_last: bool,
) -> str:
    """``dense``, ``factored`` or ``bilinear``; ``dense`` wherever nothing was measured.

    rank: None if no decomposition is at hand; rows, columns: channels of one component's output and input (of a
    group); taps: kernel elements, 1 for a linear; positions: rows or output pixels; phase: ``infer`` or ``train``;
    channels_last: whether the input is (said of convolutions).
    """
    if device != "cpu" or dtype != "float32":
        return "dense"
    entries = n**2 * rows * columns * taps
    infer = phase == "infer"
    if infer and not convolution and positions <= FACTORED_ROWS and entries >= FACTORED_WEIGHT:
        return "factored"
    cheap = rank is not None and rank <= BILINEAR_SHARE * n**2
    wide = min(rows, columns) >= BILINEAR_CHANNELS
    # in any other memory format a grouped convolution is slower than the whole one
    laid_out = channels_last and taps > 1 if convolution else True
    if cheap and wide and laid_out and positions >= BILINEAR_ROWS:
        return "bilinear"
    return "dense"
