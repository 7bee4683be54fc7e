"""A GPU that is a clock and a log: what runs on it takes the seconds that the test says, and no real time passes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field


@dataclass
class FakeGpu:
    """What ``bench.machine.devices.Cuda`` asks of ``torch.cuda``. Host and device have a clock each; launching is cheap.

    log: what the device ran, in order; recorded: launches of the graph that is being captured.
    """

    host: float = 0.0
    free_at: float = 0.0  # when the device has run all that was launched
    log: list[str] = field(default_factory=list)
    recorded: list | None = None
    cold: bool = True
    cache: int = 1 << 20
    launch_seconds: float = 1e-5

    def clock(self) -> float:
        return self.host

    def kernel(self, name: str, warm: float, cold: float | None = None):
        """A call that launches one kernel; cold: its seconds after a sweep of the cache."""

        def run() -> None:
            self.free_at += (cold or warm) if self.cold else warm
            self.cold = name == "sweep"
            self.log.append(name)

        def launch() -> None:
            self.host += self.launch_seconds
            if self.recorded is not None:
                self.recorded.append(run)
                return
            self.free_at = max(self.free_at, self.host)
            run()

        return launch

    def full(self, shape, value, device):
        assert device == "cuda"
        gpu = self

        class Buffer:
            bytes = 4 * shape[0]
            zero_ = staticmethod(gpu.kernel("sweep", 5e-4))

        self.buffer = Buffer
        return Buffer

    # ------------------------------------------------------------------------------ the interface of torch.cuda

    def synchronize(self) -> None:
        assert self.recorded is None, "a capture must not wait"
        self.host = max(self.host, self.free_at)

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, device):
        return type("Properties", (), {"L2_cache_size": self.cache})

    def current_stream(self):
        return Stream(self)

    def stream(self, stream):
        return contextlib.nullcontext()

    @property
    def Stream(self):
        return lambda: Stream(self)

    @property
    def Event(self):
        return lambda enable_timing: Event(self, enable_timing)

    @property
    def CUDAGraph(self):
        return lambda: Graph(self)

    @contextlib.contextmanager
    def graph(self, graph):
        self.recorded = []
        yield
        graph.launches, self.recorded = self.recorded, None


@dataclass
class Stream:
    gpu: FakeGpu

    def wait_stream(self, other) -> None: ...


@dataclass
class Event:
    gpu: FakeGpu
    timing: bool
    at: float | None = None

    def record(self) -> None:
        # the device comes to it after all that was launched before
        self.at = max(self.gpu.free_at, self.gpu.host)

    def synchronize(self) -> None:
        self.gpu.host = max(self.gpu.host, self.gpu.free_at)

    def elapsed_time(self, end: Event) -> float:
        assert self.timing
        return (end.at - self.at) * 1e3


@dataclass
class Graph:
    gpu: FakeGpu
    launches: list = field(default_factory=list)

    def replay(self) -> None:
        self.gpu.host += self.gpu.launch_seconds
        self.gpu.free_at = max(self.gpu.free_at, self.gpu.host)
        for run in self.launches:
            run()
