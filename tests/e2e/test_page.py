"""The page in a real browser: filter, sort, hover, select, export; nothing loaded, nothing run that a run named."""

import csv
import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from bench.metrics import METRICS
from bench.records import COLUMNS
from bench.report import page, table
from bench.report.page.failures import failures
from bench.report.page.rows import page_rows
from bench.report.page.run import Log, Run

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
    return table.frame(lines)


def run_with_log(folder):
    (folder / "logs").mkdir(parents=True)
    log = folder / "logs" / "task.log"
    log.write_text("line\n" * 2000 + f"the last words {HOSTILE}\n")
    return Run(
        folder,
        HOSTILE,
        HOSTILE,
        f'title = "{HOSTILE}"',
        {"cpu-test": {"cpu": HOSTILE}},
        {("12128", "cpu-test"): Log("logs/task.log", log)},
    )


# -------------------------------------------------------------------------------------------------- without a browser


def test_a_row_is_a_case_with_its_metrics_beside_each_other():
    rows = page_rows(records())
    assert rows.count == rows.cases == 16
    assert [column.name for column in rows.columns[:3]] == ["subject", "variant", "channels"]
    texts = rows.data["latency_t"]
    assert texts[0] == "320 µs"
    assert "crashed" in texts
    assert rows.same["dtype"] == "float32"


def test_what_follows_from_other_factors_comes_last_and_is_no_filter():
    df = records()
    df["kernel_size"] = df["subject"].map({"conv2d": 3, "linear": 1}).astype("Int64")
    names = {column.name: (i, column) for i, column in enumerate(page_rows(df).columns)}
    assert names["kernel_size"][0] > names["latency"][0]
    assert not names["kernel_size"][1].chosen
    assert names["channels"][1].chosen


def test_more_cases_than_a_browser_holds_are_averaged_and_the_table_is_named(tmp_path):
    seeds = [records().assign(seed=seed, case_id=lambda df, s=seed: df["case_id"] + f"-{s}") for seed in range(20)]
    df = pd.concat(seeds).astype({"seed": "Int64"})
    rows = page_rows(df, most=50)
    assert rows.cases == 320
    assert rows.count <= 50
    assert rows.averaged == ["seed"]
    real = rows.data["variant"].index("real")
    assert rows.data["latency"][real] == pytest.approx(32e-5)
    assert rows.data["cases"][real] == 20
    assert sum(rows.data["failures"]) == 20
    text = page.html(df, Run(tmp_path), most=50)
    assert 'href="table.csv"' in text
    assert "320 cases" in text


def test_a_mean_is_geometric_and_shows_its_span():
    df = pd.concat([records().iloc[:3].assign(case_id=str(i), seed=i) for i in range(30)]).astype({"seed": "Int64"})
    latency = df["metric"] == "latency"
    df.loc[latency, "value"] = np.geomspace(1e-3, 4e-3, 30)
    rows = page_rows(df, most=5)
    assert rows.data["latency"] == pytest.approx([2e-3])
    assert rows.data["latency_t"] == ["2 ms (1 ms to 4 ms)"]


def test_failures_of_one_reason_are_told_together_with_the_end_of_their_log(tmp_path):
    run = run_with_log(tmp_path / "run")
    (found,), left = failures(records(), run.logs)
    assert left == 0
    assert found.status == "crashed"
    assert found.cases == ["linear / ph n=4 / batch=8, channels=128 / infer: latency"]
    assert found.log == "logs/task.log"
    assert found.tail.endswith(f"the last words {HOSTILE}\n")
    assert len(found.tail) < 5000


def test_everything_that_a_run_named_is_escaped(tmp_path):
    text = page.html(records(), run_with_log(tmp_path / "run"))
    assert "&lt;img src=x onerror" in text
    assert "<img src=x" not in text
    assert "<script>window.hit" not in text
    assert "{{7*7}}" in text, "what looks like a template is text"


def test_of_many_failures_the_first_are_told_and_skipped_cases_come_last(tmp_path):
    many = pd.concat([records().assign(status="oom", reason=f"too large, {i}") for i in range(5)])
    skipped = records().assign(status="skipped", reason="no such kernel")
    found, left = failures(pd.concat([skipped, many]), {}, most=4)
    assert [failure.reason for failure in found] == [f"too large, {i}" for i in range(4)]
    assert left == 2
    found, _ = failures(pd.concat([skipped, many]), {})
    assert found[-1].status == "skipped"
    assert found[-1].more + len(found[-1].cases) == 16


