"""The compiled kernel for mixing on CPUs: built once for a machine by an explicit call, loaded where it is at hand.

``build`` needs a C++ compiler and takes 10 to 20 s, once; the library is kept in the user's cache folder, by its
source, the release of torch and the processor. ``load`` never compiles. Where there is none, layers mix with torch's
own operators (``phnn.mixing``): the same values, in several passes over memory instead of one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from .mixing import Mixing, memory_format_of
from .rank import cache_folder

_SOURCE = Path(__file__).parent / "csrc" / "mixing.cpp"
_LOADING = threading.Lock()  # the first calls may come from several threads
_LOADED: list[Path] = []  # torch takes an operator once in a process
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared")


@functools.cache
def load() -> bool:
    """Whether the kernel is at hand in this process; loads it if this machine has built it. Never compiles."""
    with _LOADING:
        library = _library()
        if not library.exists():
            return False
        if not _LOADED:
            try:
                torch.ops.load_library(library)
            except OSError:  # damaged, or of other system libraries: as good as none, and ``build`` replaces it
                return False
            _derive()
            _LOADED.append(library)
        return True


@functools.cache
def build() -> str | None:
    """Make sure that the kernel is built and loaded; the reason where it cannot be."""
    if load():
        return None
    if platform.system() != "Linux":
        return f"the mixing kernel is built on Linux only, not on {platform.system()}"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler: {compiler} is not installed"
    try:
        _compile(compiler, _library())
    except subprocess.CalledProcessError as error:
        return f"{compiler} failed: {error.stderr.strip().splitlines()[0] if error.stderr else error}"
    except OSError as error:
        return f"the kernel cannot be kept in {cache_folder()}: {error.strerror}"
    load.cache_clear()
    return None if load() else f"what {compiler} built cannot be loaded: {_library()}"


def _library() -> Path:
    identity = hashlib.sha256()
    for part in (_SOURCE.read_bytes(), torch.__version__.encode(), " ".join(_FLAGS).encode(), _processor()):
        identity.update(part)
    return cache_folder() / "kernels" / f"mixing-{identity.hexdigest()[:16]}.so"


def _processor() -> bytes:
    """What -march=native depends on: a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor().encode()
    named = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return "\n".join(sorted(named)).encode()


def _compile(compiler: str, target: Path) -> None:
    home = Path(torch.__file__).parent
    headers = [f"-I{home / 'include'}", f"-I{home / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    libraries = [f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu"]
    target.parent.mkdir(parents=True, exist_ok=True)
    # built in a folder of its own, then moved: a build that is killed leaves no half library
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        command = [compiler, *_FLAGS, abi, *headers, str(_SOURCE), *libraries, "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        built.replace(target)


def _derive() -> None:
    """Tell torch the kernel's shapes and its derivative, which is the mixing by the transposed matrix."""

    def fake(m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        size = (x.shape[0], x.shape[1] // m.shape[1] * m.shape[0], *x.shape[2:])
        return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        (m,) = ctx.saved_tensors
        return None, torch.ops.phnn.mixed(m.t(), gradient)

    torch.library.register_fake("phnn::mixed", fake)
    torch.library.register_autograd("phnn::mixed", backward, setup_context=setup)


def _mixed(m: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.ops.phnn.mixed(m, x)


def _into(m: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.ops.phnn.mixed_into(m, x, y)


KERNEL = Mixing(_mixed, _into)  # to be called after ``load`` or ``build`` alone
