"""The examples of the documentation do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "docs" / f"{name}.md" for name in ("algebras-and-layers", "conversion", "index", "results")),
    ROOT / "README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where a reader is
    blocks = list(re.finditer(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        # as many lines before it as on the page, so that an error names the page's line
        line = page.read_text(encoding="utf-8")[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), names)


def test_the_page_names_all_layers_and_algebras() -> None:
    import phnn
    from phnn.algebras import aliases, iter_named

    text = PAGES[0].read_text(encoding="utf-8")
    expanded = re.sub(r"(\w+)1d/2d/3d", r"\g<1>1d \g<1>2d \g<1>3d", text)
    words = set(re.findall(r"\w+", expanded))
    layers = {name for name in phnn.__all__ if name.startswith(("PH", "Quaternion"))}
    assert layers <= words
    assert {a.name for a in iter_named()} | set(aliases()) <= words
