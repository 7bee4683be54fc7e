"""Widths: which channel counts an algebra of dimension n can carry. Integers only, no torch."""

from __future__ import annotations

from collections.abc import Iterable


def misfit(n: int, **widths: int) -> str | None:
    """Why n does not divide the named widths, with the nearest that fit; None when it divides them all."""
    parts = [f"{name}={width} (nearest: {_nearest(width, n)})" for name, width in widths.items() if width % n]
    return f"n={n} does not divide {', '.join(parts)}" if parts else None


def _nearest(width: int, n: int) -> str:
    below = width // n * n
    return f"{below} or {below + n}" if below else str(n)


def scaled(widths: Iterable[int], scale: float, n: int = 1) -> tuple[int, ...]:
    """Each width times ``scale``, rounded to the nearest positive multiple of n (unscaled widths stay)."""
    if scale == 1:
        return tuple(widths)
    return tuple(max(1, round(width * scale / n)) * n for width in widths)


def padded(channels: int, n: int) -> int:
    """The smallest multiple of n that holds ``channels``."""
    return -(-channels // n) * n


def transformer_widths(dim: int, heads: int, mlp_ratio: float, scale: float, n: int) -> tuple[int, int]:
    """The features of a token and of the perceptron, ``mlp_ratio`` times as many, each times ``scale``.

    The first is rounded to a multiple of n times heads, the second to one of n alone. Raises ValueError if heads does
    not divide dim, or n not dim / heads and the perceptron's width.
    """
    if dim % heads:
        raise ValueError(f"heads={heads} does not divide dim={dim} (nearest: {_nearest(dim, heads)})")
    (final,) = scaled((dim,), scale, n * heads)
    (hidden,) = scaled((round(dim * mlp_ratio),), scale, n)
    if reason := misfit(n, **{"dim / heads": final // heads, "dim * mlp_ratio": hidden}):
        raise ValueError(reason)
    return final, hidden
