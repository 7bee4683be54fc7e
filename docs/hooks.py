"""What the site needs besides its pages: a place for pages to come, and links that lead out of docs/.

In a repository ``../results/…/figure.png`` and ``../bench/sweeps/quick.toml`` are right as they are. In the site the
files that pages link to are taken along, below ``repository/``; folders are named without a link.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PLACE = "repository"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of nav what has no page yet."""
    config.nav = _existing(config.nav, Path(config.docs_dir))
    return config


def _existing(entries: list[Any], folder: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            if section := _existing(target, folder):
                kept.append({title: section})
        elif (folder / target).exists():
            kept.append(entry)
        else:
            _log.info("nav: no page %s yet", target)
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take along the files outside docs/ that a page links to."""
    for path in sorted({path for file in files.documentation_pages() for path in _linked(file)}):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, f"{PLACE}/{name}", abs_src_path=str(path)))
    return files


def _linked(file: File) -> list[Path]:
    page = Path(str(file.abs_src_path))
    if page.suffix != ".md":
        return []
    targets = [_target(page, match[3]) for match in _LINK.finditer(page.read_text(encoding="utf-8"))]
    return [path for path in targets if path is not None and path.is_file()]


def _target(page: Path, link: str) -> Path | None:
    """What a link of a page leads to; None for what is not in the repository."""
    path = Path(os.path.normpath(page.parent / link))
    return path if path.is_relative_to(ROOT) and path.exists() else None


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of docs/ into links within the site; one that leads nowhere is a warning, and ends the build."""
    source = Path(str(page.file.abs_src_path))

    def within(match: re.Match[str]) -> str:
        bang, text, link, anchor = match.groups()
        path = _target(source, link)
        if path is None:
            _log.warning("%s links to %s, which is not in the repository", page.file.src_uri, link)
            return text
        if path.is_dir():
            return text
        up = "../" * page.file.src_uri.count("/")
        return f"{bang}[{text}]({up}{PLACE}/{path.relative_to(ROOT).as_posix()}{anchor or ''})"

    return _LINK.sub(within, markdown)
