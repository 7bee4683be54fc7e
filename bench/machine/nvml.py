"""The GPU's own instruments, through nvidia-ml-py: an optional package, and a driver that may not answer everything.

Where a figure is absent there is a reason in its place: ``AbsentError`` is raised, never a zero returned.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any


class AbsentError(Exception):
    """Something that this machine does not report; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: the library and its handle of the device."""

    library: Any
    handle: Any

    def ask(self, function: str, *args: Any) -> Any:
        """What ``nvml<function>`` of this device says; AbsentError where driver, device or library has no answer."""
        call: Callable[..., Any] | None = getattr(self.library, f"nvml{function}", None)
        if call is None:
            raise AbsentError(f"nvidia-ml-py has no nvml{function}: pip install --upgrade nvidia-ml-py")
        try:
            return call(self.handle, *args)
        except self.library.NVMLError as error:
            raise AbsentError(f"NVML reports no {function.removeprefix('DeviceGet')} here: {error}") from None


@cache
def gpu(uuid: str) -> Gpu:
    """The GPU of this UUID (torch's, so CUDA_VISIBLE_DEVICES is heeded); AbsentError where NVML cannot be had."""
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        raise AbsentError("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
    try:
        library.nvmlInit()
        return Gpu(library, library.nvmlDeviceGetHandleByUUID(name))
    except library.NVMLError as error:
        raise AbsentError(f"NVML does not answer for {name}: {error}") from None


def current_gpu() -> Gpu:
    """The GPU that torch computes on."""
    import torch

    return gpu(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
