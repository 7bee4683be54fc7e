"""Figures, each one function over the tidy table with a few options (``Spec``); none where the table has no rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from phnn.algebras import near_matches

from ...errors import UsageError
from ...metrics import METRICS
from ...store.folder import write_whole
from ...table.filters import where
from .. import style
from ..provenance import CREATOR, Provenance
from ..style import PLAIN, Preset
from . import against, heatmap, learning, machines, pareto, paths, roofline
from .layout import Drawing, pages
from .spec import Spec, builtin, load

__all__ = ["FORMATS", "KINDS", "Outcome", "Spec", "builtin", "draw", "load", "write"]

KINDS: dict[str, Callable[[pd.DataFrame, Spec], Drawing]] = {
    "against": against.draw,
    "heatmap": heatmap.draw,
    "paths": paths.draw,
    "machines": machines.draw,
    "roofline": roofline.draw,
    "learning": learning.draw,
    "pareto": pareto.draw,
}
FORMATS = ("pdf", "svg", "png")


@dataclass
class Outcome:
    """paths: what was written; notes: what was not drawn, and why."""

    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draw(df: pd.DataFrame, spec: Spec, preset: Preset = PLAIN) -> list[tuple[str, Figure]]:
    """The figures that ``spec`` makes of the table, with their names."""
    style.apply(preset)
    drawing = _drawing(df, spec)
    return [(name, make()) for name, make in pages(spec.name, drawing, preset, spec.width)] if drawing.panels else []


def _drawing(df: pd.DataFrame, spec: Spec) -> Drawing:
    asked = f"figure {spec.name!r}"
    if spec.x not in df:
        raise UsageError(f"{asked}: the table has no column {spec.x!r}{near_matches(spec.x, list(df.columns))}")
    if not pd.api.types.is_numeric_dtype(df[spec.x]):
        raise UsageError(f"{asked}: x is {spec.x!r}, which holds no numbers")
    for metric in spec.metrics if spec.kind != "learning" else ():  # whose quantities are in no column
        if metric not in METRICS and not (df["metric"] == metric).any():
            raise UsageError(f"{asked}: no metric {metric!r}{near_matches(metric, list(METRICS))}")
    return KINDS[spec.kind](where(df, spec.where, f"{asked}, where"), spec)


def write(
    df: pd.DataFrame,
    folder: Path,
    *,
    specs: Sequence[Spec] | None = None,
    preset: Preset = PLAIN,
    formats: Sequence[str] = FORMATS,
    provenance: Provenance | None = None,
    cores: int = 1,
) -> Outcome:
    """Draw each figure that the table has rows for, in each format, its provenance inside. specs: default all own.

    cores: of more than one, processes help where there are many pages; a script of yours then needs its
    ``if __name__ == "__main__"``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = Outcome()
    wanted: list[tuple[str, list[_Page]]] = []
    if unsound := int(((df["status"] == "ok") & ~np.isfinite(df["value"].astype(float))).sum()):
        done.notes.append(f"{unsound} rows say ok and hold no finite number: they are in no figure")
    for spec in builtin() if specs is None else specs:
        drawing = _drawing(df, spec)
        if not drawing.panels:
            if specs is not None:
                done.notes.append(f"{spec.name}: not drawn, the table has no {drawing.lacks} that it could show")
            continue
        if drawing.found > len(drawing.panels) and drawing.found > spec.panels:
            done.notes.append(
                f"{spec.name}: {len(drawing.panels)} of {drawing.found} panels are drawn; --filter narrows the "
                "table, a figure of your own can ask for more (docs/figures.md)"
            )
        made = pages(spec.name, drawing, preset, spec.width)
        told = provenance or Provenance()
        wanted.append((spec.name, [_Page(name, make, preset, folder, tuple(formats), told) for name, make in made]))
    written = iter(_written([page for _, own in wanted for page in own], cores))
    for name, own in wanted:
        done.paths += [path for _ in own for path in next(written)]
        _clear(folder, name, done.paths)
    return done


@dataclass(frozen=True)
class _Page:
    """A figure to be drawn and written, in this process or another."""

    name: str
    make: Callable[[], Figure]
    preset: Preset
    folder: Path
    formats: tuple[str, ...]
    provenance: Provenance

    def write(self) -> list[Path]:
        style.apply(self.preset)
        figure = self.make()
        paths = [self.folder / f"{self.name}.{kind}" for kind in self.formats]
        for kind, path in zip(self.formats, paths, strict=True):
            write_whole(path, partial(_save, figure, kind, self.provenance.metadata(kind, self.name)))
        plt.close(figure)
        return paths


_MANY = 12  # pages from which on the start of further processes pays


def _written(wanted: Sequence[_Page], cores: int) -> list[list[Path]]:
    """The paths of each page. Other processes begin with the first pages, this one with the last."""
    if cores < 2 or len(wanted) < _MANY:
        return [page.write() for page in wanted]
    # no fork: the libraries have threads
    with ProcessPoolExecutor(min(cores, 4) - 1, get_context("spawn")) as pool:
        futures = [pool.submit(page.write) for page in wanted]
        own = {at: wanted[at].write() for at in reversed(range(len(wanted))) if futures[at].cancel()}
        return [own[at] if at in own else future.result() for at, future in enumerate(futures)]


_CANVAS = {"pdf": FigureCanvasPdf, "svg": FigureCanvasSVG, "png": FigureCanvasAgg}


def _save(figure: Figure, kind: str, metadata: Mapping[str, str | None], path: Path) -> None:
    """Write a figure that is laid out already: savefig would draw it once more to find that nothing moved."""
    dpi = figure.dpi
    figure.dpi = 72 if kind != "png" else mpl.rcParams["savefig.dpi"]
    drawn = io.BytesIO()  # on a disk that is full a backend trips over its own half-written file
    try:
        getattr(_CANVAS[kind](figure), f"print_{kind}")(drawn, metadata=metadata)
    finally:
        figure.dpi = dpi
    path.write_bytes(drawn.getvalue())


def _clear(folder: Path, name: str, written: Sequence[Path]) -> None:
    """Remove the pages that this figure had when it was drawn last, where it has others now."""
    for kind in FORMATS:
        for path in [folder / f"{name}.{kind}", *folder.glob(f"{name}_*.{kind}")]:
            if path not in written and path.is_file() and CREATOR.encode() in path.read_bytes():
                path.unlink()
