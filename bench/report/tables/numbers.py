"""Numbers as a person reads them: as many digits as the interval supports, and no more."""

from __future__ import annotations

import math
from typing import Any

_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))}
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

SKEWED = 0.3  # from this relative half-width on, an interval is told by its ends: ± would say that it is symmetric


_NO_SPREAD = 1e-9  # of a value: what is left of equal numbers by rounding


def readable(value: Any, unit: str) -> str:
    """A number with its unit and a prefix of its own."""
    number = float(value)
    if unit in _SCALES:
        scale, name = next((s for s in _SCALES[unit] if number >= s[0]), _SCALES[unit][-1])
        return f"{number / scale:.3g} {name}"
    if 0 < abs(number) < 1e-2:
        return f"{number:.1e}"
    scale, name = next((s for s in _COUNTS if number >= s[0]), (1.0, ""))
    return f"{number / scale:.4g}{' ' + name if name else ''}"


def decimals(half: float) -> int:
    """The decimal places that an interval of this half-width supports (negative: tens, hundreds).

    Two significant digits of the half-width where they are below 3.55, else one. Source: the rounding rule of the
    Particle Data Group, Review of Particle Physics, introduction, section 5.3.
    """
    exponent = math.floor(math.log10(half))
    lead = half / 10**exponent
    return (1 if lead < 3.55 else 0) - exponent


def _places(value: float, half: float) -> int:
    """Those places, but none beyond five significant digits of the value: a narrow interval can be luck."""
    most = 4 - math.floor(math.log10(abs(value))) if value else 9
    return min(decimals(half), most)


def plus_minus(value: float, half: float) -> str:
    """value ± half to the digits that half supports; three digits of a value without an interval."""
    if not math.isfinite(half):  # one observation
        return significant(value, 3)
    if half <= _NO_SPREAD * abs(value):
        return f"{significant(value, 4)} ± 0"
    places = _places(value, half)
    return f"{_rounded(value, places)} ± {_rounded(max(half, 10.0**-places), places)}"


def interval(value: float, lo: float, hi: float) -> str:
    """value ± half its interval, or value [lo, hi] where that is so wide that it cannot be symmetric."""
    half = (hi - lo) / 2
    if not math.isfinite(half) or half <= SKEWED * abs(value):
        return plus_minus(value, half)
    places = _places(value, half)
    return f"{_rounded(value, places)} [{_rounded(lo, places)}, {_rounded(hi, places)}]"


def supported(value: float, lo: float, hi: float) -> tuple[float, float, float]:
    """The same three numbers, rounded to the digits that the interval supports: for a CSV."""
    half = (hi - lo) / 2
    if not math.isfinite(half) or half <= _NO_SPREAD * abs(value):
        return float(significant(value, 6).replace(",", "")), lo, hi
    places = _places(value, half)
    return round(value, places), round(lo, places), round(hi, places)


def significant(value: float, digits: int) -> str:
    """A number to so many significant digits, without an exponent where it is between 0.001 and ten million."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: float, places: int) -> str:
    return f"{round(value, places):,.{max(0, places)}f}"
