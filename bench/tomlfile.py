"""A TOML file that people write, read and checked. Whatever is wrong in it is one line that names the key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from phnn.algebras import near_matches

from .errors import UsageError

M = TypeVar("M", bound=BaseModel)
Where = Sequence[int | str]  # the keys and numbers that lead to a value
Keys = Callable[[Where], Sequence[str]]  # to what is no key: those that it may be


def read(path: Path, model: type[M], noun: str, keys: Keys, absent: str) -> M:
    """The file as ``model``; noun: what the file is, for errors (a sweep); absent: what to say where there is none.

    Raises UsageError of one line.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no {noun} file {path}: {absent}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_error(error, noun, keys)}") from None


def first_error(error: ValidationError, noun: str, keys: Keys) -> str:
    """The first thing that is wrong, where, and how much more is."""
    first, *rest = error.errors(include_url=False, include_context=False)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"is no key of a {noun}" + near_matches(str(first["loc"][-1]), list(keys(first["loc"])))
    more = f" (and {len(rest)} more)" if rest else ""
    return " ".join(f"{where}: {message}{more}".removeprefix(": ").split())  # a key of TOML may hold line breaks
