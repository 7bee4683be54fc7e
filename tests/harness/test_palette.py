"""Colours and markers: told apart on paper, in grey, by colour-blind readers, and the same in every figure."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest

from bench.report import style
from phnn.algebras import iter_named

ALGEBRAS = [algebra.name for algebra in iter_named()]
MAIN = ("real", "slim real", "quaternion", "ph", "complex", "octonion")

# Machado, Oliveira, Fernandes, IEEE TVCG 15, 2009: what a reader without one kind of cone sees, of linear RGB
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def lab(colour, matrix=None):
    """CIE L*a*b* of a colour, as seen through ``matrix``."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if matrix is not None:
        linear = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(np.maximum(xyz / np.array([0.9505, 1.0, 1.089]), 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", [*ALGEBRAS, "ph", "slim real", "a_plug_in"])
def test_a_line_stands_out_from_white_paper_in_colour_and_in_grey(name):
    assert 1.05 / (style.luminance(style.look(name).colour) + 0.05) >= 3


def test_no_two_algebras_share_colour_and_marker_and_most_share_neither():
    looks = {name: style.look(name) for name in {*ALGEBRAS, "ph", "slim real"}}
    assert len({(own.colour, own.marker, own.fill) for own in looks.values()}) == len(looks)
    assert len({own.colour for own in looks.values()}) == len(looks)
    in_grey = {(own.marker, own.fill) for own in looks.values()}
    assert len(in_grey) == len(looks), "in grey the markers alone tell them apart"


def test_colour_blind_readers_tell_the_main_algebras_apart():
    for kind, matrix in BLIND.items():
        for a, b in itertools.combinations(MAIN, 2):
            distance = np.linalg.norm(lab(style.look(a).colour, matrix) - lab(style.look(b).colour, matrix))
            assert distance > 12, (kind, a, b, distance)


def test_the_colour_of_an_algebra_does_not_depend_on_its_neighbours():
    assert style.looks(["ph", "a_plug_in"])[0]["a_plug_in"] == style.looks(["a_plug_in"])[0]["a_plug_in"]
    assert {style.look("ph", n).colour for n in (2, 3, 4, 8, 16, 32)} == {style.look("ph").colour}
    assert len({style.look("ph", n).marker for n in (2, 3, 4, 8, 16)}) == 5


def test_thirty_variants_all_look_different():
    wanted = [("real", None), *(("ph", n) for n in range(1, 30))]
    assert len(set(style.told_apart(wanted))) == 30
    assert len(set(style.told_apart([(f"plug_in_{i}", None) for i in range(30)]))) == 30
