"""The site builds without a warning, every page has a place in it, and every file that a page links to is there."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.metrics import METRICS
from bench.table.records import COLUMNS
from bench.task.protocol import Status

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def built(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """The site without the tutorials' figures, which take minutes: ``make docs`` has them."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--config-file",
            str(config),
            "--site-dir",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "EXECUTE_TUTORIALS": "false", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = built(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_and_tutorial_is_in_the_site_and_in_its_navigation(site):
    pages = [page.relative_to(DOCS) for page in (*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.py"))]
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in pages:
        name = str(page.with_suffix(".html"))
        assert (site / name).exists()
        assert f'href="{name}"' in home or name == "index.html", f"{name} is in no menu"


def test_links_and_figures_lead_somewhere_within_the_site(site):
    """Those that lead out of docs/ too: the site is read where the repository is not."""
    for page in site.rglob("*.html"):
        if page.is_relative_to(site / "repository"):
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8")):
            target = link.partition("#")[0].partition("?")[0]
            if target and not re.match(r"[a-z]+:|//", target) and page.name != "404.html":
                assert (page.parent / target).exists(), f"{page.relative_to(site)}: {link}"


def test_pages_load_nothing_from_elsewhere(site):
    """A page about private results may be read without a network, and tells nobody that it is."""
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(\w+:[^"]+)"', text)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(\w+:[^"]+)"', text)
        assert not [link for link in loaded if not link.startswith("data:")], page.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("# On a GPU\n", "# On a GPU\n\n[How](methodologie.md)\n"), "methodologie.md"),
        (("../bench/sweeps/gpu.toml", "../bench/sweeps/gpus.toml"), "gpus.toml"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path, change, words):
    shutil.copytree(DOCS, tmp_path / "docs")
    for beside in ("bench", "results", "tests"):
        (tmp_path / beside).symlink_to(ROOT / beside)
    page = tmp_path / "docs" / "gpu.md"
    page.write_text(page.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    done = built(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert words in warning


def test_a_page_to_come_has_a_place_in_the_navigation_and_is_left_out_until_then(tmp_path):
    hooks = runpy.run_path(str(DOCS / "hooks.py"))
    (tmp_path / "here.md").write_text("# here")
    nav = [{"Here": "here.md"}, {"Later": "later.md"}, {"Part": [{"Later": "later.md"}, {"Here": "here.md"}]}]
    assert hooks["_existing"](nav, tmp_path) == [{"Here": "here.md"}, {"Part": [{"Here": "here.md"}]}]
    assert hooks["_existing"]([{"Part": [{"Later": "later.md"}]}], tmp_path) == []


# ------------------------------------------------------------------------------------------- what the pages promise


def test_the_page_about_results_explains_every_column_status_mark_and_metric():
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    coded = set(re.findall(r"`([^`\s]+)`", text))
    assert set(COLUMNS) <= coded, sorted(set(COLUMNS) - coded)
    assert set(METRICS) <= coded
    statuses = {"skipped", *Status.__args__}
    assert statuses <= coded, sorted(statuses - coded)
    assert {"noisy", "drifting", "contended", "throttled"} <= coded
    assert all(verdict in text for verdict in ("FASTER", "SLOWER", "SAME", "CAN'T TELL"))


def test_the_numbers_in_the_pages_are_those_of_the_reference_results():
    """Whatever is between the marks was put there by ``make docs-figures``."""
    numbers = runpy.run_path(str(DOCS / "fill.py"))
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        assert numbers["filled"](page) == text, f"{page.name} is not up to date: make docs-figures"
