"""Puts the numbers and figures of results/reference/ into README and docs, so that none is typed by hand.

    <!-- table: SWEEP HEADING -->   … <!-- end -->    a section of that sweep's summary.md
    <!-- figure: SWEEP NAME -->     … <!-- end -->    one of its figures
    <!-- text: FOLDER FILE -->      … <!-- end -->    what a command wrote there: Markdown as it is, .txt as printed
    <!-- list: bench metrics -->    … <!-- end -->    the table of metrics, from the code
    <!-- finding: SWEEP NAME -->    … <!-- end -->    what docs/findings.py makes of that sweep's table

``make docs-figures`` runs it; ``--check`` only says whether anything would change.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
_ABSENT = "*Not measured yet.*"
_BLOCK = re.compile(r"(<!-- (table|figure|text|list|finding): (\S+) (.+?) -->\n).*?(<!-- end -->)", re.S)


def folder_of(sweep: str) -> Path:
    """The reference folder of a sweep; the CPU's where there are several."""
    found = sorted((REFERENCE / sweep).glob("*/table.parquet"))
    if not found:
        sys.exit(f"no reference results of sweep {sweep!r} in {REFERENCE}")
    return found[0].parent


def table(sweep: str, heading: str) -> str:
    """The section of a summary under ``heading``, without the heading; a line that says so while there is none."""
    if not any((REFERENCE / sweep).glob("*/table.parquet")):
        return _ABSENT
    text = (folder_of(sweep) / "summary.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in text.split("### ")[1:]}
    if heading not in sections:
        sys.exit(f"{folder_of(sweep) / 'summary.md'} has no section {heading!r}: it has {', '.join(sections)}")
    return sections[heading]


def text(folder: str, name: str) -> str:
    """A file anywhere below a reference folder; a line that says so while nothing has measured it."""
    found = sorted((REFERENCE / folder).rglob(name))
    if not found:
        return _ABSENT
    content = found[0].read_text(encoding="utf-8").strip()
    return f"```text\n{content}\n```" if found[0].suffix == ".txt" else content


def metrics() -> str:
    """The metrics as a table: what a person reads of them in ``bench.metrics``."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from bench.metrics import METRICS

    head = "| metric | unit | better | meaning |\n|---|---|---|---|"
    rows = [f"| `{m.name}` | {m.unit} | {m.better} | {m.doc.replace('|', chr(92) + '|')} |" for m in METRICS.values()]
    return "\n".join([head, *rows])


def finding(sweep: str, name: str) -> str:
    """A table of the findings; a line that says so while nothing has measured it."""
    if not any((REFERENCE / sweep).glob("*/table.parquet")):
        return _ABSENT
    import pandas as pd

    known = runpy.run_path(str(Path(__file__).with_name("findings.py")))["FINDINGS"]
    if name not in known:
        sys.exit(f"docs/findings.py has no {name!r}: it has {', '.join(known)}")
    return str(known[name](pd.read_parquet(folder_of(sweep) / "table.parquet")))


def filled(path: Path) -> str:
    """The text of a document with every block filled."""

    def block(match: re.Match[str]) -> str:
        begin, kind, sweep, name, end = match.groups()
        if kind == "table":
            return f"{begin}{table(sweep, name)}\n{end}"
        if kind == "list":
            return f"{begin}{metrics()}\n{end}"
        if kind == "finding":
            return f"{begin}{finding(sweep, name)}\n{end}"
        if kind == "text":
            return f"{begin}{text(sweep, name)}\n{end}"
        file = folder_of(sweep) / "figures" / f"{name}.png"
        if not file.exists():
            sys.exit(f"{path}: {file} does not exist: make figures, or name another")
        image = os.path.relpath(file, path.parent)
        return f"{begin}![{name.replace('_', ' ')}]({image})\n{end}"

    return _BLOCK.sub(block, path.read_text(encoding="utf-8"))


def main(check: bool) -> None:
    """Fill README.md and docs/*.md, or with ``check`` exit with 1 if one is not up to date."""
    stale = [
        path
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        if filled(path) != path.read_text(encoding="utf-8")
    ]
    if check:
        sys.exit(
            f"not up to date, run make docs-figures: {', '.join(str(p.relative_to(ROOT)) for p in stale)}"
            if stale
            else 0
        )
    for path in stale:
        path.write_text(filled(path), encoding="utf-8")


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
