"""Cases as a sweep would ask for them: shapes that are not given are those of the registry."""

from bench.plan.case import Case
from phnn.registry import find


def case(subject, algebra, n=1, phase="infer", path="auto", dtype="float32", **shape):
    spec = find(subject)
    path = "none" if algebra == "real" else path
    full = tuple(sorted({**spec.shape, **shape}.items()))
    return Case(subject, spec.kind, algebra, n, full, phase=phase, path=path, dtype=dtype)


LINEAR = {"batch": 16, "channels": 32, "out_channels": 64}
CONV = {"batch": 2, "channels": 8, "out_channels": 16, "size": 6}
