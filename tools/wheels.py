"""Fills a folder with the wheels that a machine without a package registry lacks: it has torch, and perhaps more.

    python tools/wheels.py wheels --have freeze.txt --python 3.12 --platform manylinux_2_28_x86_64

pip resolves what the project needs, held to what is there already (``python3 -m pip freeze`` of that machine); torch
and what comes with it are left out, as is all that is there. What is published as source alone is built here. Beside
the wheels lies requirements.txt, which names them:

    python3 -m pip install --no-index --no-deps --find-links wheels -r wheels/requirements.txt
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# too large to carry, and bound to the driver: what such a machine is sure to have
TORCH = re.compile(r"torch|torchvision|triton|nvidia-(?!ml-py).+|cuda-.+")

Pip = Callable[..., str]


def pip(*arguments: str) -> str:
    """What pip prints; where it fails, its own last words end the program."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: no reason given"]
        sys.exit(f"pip {arguments[0]} failed: {said[0].removeprefix('ERROR: ')}")
    return done.stdout


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(freeze: str) -> dict[str, str]:
    """Versions by name, of the lines ``name==version``; what came from elsewhere has no version to hold to."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", freeze, re.M)
    return {canonical(name): version for name, version in found}


def requirements(extras: Sequence[str]) -> list[str]:
    """What the project needs beside torch, and what its ``extras`` do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(optional)):
        sys.exit(f"no extra {unknown[0]!r}: choose from {', '.join(optional)}")
    found = [*project["dependencies"], *(need for extra in extras for need in optional[extra])]
    own = canonical(project["name"])
    return [need for need in found if (name := _name_of(need)) != own and not TORCH.fullmatch(name)]


def _name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return canonical(match[0]) if match else ""


def source_only(report: dict[str, Any]) -> dict[str, str]:
    """Versions by name of what pip would install, and would have to build first."""
    return {
        canonical(item["metadata"]["name"]): item["metadata"]["version"]
        for item in report["install"]
        if not item["download_info"]["url"].endswith(".whl")
    }


def lacking(report: dict[str, Any], have: dict[str, str]) -> list[str]:
    """Of what pip would install, name==version of what is not there and does not come with torch."""
    found = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in report["install"]}
    return sorted(
        f"{name}=={version}"
        for name, version in found.items()
        if have.get(name) != version and not TORCH.fullmatch(name)
    )


def fill(
    folder: Path, needs: Sequence[str], have: dict[str, str], target: Sequence[str], run: Pip = pip
) -> list[str]:
    """Put the wheels into ``folder``, with their list; name==version of each. target: pip's options for a machine.

    For another machine pip takes nothing but wheels: what has none is found by resolving for this one, and built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resolve = ("install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-")
    sources = source_only(json.loads(run(*resolve, *needs)))
    pins = [f"{name}=={have.get(name, version)}" for name, version in sorted(sources.items())]
    if pins:
        run("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), *pins)
    built = [path for path in sorted(folder.glob("*.whl")) if canonical(path.name.split("-")[0]) in sources]
    if target and (bound := [path.name for path in built if not path.stem.endswith("-none-any")]):
        sys.exit(f"{bound[0]} was built for this machine, not for that one: run this where Python is the same")
    only = ("--only-binary=:all:", "--find-links", str(folder), *target)
    with tempfile.TemporaryDirectory() as scratch:
        held = Path(scratch) / "have.txt"
        held.write_text("".join(f"{name}=={version}\n" for name, version in have.items()), encoding="utf-8")
        # pip install takes another machine's options with a target alone, though nothing is installed, and would hold
        # what it finds for that Python to this one's version; pip download, below, holds it to the right one
        elsewhere = ("--constraint", str(held), "--target", str(Path(scratch) / "site"), "--ignore-requires-python")
        carried = lacking(json.loads(run(*resolve, *only, *elsewhere, *needs)), have)
    if carried:
        run("download", "--quiet", "--no-deps", "--dest", str(folder), *only, *carried)
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in carried), encoding="utf-8")
    return carried


def older(platform: str) -> list[str]:
    """A platform and those whose wheels it runs as well: pip takes each by its exact name alone."""
    match = re.fullmatch(r"manylinux_2_(\d+)_(.+)", platform)
    if match is None:
        return [platform]
    minor, machine = int(match[1]), match[2]
    named = [f"manylinux{year}_{machine}" for year, since in ((2014, 17), (2010, 12), (1, 5)) if since <= minor]
    return [*(f"manylinux_2_{n}_{machine}" for n in range(minor, 4, -1)), *named]


def main(arguments: Sequence[str] | None = None, run: Pip = pip) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--have", type=Path, help="what `python3 -m pip freeze` printed on that machine")
    parser.add_argument("--python", help="its version of Python, such as 3.12, if it is not that of this one")
    parser.add_argument("--platform", action="append", help="its platform, such as manylinux_2_28_x86_64; repeatable")
    parser.add_argument("--extra", action="append", default=[], help="test, docs, …: what these extras need as well")
    chosen = parser.parse_args(arguments)
    try:
        have = installed(chosen.have.read_text(encoding="utf-8")) if chosen.have else {}
    except OSError as error:
        sys.exit(f"--have {chosen.have} cannot be read: {error.strerror}")
    target = [f"--python-version={chosen.python}"] if chosen.python else []
    target += [f"--platform={name}" for platform in chosen.platform or [] for name in older(platform)]
    listed = fill(chosen.folder, requirements(chosen.extra), have, target, run)
    size = sum(path.stat().st_size for path in chosen.folder.glob("*.whl")) / 2**20
    sys.stdout.write(f"{chosen.folder}: {len(listed)} packages, {size:.0f} MiB in all, listed in requirements.txt\n")


if __name__ == "__main__":
    main()
