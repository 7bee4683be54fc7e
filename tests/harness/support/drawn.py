"""What the tests of figures draw, and how a figure has to look."""

from functools import cache

import pandas as pd
from boxes import beyond, overlapping, texts
from made_tables import ENVS, beside_paths, made, trained

from bench.report import figures
from bench.report.figures import Spec

FEW = (("real", 1), ("quaternion", 4), ("ph", 2), ("ph", 4), ("ph", 16))
ONE_MACHINE = {"env_id": ENVS[:1]}


@cache
def everything():
    """A table with rows for every kind of figure, failures and two machines included."""
    layers = made(6000, FEW, subject=("conv2d",), batch=(1, 32), dtype=("float32",), threads=(2,), size=(8,))
    paths = beside_paths(
        made(
            300,
            FEW,
            subject=("linear",),
            phase=("infer",),
            batch=(1,),
            channels=(512,),
            dtype=("float32",),
            threads=(2,),
            size=(8,),
            **ONE_MACHINE,
        )
    )
    return pd.concat([layers, paths, trained()], ignore_index=True)


def shown(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def one(df, **spec):
    """The only figure of a spec."""
    ((_, figure),) = figures.draw(df, Spec(name="one", **spec))
    return figure


def check_looks(figure, preset):
    width, height = figure.get_size_inches()
    assert width in (preset.column, preset.page)
    assert height <= preset.depth
    assert overlapping(figure) == []
    assert beyond(figure) == []
    sizes = {round(text.get_fontsize(), 2) for text, _ in texts(figure)}
    assert min(sizes) >= 6, "no text below 6 points at printed size"
    assert max(sizes) <= preset.text
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axis.get_tightbbox()) for axis in shown(figure)), "the legend lies over a panel"
