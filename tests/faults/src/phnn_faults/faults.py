"""What can go wrong in a process. No torch but where memory lacks."""

import ctypes
import os
import signal
import subprocess
import sys
import time


def commit(fault: str, calls: int = 1) -> None:
    """Do what ``fault`` says; calls: how many calls there were, this one included."""
    if fault == "raise":
        raise ValueError("a fault")
    if fault == "raise_later" and calls > 5:  # when it is timed
        raise ValueError("a late fault")
    if fault == "exit":
        sys.exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "segv":
        ctypes.string_at(0)
    if fault == "hang":
        time.sleep(10_000)
    if fault == "allocate":
        import torch

        torch.empty(2**55)
    if fault == "bad_alloc":  # what the C++ library does with an exception that nobody catches
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
        os.abort()
    if fault == "orphan":
        subprocess.Popen(["sleep", "1000"])
        os.kill(os.getpid(), signal.SIGKILL)
