"""A stand-in for nvidia-ml-py's module: a GPU whose instruments the test sets, and which may lack some."""

from types import SimpleNamespace


class NVMLError(Exception):
    """What the real module raises for anything that a device does not report."""


class FakeNvml:
    """answers: function without its prefix → value, or an exception to raise; others raise as unsupported."""

    NVMLError = NVMLError

    def __init__(self, **answers):
        self.answers = answers

    def nvmlInit(self): ...

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return f"handle of {uuid}"

    def __getattr__(self, name):
        def ask(handle, *args):
            answer = self.answers.get(name.removeprefix("nvmlDeviceGet"), NVMLError("Not Supported"))
            if isinstance(answer, Exception):
                raise answer
            return answer(*args) if callable(answer) else answer

        return ask


def processes(*pids):
    return [SimpleNamespace(pid=pid) for pid in pids]
