"""A sweep file: typed axes, and how they are measured, checked key by key. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import tomlfile
from ..errors import UsageError
from ..launch.profile import Bundle, Launch, Place, Profile
from ..study.recipe import Recipe

_WEEK = 7 * 86400.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Protocol(_Strict):
    """How a sweep is timed.

    processes: fresh processes that repeat each timing task; precision: relative half-width of the median's interval
    at which a process stops; budget: seconds that a process may measure; placements: how often at least it builds
    its subjects anew meanwhile, so that where they come to lie in memory is averaged; min_block: seconds that a block
    lasts at least; timeout: seconds after which a task is killed.
    """

    processes: int = Field(default=5, ge=2, le=1000)
    precision: float = Field(default=0.01, gt=0)
    budget: float = Field(default=10.0, gt=0, le=_WEEK)
    placements: int = Field(default=4, ge=1, le=1000)
    min_block: float = Field(default=1e-3, gt=0, le=_WEEK)
    timeout: float = Field(default=900.0, gt=0, le=_WEEK)

    @property
    def of_timing(self) -> dict[str, Any]:
        """What makes a timing another one. One placement was all there was once, and needs no name."""
        kept = self.model_dump(include={"precision", "budget", "min_block"})
        return kept if self.placements == 1 else {**kept, "placements": self.placements}


class Quick(_Strict):
    """What another form of an entry, for a first look, has in the place of its own: axes, keys of the recipe."""

    axes: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    skip: bool = False


class Entry(_Strict):
    """One product of axes: every combination of the axes' values is a case of each subject.

    priority: the greater, the earlier it is measured, and the sooner it gets a share of ``--time-budget``.
    """

    subject: str | list[str]
    metrics: list[str] = Field(min_length=1)
    axes: dict[str, Any] = {}
    controls: list[Literal["slim"]] = []
    recipe: Recipe | None = None
    quick: Quick = Quick()
    priority: int = Field(default=0, ge=-1000, le=1000)

    @model_validator(mode="after")
    def _quick_is_sound(self) -> Self:
        self.shortened()
        return self

    def shortened(self) -> Entry:
        """The entry of the quick form."""
        recipe = self.recipe
        if self.quick.recipe:
            budget = {"epochs": 0, "steps": 0} if {"epochs", "steps"} & set(self.quick.recipe) else {}
            try:
                recipe = Recipe(**{**(recipe or Recipe()).model_dump(), **budget, **self.quick.recipe})
            except ValidationError as error:  # nested in another one it would be several lines
                raise ValueError(f"quick.recipe: {tomlfile.first_error(error, 'sweep', _keys_of_recipe)}") from None
        return self.model_copy(update={"axes": {**self.axes, **self.quick.axes}, "recipe": recipe, "quick": Quick()})


class Sweep(_Strict):
    """A sweep file. device: the kind of hardware that it is meant for; launch: where on a cluster that is found.

    name: also that of the folder for its results; plugins: code ("module:attribute") that offers its subjects and is
    installed nowhere: it is loaded only if the user names it too.
    """

    format: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    title: str
    analysis: str = ""
    device: Literal["cpu", "cuda"] = "cpu"
    protocol: Protocol = Protocol()
    launch: Launch = Launch()
    plugins: list[str] = []
    form: Literal["whole", "quick"] = "whole"
    cases: list[Entry] = Field(min_length=1)

    @property
    def quick(self) -> Sweep:
        """The short form, under a name of its own: what it measures is never mixed with what the sweep does."""
        entries = [entry.shortened() for entry in self.cases if not entry.quick.skip]
        if entries == self.cases:
            raise UsageError(f"sweep {self.name!r} has no quick form: none of its entries has a [cases.quick]")
        return self.model_copy(update={"name": f"{self.name}-quick", "cases": entries, "form": "quick"})


def load(path: Path) -> Sweep:
    """Read and check a sweep file."""
    return tomlfile.read(path, Sweep, "sweep", _keys_beside, "the project's own are in bench/sweeps/")


def _keys_beside(loc: tomlfile.Where, root: type[BaseModel] | None = None) -> list[str]:
    parents: dict[int | str, type[BaseModel]] = {
        "protocol": Protocol, "cases": Entry, "recipe": Recipe, "quick": Quick,
        "launch": Launch, "slurm": Profile, "hardware": Place, "bundle": Bundle,
    }  # fmt: skip
    model = next((parents[part] for part in reversed(loc[:-1]) if part in parents), root or Sweep)
    return [field.alias or name for name, field in model.model_fields.items()]


def _keys_of_recipe(loc: tomlfile.Where) -> list[str]:
    return _keys_beside(["recipe", *loc])


def own_sweeps() -> list[Path]:
    """The sweep files that come with the project."""
    return sorted((Path(__file__).parents[1] / "sweeps").glob("*.toml"))
