"""What the models can be asked for, and the widths that follow from it. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..algebras import near_matches
from ..widths import misfit, scaled

PADS = ("zero_first", "error", "real_stem")
STEMS = ("cifar", "imagenet")
BLOCKS = ("basic", "bottleneck")
DROPOUTS = ("after", "before")


def one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    """``value``, if it is allowed; else a ValueError that names the option and what it may be."""
    if value not in allowed:
        raise ValueError(f"unknown {option} {value!r}{near_matches(str(value), allowed)}")
    return value


def fitting(widths: Sequence[int], scale: float, n: int, name: str = "widths") -> tuple[int, ...]:
    """The widths under ``scale``; a ValueError with the nearest that fit where n does not divide one."""
    final = scaled(widths, scale, n)
    if reason := misfit(n, **{f"{name}[{i}]": width for i, width in enumerate(final)}):
        raise ValueError(reason)
    return final


def stage_widths(widths: Sequence[int] | None, default: tuple[int, ...], scale: float, n: int) -> tuple[int, ...]:
    """One width for each stage: ``widths`` or else ``default``, as ``fitting``; a ValueError for too many or few."""
    chosen = tuple(widths or default)
    if len(chosen) != len(default):
        raise ValueError(f"{len(default)} stages need {len(default)} widths, not {chosen}")
    return fitting(chosen, scale, n)


def vgg_widths(widths: Sequence[int], head: Sequence[int], scale: float, n: int) -> tuple[tuple[int, ...], ...]:
    """The widths of VGG's five blocks of convolutions and of its hidden linear layers.

    Of four widths the last serves two blocks, as in all published VGGs.
    """
    widths = (*widths, widths[-1]) if len(widths) == 4 else tuple(widths)
    if len(widths) != 5:
        raise ValueError(f"VGG needs 5 widths, or 4 of which the last serves two blocks, not {widths}")
    return fitting(widths, scale, n), fitting(head, scale, n, "head")


@dataclass(frozen=True)
class SeldForm:
    """One form of SELDnet.

    widths: of the convolutions; pools: (bins, frames) that each block's max pooling takes to one; hidden, layers: of
    the bidirectional GRU; linears: of the hidden linear layers; activation: whether a ReLU follows each of them;
    dropout: its probability; hypercomplex_head: whether the hidden linear layers are over the algebra.
    """

    widths: tuple[int, ...]
    pools: tuple[tuple[int, int], ...]
    hidden: int
    layers: int
    linears: tuple[int, ...]
    activation: bool
    dropout: float
    hypercomplex_head: bool = False


_POOLS = ((8, 2), (8, 2), (2, 2))
SELD_BINS, SELD_FRAMES = 128, 8  # what the pooling of every form takes to one
_AUGMENTED = ((64, 128, 256, 512), (*_POOLS, (1, 1)), 256, 3, (1024,) * 3, True, 0.3)
SELD_FORMS = {
    "vanilla": SeldForm((64, 64, 64), _POOLS, 128, 2, (128,), False, 0.0),
    "augmented": SeldForm(*_AUGMENTED),
    "full": SeldForm(*_AUGMENTED, hypercomplex_head=True),
}


def seld_widths(
    form: str, widths: Sequence[int] | None, scale: float, n: int
) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """The widths of SELDnet's convolutions, of one direction of its GRU, and of its hidden linear layers.

    All are scaled; n must divide those of the layers over the algebra.
    """
    chosen = SELD_FORMS[one_of("form", form, tuple(SELD_FORMS))]
    convs = stage_widths(widths, chosen.widths, scale, n)
    head = n if chosen.hypercomplex_head else 1
    (hidden,) = scaled((chosen.hidden,), scale, head)
    if reason := misfit(head, **{"GRU output": 2 * hidden}):
        raise ValueError(reason)
    return convs, hidden, fitting(chosen.linears, scale, head, "linears")
