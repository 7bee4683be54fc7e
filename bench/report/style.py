"""How every figure looks: one colour and one marker for each algebra, everywhere; sizes for a printed column."""

from __future__ import annotations

import matplotlib as mpl
import seaborn as sns

COLUMN = 3.4  # inches: one column of a two-column page
PAGE = 7.0

# Okabe and Ito's palette: told apart by colour-blind readers; markers tell them apart in grey
_LOOKS = {
    "real": ("#000000", "o"),
    "complex": ("#E69F00", "D"),
    "quaternion": ("#0072B2", "s"),
    "octonion": ("#CC79A7", "P"),
    "ph": ("#D55E00", "^"),
    "slim real": ("#7F7F7F", "X"),
}
_SPARE = (("#009E73", "v"), ("#56B4E9", "<"), ("#B8A900", ">"), ("#8C564B", "h"), ("#4B0082", "p"), ("#2F4F4F", "*"))


def looks(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Colour and marker of each algebra; those without one of their own take a spare, by name."""
    others = sorted(name for name in set(names) if name not in _LOOKS)
    table = _LOOKS | {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(others)}
    return {name: table[name][0] for name in names}, {name: table[name][1] for name in names}


def apply() -> None:
    """Set the style of all figures that follow: serif-free, thin lines, fonts embedded as TrueType."""
    sns.set_theme(context="paper", style="ticks")
    mpl.rcParams.update(
        {
            "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
            "legend.fontsize": 7, "legend.title_fontsize": 7, "lines.linewidth": 1.0, "lines.markersize": 4,
            "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3,
            "grid.linewidth": 0.4, "figure.constrained_layout.use": True, "savefig.dpi": 200,
        }
    )  # fmt: skip
