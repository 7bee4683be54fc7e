"""The parts of the page that Bokeh draws: two linked plots over the rows, and the table below them.

Axes are drawn over plain or logarithmic values that the page computes (page.js), so that any two columns can be
plotted; ticks and their labels are computed with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    BooleanFilter,
    CDSView,
    ColumnDataSource,
    CustomJSTicker,
    CustomJSTickFormatter,
    HoverTool,
    InlineStyleSheet,
    Model,
    Range1d,
)
from bokeh.models.annotations.geometry import Span
from bokeh.models.widgets.tables import (
    DataTable,
    HTMLTemplateFormatter,
    NumberFormatter,
    StringFormatter,
    TableColumn,
)
from bokeh.plotting import figure

from .. import style
from .rows import Column, Rows

PANELS = ("left", "right")

# the markers of the figures in Bokeh's words
_MARKERS = {"o": "circle", "D": "diamond", "s": "square", "P": "plus", "^": "triangle", "X": "x", "h": "hex",
            "p": "star", "v": "inverted_triangle", "<": "square_pin", ">": "triangle_pin",
            "*": "asterisk", "8": "circle_cross", "H": "hex_dot", "d": "diamond_dot"}  # fmt: skip


def source_of(rows: Rows) -> ColumnDataSource:
    """The rows with their looks, and for each panel the coordinates that page.js fills."""
    names = sorted(set(rows.data["look"]))
    colours, markers = style.looks(names)
    data = dict(rows.data)
    data["colour"] = [colours[look] for look in data["look"]]
    data["marker"] = [_MARKERS[markers[look]] for look in data["look"]]
    data["words"], data["numbers"] = _labels(rows)
    for panel in PANELS:
        data |= {f"{panel}_{end}": np.full(rows.count, np.nan) for end in ("x", "y", "lo", "hi")}
        data |= {f"{panel}_{end}": [""] * rows.count for end in ("xt", "yt")}
    return ColumnDataSource(data, name="rows")


def _labels(rows: Rows) -> tuple[list[str], list[str]]:
    """What tells each row from the others, each in a line: the words, the numbers."""
    own = [c for c in rows.columns if c.kind != "metric" and c.name not in _NOT_TOLD]
    words = [_joined([rows.data[c.field][i] for c in own if c.kind == "text"]) for i in range(rows.count)]
    numbers = [
        _joined([f"{c.name.replace('_', ' ')} {rows.data[c.field][i]:g}" for c in own if c.kind == "number"])
        for i in range(rows.count)
    ]
    return words, numbers


_NOT_TOLD = ("algebra", "verdict", "marks", "failed", "failures")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part not in ("", "none") and not part.endswith(" nan"))


def table_of(rows: Rows, source: ColumnDataSource, view: CDSView) -> DataTable:
    """The table: a click on a title sorts by it, numbers by their value."""
    return DataTable(
        source=source, view=view, columns=[_table_column(column, rows) for column in rows.columns], name="table",
        height=min(430, 56 + 24 * max(rows.count, 1)), row_height=24, sizing_mode="stretch_width",
        index_position=None, autosize_mode="none", selectable=True, reorderable=False,
        stylesheets=[InlineStyleSheet(css=_TABLE)],
    )  # fmt: skip


_TABLE = """
.slick-header-column { font-weight: 600; background: #f4f4f2; }
.slick-cell { font-variant-numeric: tabular-nums; }
.slick-row.odd { background: #fafaf8; }
.slick-row .slick-cell.selected { background: #fde9b8; }
"""


def _table_column(column: Column, rows: Rows) -> TableColumn:
    title = column.name.replace("_", " ")
    if column.kind == "number":
        formatter: Any = NumberFormatter(format="0[.]####", nan_format="", text_align="right")
        return TableColumn(field=column.field, title=title, formatter=formatter, width=26 + 7 * len(title))
    if column.kind == "metric":
        texts = rows.data[f"{column.field}_t"]
        longest = max((len(text) for text in texts), default=0)
        right = HTMLTemplateFormatter(template=f'<div style="text-align:right"><%- {column.field}_t %></div>')
        return TableColumn(field=column.field, title=title, formatter=right, width=_width(title, longest))
    longest = max((len(text) for text in rows.data[column.field]), default=0)
    return TableColumn(field=column.field, title=title, formatter=StringFormatter(), width=_width(title, longest))


def _width(title: str, longest: int) -> int:
    return min(320, max(26 + 7 * len(title), 18 + 7 * longest))


def panel_of(panel: str, source: ColumnDataSource, view: CDSView) -> Any:
    """One plot: a point for each row, its interval a bar; hovering tells the row, selecting marks it everywhere."""
    plot = figure(
        name=panel, height=340, sizing_mode="stretch_width",
        x_range=Range1d(start=0, end=1), y_range=Range1d(start=0, end=1),
        tools="pan,wheel_zoom,box_zoom,box_select,tap,reset", active_drag="box_select", toolbar_location="above",
        background_fill_color="#ffffff", border_fill_color="#ffffff", output_backend="canvas",
    )  # fmt: skip
    plot.toolbar.logo = None
    bars = plot.segment(
        x0=f"{panel}_x", x1=f"{panel}_x", y0=f"{panel}_lo", y1=f"{panel}_hi", source=source, view=view,
        line_color="colour", line_alpha=0.6, nonselection_line_alpha=0.15,
    )  # fmt: skip
    points = plot.scatter(
        x=f"{panel}_x", y=f"{panel}_y", marker="marker", size=9, source=source, view=view, color="colour",
        fill_alpha=0.55, line_alpha=0.95, line_width=1.4, nonselection_fill_alpha=0.12, nonselection_line_alpha=0.25,
        hover_fill_alpha=1.0, hover_line_color="#000000",
    )  # fmt: skip
    bars.level = "underlay"
    plot.add_layout(
        Span(name=f"{panel}_one", location=1, dimension="width", line_dash="dashed", line_color="#8a8a84")
    )
    told = ("words", "numbers", f"{panel}_yt", f"{panel}_xt", "verdict", "marks")
    tips = [("", f"@{field}") for field in told if field in source.data]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tips, mode="mouse", point_policy="snap_to_data"))
    for which, axis in (("x", plot.xaxis[0]), ("y", plot.yaxis[0])):
        state = ColumnDataSource({"log": [0], "unit": [""], "values": [[]]}, name=f"{panel}_{which}_axis")
        axis.ticker = CustomJSTicker(args={"state": state}, major_code=_MAJOR, minor_code=_MINOR)
        axis.formatter = CustomJSTickFormatter(args={"state": state}, code="return bench_page.label(tick, state)")
        axis.name = f"{panel}_{which}"
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "11px"
    plot.grid.grid_line_color = "#e6e6e3"
    return plot


_MAJOR = "return bench_page.ticks(cb_data.range.start, cb_data.range.end, state).major"
_MINOR = "return bench_page.ticks(cb_data.range.start, cb_data.range.end, state).minor"


def models(rows: Rows) -> dict[str, Model]:
    """What the page embeds, by name."""
    source = source_of(rows)
    shown = BooleanFilter(booleans=[True] * rows.count, name="shown")
    view = CDSView(filter=shown)
    made: dict[str, Model] = {panel: panel_of(panel, source, view) for panel in PANELS}
    made["table"] = table_of(rows, source, view)
    return made


def legend(rows: Rows) -> Sequence[tuple[str, str, str]]:
    """(name, colour, sign) of each look among the rows; a2 comes before a10."""
    names = sorted(set(rows.data["look"]), key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(9), name))
    colours, markers = style.looks(names)
    return [(name, colours[name], _SIGNS[markers[name]]) for name in names]


_SIGNS = {"o": "●", "D": "◆", "s": "■", "P": "✚", "^": "▲", "X": "✖", "v": "▼", "<": "⬟", ">": "◭", "h": "⬢",
          "p": "★", "*": "✱", "8": "⊕", "H": "⬢", "d": "◈"}  # fmt: skip
