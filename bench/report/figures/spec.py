"""A figure as a few lines of TOML, checked. The project's own figures are in builtin.toml, in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ... import tomlfile
from ...errors import UsageError

KIND = Literal["against", "heatmap", "paths", "machines", "roofline", "learning", "pareto"]


class Spec(BaseModel):
    """One figure; docs/figures.md shows the keys.

    metrics: a panel for each; x: the numeric column along the axis (against, heatmap); hue: a line for each algebra
    or each variant (default: algebra against n, else variant); where: column → value or list of values; least: values
    of x that a panel must have at least; width: column, page, or what the panels need.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: KIND
    metrics: list[str] = []
    x: str = "n"
    hue: Literal["auto", "algebra", "variant"] = "auto"
    scale: Literal["auto", "linear", "log"] = "auto"
    where: dict[str, Any] = {}
    least: int = Field(default=2, ge=1)
    width: Literal["auto", "column", "page"] = "auto"
    panels: int = Field(default=16, ge=1, le=200)

    def only(self, default: Sequence[str]) -> list[str]:
        """The metrics asked for, or the usual ones of the kind."""
        return self.metrics or list(default)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    figure: list[Spec] = Field(min_length=1)


def load(path: Path) -> list[Spec]:
    """The figures of a TOML file. A UsageError of one line names the key that is wrong."""
    found = tomlfile.read(path, _File, "figure", _keys_beside, "docs/figures.md shows one").figure
    names = [spec.name for spec in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path}: two figures are named {twice!r}: they would be one file")
    return found


def _keys_beside(loc: tomlfile.Where) -> list[str]:
    return list(Spec.model_fields) if len(loc) > 1 else ["figure"]


def builtin() -> list[Spec]:
    """The project's own figures."""
    return load(Path(__file__).parent / "builtin.toml")