@pytest.mark.parametrize(
    "df",
    [
        records().iloc[:0],
        records().iloc[:1],
        records()[lambda df: df["status"] != "ok"],
        records().assign(value=pd.array([float("nan")] * len(records()), dtype="Float64"), lo=pd.NA, hi=pd.NA),
        pd.concat(
            [
                records().assign(variant=f"v{i}", case_id=lambda df, i=i: df["case_id"] + f"{i}", algebra=f"a{i}")
                for i in range(30)
            ]
        ),
    ],
    ids=["empty", "one point", "failures only", "NaN", "30 variants"],
)
def test_odd_tables_give_a_page(df, tmp_path):
    assert "</html>" in page.html(df, Run(tmp_path))


def test_the_page_names_no_address_to_load_from(tmp_path):
    text = page.html(records(), Run(tmp_path))
    for tag in ("<script src", '<link rel="stylesheet', "@import", "url(http"):
        assert tag not in text
    assert "default-src 'none'" in text


# ----------------------------------------------------------------------------------------------------- in a browser

in_browser = pytest.mark.system("chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Write a table's page and open it: gives the tab; whatever the browser complained of or asked for is in it."""
    tabs = []

    def open_(df, run=None, **kwargs):
        path = page.write(df, tmp_path, run or Run(tmp_path), **kwargs)
        tab = browser.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
        tab.complaints, tab.asked = [], []
        tab.on(
            "console", lambda message: message.type in ("error", "warning") and tab.complaints.append(message.text)
        )
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        tabs.append((tab, path))
        return tab

    yield open_
    for tab, path in tabs:
        assert tab.complaints == []
        assert [url for url in tab.asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()], (
            "it loads nothing"
        )
        tab.close()


def cells(tab, column):
    """The texts of a column as the table shows them, from the top."""
    titles = tab.locator(".slick-header-column .slick-column-name").all_inner_texts()
    at = titles.index(column)
    rows = tab.locator(".slick-row")
    rows.first.wait_for()
    found = [(row.bounding_box()["y"], row.locator(f".slick-cell.l{at}").inner_text()) for row in rows.all()]
    return [text for _, text in sorted(found, key=lambda own: own[0])]


def chip(tab, factor, text):
    return tab.locator(f"fieldset[data-factor={factor}] .chip").get_by_text(text, exact=True)


def point(tab, panel, index):
    """Where on the screen a row's point is."""
    return tab.evaluate(
        """([panel, index]) => {
          const doc = Bokeh.documents[0], plot = doc.get_model_by_name(panel), rows = doc.get_model_by_name("rows");
          const view = [...Bokeh.index.find(plot)][0];
          const box = view.canvas_view.el.getBoundingClientRect();
          const x = view.frame.x_scale.compute(rows.data[`${panel}_x`][index]);
          const y = view.frame.y_scale.compute(rows.data[`${panel}_y`][index]);
          return [box.x + x, box.y + y];
        }""",
        [panel, index],
    )


@in_browser
def test_filters_choose_rows_and_are_taken_back(opened):
    tab = opened(records())
    assert tab.locator("#count").inner_text() == "16 rows"
    chip(tab, "subject", "linear").click()
    chip(tab, "channels", "32").click()
    assert tab.locator("#count").inner_text() == "4 of 16 rows"
    tab.wait_for_function("document.querySelector('.panel[data-panel=left] .drawn').textContent === '3 drawn'")
    assert set(cells(tab, "subject")) == {"linear"}
    assert len(cells(tab, "subject")) == 4
    chip(tab, "subject", "conv2d").click()
    assert tab.locator("#count").inner_text() == "8 of 16 rows"
    tab.locator("#search").fill("quaternion noisy")
    assert tab.locator("#count").inner_text() == "2 of 16 rows"
    tab.locator("#reset").click()
    assert tab.locator("#count").inner_text() == "16 rows"


@in_browser
def test_a_click_on_a_title_sorts_by_value_not_by_text(opened):
    tab = opened(records())
    title = tab.locator(".slick-header-column", has_text="latency").nth(1)
    assert "ratio" not in title.inner_text()
    title.click()
    tab.wait_for_timeout(300)
    rising = cells(tab, "latency")
    title.click()
    tab.wait_for_timeout(300)
    falling = cells(tab, "latency")
    assert rising != falling
    numbers = [text for text in rising if text.endswith("s") and text != "crashed"]
    seconds = [float(text.split()[0]) * {"ms": 1e-3, "µs": 1e-6}[text.split()[1]] for text in numbers]
    assert seconds == sorted(seconds)
    assert len(seconds) == 15


@in_browser
def test_hovering_tells_the_row_as_text(opened):
    tab = opened(records())
    at = next(i for i, name in enumerate(page_rows(records()).data["variant"]) if name == HOSTILE)
    tab.mouse.move(*point(tab, "left", at))
    tip = tab.get_by_text("latency ratio: 1.30 ± 0.10", exact=True)
    tip.first.wait_for(timeout=10_000)
    assert tab.get_by_text(f"conv2d, {HOSTILE}", exact=False).first.is_visible()
    assert tab.evaluate("window.hit") is None


@in_browser
def test_a_point_that_is_selected_is_selected_in_the_table_and_the_other_plot(opened):
    tab = opened(records())
    chip(tab, "subject", "conv2d").click()
    tab.mouse.click(*point(tab, "right", 2))
    tab.wait_for_function("Bokeh.documents[0].get_model_by_name('rows').selected.indices.length > 0")
    assert 2 in tab.evaluate("Bokeh.documents[0].get_model_by_name('rows').selected.indices")
    assert tab.locator(".slick-cell.selected").count() > 0
    tab.locator("#unselect").click()
    tab.wait_for_function("Bokeh.documents[0].get_model_by_name('rows').selected.indices.length === 0")


@in_browser
def test_what_is_shown_is_exported_in_plain_numbers(opened, tmp_path):
    tab = opened(records())
    chip(tab, "channels", "128").click()
    with tab.expect_download() as waiting:
        tab.locator("#export").click()
    out = tmp_path / "shown.csv"
    waiting.value.save_as(out)
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert {line["channels"] for line in lines} == {"128"}
    assert float(lines[0]["latency"]) == pytest.approx(128e-5)
    assert float(lines[0]["latency_lo"]) == pytest.approx(128e-5 * 0.9)
    assert HOSTILE in {line["variant"] for line in lines}, "quoted, and read back as it was"
    assert [line["latency_shown"] for line in lines].count("crashed") == 1


@in_browser
def test_axes_are_chosen_and_may_be_logarithmic(opened):
    tab = opened(records())
    panel = tab.locator(".panel[data-panel=right]")
    panel.locator("select.y").select_option("latency_ratio")
    panel.locator("select.x").select_option("latency")
    panel.locator(".xlog").uncheck()
    data = tab.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('rows').data.right_x)")
    assert data[0] == pytest.approx(32e-5)
    panel.locator(".xlog").check()
    logs = tab.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('rows').data.right_x)")
    assert logs[0] == pytest.approx(np.log10(32e-5))
    label = tab.evaluate("Bokeh.documents[0].get_model_by_name('right_x').axis_label")
    assert label == "latency (s)"


