"""One self-contained HTML file to explore a run: filters, two linked plots, a table, failures with their logs.

It loads nothing from anywhere (a content security policy says so to the browser), and everything that a run named is
escaped: the template escapes what it is given, Bokeh's cells are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ...metrics import METRICS
from ...store.folder import write_whole
from .failures import failures
from .rows import MOST, Rows, metrics_of, page_rows
from .run import Run, provenance, run_of

__all__ = ["NAME", "Run", "html", "run_of", "write"]

NAME = "page.html"
_HERE = Path(__file__).parent


def write(df: pd.DataFrame, folder: Path, run: Run, most: int = MOST) -> Path:
    """Write the page of a table beside its table.csv; run: what its folder knows besides."""
    path = folder / NAME
    table = next((name for name in ("table.csv", "table.parquet") if (folder / name).exists()), "")
    text = html(df, run, most, table)
    write_whole(path, lambda path: path.write_text(text, encoding="utf-8"))
    return path


def html(df: pd.DataFrame, run: Run, most: int = MOST, table: str = "table.csv") -> str:
    """The page as text. table: the file beside it that has every record, if there is one."""
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    from . import plots

    rows = page_rows(df, most)
    script, parts = components(plots.models(rows))
    # without the part that sets formulas, which is as large as all others together
    bokeh = Resources(mode="inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"], minified=True)
    failed, untold = failures(df, run.logs)
    template = Environment(autoescape=True, loader=FileSystemLoader(_HERE)).get_template("page.html")
    return template.render(
        title=run.title or run.folder.resolve().name,
        analysis=_paragraphs(run.analysis),
        table=table,
        run=run,
        rows=rows,
        provenance=provenance(df, run),
        legend=plots.legend(rows),
        spec=Markup(_spec(rows, run)),
        failures=failed,
        untold=untold,
        metrics=[METRICS[name] for name in metrics_of(df)],
        environments={name: json.dumps(own, indent=2) for name, own in run.environments.items()},
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        code=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        bokeh=Markup("\n".join(bokeh.js_raw)),
        script=Markup(script),
        parts={name: Markup(part) for name, part in parts.items()},
    )


def _paragraphs(text: str) -> Sequence[Any]:
    """The paragraphs of a sweep's analysis, what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = [str(escape(part)) for part in text.strip().split("\n\n") if part.strip()]
    return [Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", part)) for part in parts]


def _spec(rows: Rows, run: Run) -> str:
    """What page.js needs to know of the columns, as JSON that can stand in a script element."""
    numeric = [column for column in rows.columns if column.kind != "text"]
    spec = {
        "columns": [vars(column) for column in rows.columns],
        "panels": _panels([column.name for column in numeric]),
        "averaged": list(rows.averaged),
        "file": f"{run.folder.resolve().name}-shown.csv",
    }
    # the characters that could end the element, or begin another
    return json.dumps(spec).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _panels(names: Sequence[str]) -> dict[str, Any]:
    """The columns that the plots begin with: cost against size, and what is bought with it."""

    def first(*wanted: str) -> str:
        return next((name for name in wanted if name in names), names[0] if names else "")

    return {
        "left": {"x": first("n", "channels", "batch"), "y": first("latency_ratio", "latency", "macs", "params")},
        "right": {
            "x": first("params", "macs"),
            "y": first("accuracy", "sed_score", "mse", "latency", "peak_bytes", "numeric_error"),
        },
    }
