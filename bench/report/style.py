"""How every figure looks: a colour and a marker for each algebra, everywhere; sizes and fonts by preset."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.colors
import seaborn as sns

from ..errors import UsageError

_SANS, _SERIF = ("DejaVu Sans",), ("STIXGeneral", "DejaVu Serif")  # all of them come with matplotlib, as TrueType


@dataclass(frozen=True)
class Preset:
    """A place where figures are printed. Inches; points.

    column, page: widths of a figure of one and of two columns; depth: the tallest that a figure may be; text: size of
    labels and titles; small: of ticks, legends and cells, never below 6; fonts: the first that is installed is taken.
    """

    name: str
    column: float
    page: float
    depth: float
    text: float
    small: float
    fonts: tuple[str, ...]
    doc: str

    @property
    def letter(self) -> float:
        """The mean width of a letter over the size of its font."""
        return 0.45 if self.fonts == _SERIF else 0.54


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("plain", 3.4, 7.0, 9.0, 8, 7, _SANS, "sans serif, for a screen or any two-column page"),
        Preset("ieee", 3.5, 7.16, 9.2, 8, 7, _SERIF, "IEEE: columns of 3.5 in on a page of 7.16 in, Times"),
        Preset("neurips", 2.7, 5.5, 8.5, 8, 7, _SERIF, "NeurIPS: one column of 5.5 in, or half of it, Times"),
        Preset("icml", 3.25, 6.75, 9.0, 8, 7, _SERIF, "ICML: columns of 3.25 in on a page of 6.75 in, Times"),
    )
}
PLAIN = PRESETS["plain"]
COLUMN, PAGE = PLAIN.column, PLAIN.page


def preset(name: str) -> Preset:
    """The preset of that name."""
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


# ------------------------------------------------------------------------------------------------------- looks


@dataclass(frozen=True)
class Look:
    """How a variant is drawn; fill: matplotlib's fillstyle; dash: a line style."""

    colour: str
    marker: str
    fill: str = "full"
    dash: Any = "-"


# Okabe and Ito's palette and Tol's, darkened to 3:1 on white: told apart by most colour-blind readers. In grey the
# markers tell them apart; a split form is the hollow marker of what it splits.
_LOOKS = {
    "real": Look("#000000", "o"),
    "slim real": Look("#767676", "X", "none"),
    "ph": Look("#D55E00", "^"),
    "complex": Look("#882255", "D"),
    "split_complex": Look("#009E73", "D", "none"),
    "dual": Look("#8C564B", "D", "bottom"),
    "quaternion": Look("#0072B2", "s"),
    "split_quaternion": Look("#3A93CF", "s", "none"),
    "tessarine": Look("#332288", "p"),
    "klein4": Look("#8A8A00", "*"),
    "octonion": Look("#CC79A7", "P"),
    "split_octonion": Look("#AA4499", "P", "none"),
    "dual_quaternion": Look("#117733", "s", "bottom"),
    "biquaternion": Look("#C28500", "h"),
    "sedenion": Look("#2F8F80", "8"),
}
_SPARE_COLOURS = ("#2F4F4F", "#B8336A", "#4B0082", "#5C7F00", "#A0522D", "#1F77B4", "#7A3E9D", "#B22222")
_SPARE_MARKERS = ("h", "p", "8", "H", "*", "X", "D")

# learned rules are triangles, which no other algebra is; which way they point says their dimension
_LEARNED = {2: "^", 3: "v", 4: ">", 8: "<", 16: "d"}
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (3, 1)))
_DASH_OF = {2: 0, 3: 4, 4: 1, 8: 2, 16: 3}  # of a learned rule, by its dimension

FASTER_SLOWER = "PuOr"  # a diverging map: purple is faster, orange slower; readable without red and green


def look(name: str, n: int | None = None) -> Look:
    """The look of an algebra, or any other name; n tells learned rules apart. It does not depend on neighbours."""
    if name == "ph" and n is not None:
        own = _LOOKS["ph"]
        return Look(own.colour, _LEARNED.get(n, "^v><"[n % 4]), "full", _DASHES[_DASH_OF.get(n, n % len(_DASHES))])
    if name in _LOOKS:
        return _LOOKS[name]
    at = zlib.crc32(name.encode())
    colour, marker = _SPARE_COLOURS[at % len(_SPARE_COLOURS)], _SPARE_MARKERS[at // 8 % len(_SPARE_MARKERS)]
    return Look(colour, marker, ("full", "none", "bottom")[at // 64 % 3])


def looks(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Colour and marker of each name."""
    found = {name: look(name) for name in names}
    return {name: own.colour for name, own in found.items()}, {name: own.marker for name, own in found.items()}


def told_apart(wanted: Sequence[tuple[str, int | None]]) -> list[Look]:
    """The looks of several variants in one panel: those that would look alike get other fills and dashes."""
    taken: set[Look] = set()
    found = []
    for name, n in wanted:
        own = look(name, n)
        start = _DASHES.index(own.dash)
        fills = list(dict.fromkeys((own.fill, "full", "none", "bottom", "top", "left", "right")))
        turned = (
            Look(own.colour, own.marker, fill, _DASHES[(start + i + turn) % len(_DASHES)])
            for turn in range(len(_DASHES))
            for i, fill in enumerate(fills)
        )
        own = next((each for each in turned if each not in taken), own)
        taken.add(own)
        found.append(own)
    return found


def luminance(colour: Any) -> float:
    """The relative luminance of a colour, 0 to 1. Source: WCAG 2.2, which asks for (L + .05) ratios of 3."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def apply(chosen: Preset = PLAIN) -> None:
    """Set the style of all figures that follow: thin lines, fonts embedded as TrueType, names are no formulas."""
    sns.set_theme(context="paper", style="ticks")
    family = "serif" if chosen.fonts == _SERIF else "sans-serif"
    settings: dict[Any, Any] = {
        "font.family": family, f"font.{family}": list(chosen.fonts), "font.size": chosen.text,
        "axes.labelsize": chosen.text, "axes.titlesize": chosen.text, "xtick.labelsize": chosen.small,
        "ytick.labelsize": chosen.small, "legend.fontsize": chosen.small, "legend.title_fontsize": chosen.small,
        "lines.linewidth": 0.9, "lines.markersize": 3.8, "lines.markeredgewidth": 0.7, "axes.linewidth": 0.6,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
        "xtick.major.pad": 2, "ytick.major.pad": 2, "axes.labelpad": 2, "axes.titlepad": 3,
        "axes.grid": True, "grid.alpha": 0.4, "grid.linewidth": 0.4, "axes.axisbelow": True,
        "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "phnn-bench",
        "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.03,
        "figure.constrained_layout.h_pad": 0.03, "savefig.dpi": 200, "text.parse_math": False,
        "axes.unicode_minus": True, "figure.max_open_warning": 0,
    }  # fmt: skip
    mpl.rcParams.update(settings)
