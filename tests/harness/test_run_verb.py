"""How ``bench run`` and ``bench report`` end: in a number, and on a disk without room in one line."""

import pytest
from handmade import case, planned, static, timings, write

from bench.cli.options import NOTHING_SUCCEEDED, OK, SOME_FAILED
from bench.cli.report import write_report
from bench.cli.run import _exit_code
from bench.errors import UsageError
from bench.store.folder import read_tasks


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["ok"], OK),
        (["ok", "skipped"], OK),
        (["skipped"], OK),
        (["ok", "unsupported", "skipped"], OK),
        (["unsupported"], NOTHING_SUCCEEDED),
        (["unsupported", "skipped"], NOTHING_SUCCEEDED),
        (["crashed"], NOTHING_SUCCEEDED),
        (["skipped", "oom"], NOTHING_SUCCEEDED),
        *(([status, "ok"], SOME_FAILED) for status in ("oom", "timeout", "crashed", "error", "wrong")),
    ],
)
def test_the_exit_code_says_whether_anything_failed_and_whether_anything_succeeded(statuses, code):
    assert _exit_code(statuses) == _exit_code(statuses[::-1]) == code


def test_a_report_that_does_not_fit_on_the_disk_is_one_line_and_costs_no_record(small_disk):
    real, ph = case(), case(4)
    lines = [static(real), static(ph), *timings([real, ph])]
    folder = write(small_disk / "run", planned(real, ph), lines, "cpu-x")
    with pytest.raises(UsageError, match="cannot be written .No space left on device") as error:
        write_report(folder, folder)
    assert "\n" not in str(error.value)
    assert len(read_tasks(folder)) == len(lines)
    assert not list(folder.rglob(".*.tmp*")), "what did not fit is taken away"
