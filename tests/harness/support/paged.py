"""A small table with everything that a page has to show: a failure, a NaN, a mark, a name that would be code."""

import functools
import json

from bench.metrics import METRICS
from bench.report.page.run import Log, Run
from bench.table import frames
from bench.table.records import COLUMNS

HOSTILE = '<img src=x onerror="window.hit=1"> & </script><script>window.hit=2</script> =1+1 {{7*7}} ]]> %{}$_^'


def row(case, metric, value, **more):
    base = dict.fromkeys(COLUMNS) | {
        "subject": "conv2d", "twin": "", "kind": "layer", "variant": "real", "algebra": "real", "n": 1,
        "shape": json.dumps({"batch": 8, "channels": 32}), "batch": 8, "channels": 32, "seed": 0, "phase": "infer",
        "timer": "host_warm", "compile": "none", "dtype": "float32", "precision": "none", "path": "none", "rank": 0,
        "threads": 0, "memory_format": "contiguous", "control": "none", "data": "none", "recipe": "{}",
        "metric": metric, "unit": METRICS[metric].unit, "value": value, "samples": 8, "processes": 3, "status": "ok",
        "reason": "", "marks": "", "path_built": "dense", "details": "{}", "case_id": case, "group_id": "g",
        "env_id": "cpu-test", "code_rev": "c", "schema": 1, "started": "2026-01-01T10:00:00+00:00",
    }  # fmt: skip
    return base | more


def records():
    return _records().copy()


@functools.cache
def _records():
    """Two subjects, four variants, two widths; one failure, one NaN, one variant with a hostile name."""
    lines = []
    variants = [("real", "real", 1), ("quaternion", "quaternion", 4), ("ph n=4", "ph", 4), (HOSTILE, "ph", 2)]
    for s, subject in enumerate(("conv2d", "linear")):
        for v, (variant, algebra, n) in enumerate(variants):
            for channels in (32, 128):
                case = f"{s}{v}{channels}"
                same = {"subject": subject, "variant": variant, "algebra": algebra, "n": n, "channels": channels,
                        "shape": json.dumps({"batch": 8, "channels": channels})}  # fmt: skip
                latency = 1e-5 * channels * (1 + v / 10) * (1 + s)
                lines.append(row(case, "params", 1000.0 * channels / n, **same))
                if subject == "linear" and channels == 128 and v == 2:
                    failed = {"status": "crashed", "reason": f"it ended with signal 9 {HOSTILE}"}
                    lines.append(row(case, "latency", None, **same | failed))
                    continue
                lines.append(row(case, "latency", latency, lo=latency * 0.9, hi=latency * 1.1, **same, marks="noisy"))
                details = json.dumps({"verdict": "SAME"})
                ratio = float("nan") if v == 3 and s else 1 + v / 10
                lines.append(
                    row(case, "latency_ratio", ratio, lo=ratio - 0.1, hi=ratio + 0.1, **same, details=details)
                )
    return frames.of_records(lines)


def run_with_log(folder):
    (folder / "logs").mkdir(parents=True)
    log = folder / "logs" / "task.log"
    log.write_text("line\n" * 2000 + f"the last words {HOSTILE}\n")
    return Run(
        folder, title=HOSTILE, analysis=HOSTILE, sweep=f'title = "{HOSTILE}"', protocol=HOSTILE,
        environments={"cpu-test": {"cpu": HOSTILE, "identity": {"cpu_model": HOSTILE}}},
        logs={("12128", "cpu-test"): Log("logs/task.log", log)},
    )  # fmt: skip