@in_browser
def test_no_name_of_a_run_becomes_code_in_the_browser(opened, tmp_path):
    tab = opened(records(), run_with_log(tmp_path / "run"))
    assert tab.title() == " ".join(HOSTILE.split())
    assert tab.evaluate("window.hit") is None
    assert tab.locator("img").count() == 0
    failure = tab.locator("#failures details")
    assert failure.locator("pre").inner_text().rstrip().endswith(f"the last words {HOSTILE}")
    assert HOSTILE in failure.locator("summary").inner_text()
    tab.locator(".slick-header-column", has_text="variant").click()
    assert HOSTILE in cells(tab, "variant")


@in_browser
def test_ten_thousand_rows_are_filtered_at_once(opened):
    many = [
        records().assign(seed=i, case_id=lambda df, i=i: df["case_id"] + f"-{i}", started="2026-01-01T10:00:00+00:00")
        for i in range(625)
    ]
    df = pd.concat(many, ignore_index=True).astype({"seed": "Int64"})
    tab = opened(df)
    assert tab.locator("#count").inner_text() == "10000 rows"
    chip(tab, "variant", "quaternion").click()
    assert tab.locator("#count").inner_text() == "2500 of 10000 rows"


@in_browser
@pytest.mark.parametrize("kind", ["empty", "one point", "failures only"])
def test_odd_tables_open_without_complaint(opened, kind):
    df = {"empty": records().iloc[:0], "one point": records().iloc[:1],
          "failures only": records()[lambda df: df["status"] != "ok"]}[kind]  # fmt: skip
    tab = opened(df)
    assert tab.locator("#count").inner_text() == f"{df['case_id'].nunique()} rows"
