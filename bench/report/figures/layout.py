"""From panels to pages: grids of a preset's widths, one legend below, ticks that do not overlap."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from ..slug import file_name
from ..style import Preset
from .axes import FOOT

_HEIGHT = 1.6  # inches of a panel without its title
_MOST = 8  # panels on a page


@dataclass(frozen=True)
class Drawn:
    """One pair of axes, ready to be drawn: a title, how to draw it, and how tall it is beside an ordinary one."""

    subject: str
    title: str
    draw: Callable[[Axes], None]
    height: float = 1.0


@dataclass(frozen=True)
class Drawing:
    """What a kind of figure makes of a table. note: a line below; found: how many panels there would be in all."""

    panels: list[Drawn]
    note: str = ""
    found: int = 0
    lacks: str = ""
    columns: int = field(default=2)  # panels beside each other on a page's width


def pages(name: str, drawing: Drawing, preset: Preset, width: str = "auto") -> list[tuple[str, Callable[[], Figure]]]:
    """The figures of a drawing with their names: one, or where it does not fit on a page, a figure a subject."""
    most = min(_MOST, _fits(drawing, preset, width))
    beside = replace(drawing, panels=[])
    if len(drawing.panels) <= most:
        return [(name, partial(page, drawing.panels, beside, preset, width))]
    made: list[tuple[str, Callable[[], Figure]]] = []
    names: dict[str, str] = {}
    for panel in drawing.panels:
        if panel.subject not in names:
            taken = set(names.values())
            stem = file_name(f"{name}_{panel.subject}")
            names[panel.subject] = stem if stem not in taken else f"{stem}_{len(taken)}"
    for subject, stem in names.items():
        own = [panel for panel in drawing.panels if panel.subject == subject]
        pieces = [own[i : i + most] for i in range(0, len(own), most)]
        for index, piece in enumerate(pieces):
            title = stem if len(pieces) == 1 else f"{stem}_{index + 1}"
            made.append((title, partial(page, piece, beside, preset, width)))
    return made


def _fits(drawing: Drawing, preset: Preset, width: str) -> int:
    tallest = max((panel.height for panel in drawing.panels), default=1.0)
    rows = max(1, int((preset.depth - 0.6) / (tallest * _HEIGHT + 0.3)))
    return rows * (1 if width == "column" else drawing.columns)


def page(panels: Sequence[Drawn], drawing: Drawing, preset: Preset, width: str = "auto") -> Figure:
    """One figure of these panels, laid out and ready to be saved."""
    columns = 1 if width == "column" else min(drawing.columns, len(panels))
    across = preset.column if width == "column" or (width == "auto" and columns == 1) else preset.page
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    titles = [_wrapped(panel.title, across / columns, preset) for panel in panels]
    line = preset.text * 1.25 / 72
    heights = [
        max(panel.height for panel in row) * _HEIGHT
        + 0.1
        + line * max(1 + titles[i * columns + j].count("\n") for j in range(len(row)))
        for i, row in enumerate(rows)
    ]
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(across, sum(heights)), squeeze=False, height_ratios=heights
    )
    flat = list(grid.flat)
    for unused in flat[len(panels) :]:
        unused.set_visible(False)
    for axis, panel, title in zip(flat, panels, titles, strict=False):
        panel.draw(axis)
        axis.set_title(title, linespacing=1.1)
    below = _legend(figure, flat[: len(panels)], drawing.note, preset)
    figure.set_size_inches(across, min(preset.depth, sum(heights) + below))
    _settle(figure)
    return figure


def _wrapped(title: str, inches: float, preset: Preset) -> str:
    letters = max(16, int(inches * 0.86 * 72 / (preset.letter * preset.text)))
    whole = ", ".join(part.replace(" ", _KEPT) for part in title.split(", "))  # lines end after commas
    lines = textwrap.wrap(whole, letters, break_long_words=True, max_lines=4, placeholder=" …")
    return "\n".join(lines).replace(_KEPT, " ")


_KEPT = "\u00a0"  # a space at which textwrap ends no line


def _legend(figure: Figure, axes: Sequence[Axes], note: str, preset: Preset) -> float:
    """One legend below all panels, in as many columns as its longest label allows; the inches that it takes."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, copy(handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle))
    for handle in handles.values():
        handle.set_alpha(None)
    # why there is no figure stands after what there is
    handles = dict(sorted(handles.items(), key=lambda item: item[1].get_color() == FOOT))
    line = preset.small * 1.42 / 72
    across = figure.get_size_inches()[0]
    told = textwrap.fill(note, int(across * 72 / (preset.letter * preset.small)))
    below = line * (1 + told.count("\n")) if note else 0.0
    if not handles:
        if note:
            figure.supxlabel(told, fontsize=preset.small, color="0.25")
        return below
    longest = max(len(part) for text in handles for part in text.split("\n"))
    columns = max(1, min(len(handles), int(across / (0.42 + longest * 1.07 * preset.letter * preset.small / 72))))
    columns = math.ceil(len(handles) / math.ceil(len(handles) / columns))  # rows of one length
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, title=told or None,
        frameon=False, columnspacing=1.2, handlelength=2.0, handletextpad=0.5, labelspacing=0.3, borderpad=0.2,
    )  # fmt: skip
    legend.get_title().set_multialignment("center")
    tallest = max(1 + text.count("\n") for text in handles)
    return below + line * tallest * math.ceil(len(handles) / columns) + 0.06


def _settle(figure: Figure) -> None:
    """Lay the figure out once, drop tick labels that would overlap, and keep it so for every file that is written."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    for axis in figure.axes:
        if axis.get_visible():
            _thin(axis.xaxis, 0)
            _thin(axis.yaxis, 1)
            _inward(axis)
    figure.set_layout_engine("none")


def _inward(axis: Axes) -> None:
    """Move a title that is wider than its panel to where the labels beside it leave room."""
    box, own = axis.title.get_window_extent(), axis.get_window_extent()
    if box.x0 >= own.x0 and box.x1 <= own.x1:
        return
    if (room := axis.get_tightbbox(for_layout_only=True)) is not None:
        shift = max(room.x0 - box.x0, 0) + min(room.x1 - box.x1, 0)
        axis.title.set_x(axis.title.get_position()[0] + shift / own.width)


def _thin(own: Axis, direction: int) -> None:
    """Blank the labels that touch the one before; the first and the last stay."""
    low, high = sorted(own.get_view_interval())
    ticks = [tick for tick in own.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_text()]
    if len(ticks) < 2:
        return
    boxes = [tick.label1.get_window_extent() for tick in ticks]
    spans = [(box.x0, box.x1) if direction == 0 else (box.y0, box.y1) for box in boxes]
    order = sorted(range(len(ticks)), key=lambda index: spans[index])
    gap = 0.25 * float(ticks[0].label1.get_fontsize()) if direction == 0 else 0.0
    kept, end, last = [order[0]], spans[order[0]][1], order[-1]
    for index in order[1:-1]:
        if spans[index][0] >= end + gap and spans[index][1] + gap <= spans[last][0]:
            kept.append(index)
            end = spans[index][1]
    kept += [last] if spans[last][0] >= end + gap else []
    if len(kept) == len(ticks):
        return
    where = [tick.get_loc() for tick in ticks]
    texts = [tick.label1.get_text() if index in kept else "" for index, tick in enumerate(ticks)]
    own.set_major_locator(FixedLocator(where))
    own.set_major_formatter(FixedFormatter(texts))
