"""The page in a real browser: filter, sort, hover, select, export; nothing loaded, nothing run that a run named."""

import csv
import shutil

import numpy as np
import pandas as pd
import pytest
from paged import HOSTILE, records, run_with_log

from bench.report import page
from bench.report.page.rows import page_rows
from bench.report.page.run import Run

pytestmark = pytest.mark.system("chromium")


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


def test_hovering_tells_the_row_as_text(opened):
    tab = opened(records())
    at = next(i for i, name in enumerate(page_rows(records()).data["variant"]) if name == HOSTILE)
    tab.mouse.move(*point(tab, "left", at))
    tip = tab.get_by_text("latency ratio: 1.30 ± 0.10", exact=True)
    tip.first.wait_for(timeout=10_000)
    assert tab.get_by_text(f"conv2d, {HOSTILE}", exact=True).first.is_visible()
    assert tab.evaluate("window.hit") is None


def test_a_point_that_is_selected_is_selected_in_the_table_and_the_other_plot(opened):
    tab = opened(records())
    chip(tab, "subject", "conv2d").click()
    tab.mouse.click(*point(tab, "right", 2))
    tab.wait_for_function("Bokeh.documents[0].get_model_by_name('rows').selected.indices.length > 0")
    assert 2 in tab.evaluate("Bokeh.documents[0].get_model_by_name('rows').selected.indices")
    assert tab.locator(".slick-cell.selected").count() > 0
    tab.locator("#unselect").click()
    tab.wait_for_function("Bokeh.documents[0].get_model_by_name('rows').selected.indices.length === 0")


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


def test_no_name_of_a_run_becomes_code_in_the_browser(opened, tmp_path):
    df = records()
    df.loc[df["status"] == "crashed", "status"] = HOSTILE  # a table may come from anywhere
    tab = opened(df, run_with_log(tmp_path / "run"))
    assert tab.title() == " ".join(HOSTILE.split())
    assert tab.evaluate("window.hit") is None
    assert tab.locator("img").count() == 0
    failure = tab.locator("#failures details")
    assert failure.locator("pre").inner_text().rstrip().endswith(f"the last words {HOSTILE}")
    assert failure.locator("summary").inner_text().count(HOSTILE) == 2
    assert HOSTILE in cells(tab, "latency")
    tab.locator(".slick-header-column", has_text="variant").click()
    assert HOSTILE in cells(tab, "variant")


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


@pytest.mark.parametrize("kind", ["empty", "one point", "failures only"])
def test_odd_tables_open_without_complaint(opened, kind):
    df = {"empty": records().iloc[:0], "one point": records().iloc[:1],
          "failures only": records()[lambda df: df["status"] != "ok"]}[kind]  # fmt: skip
    tab = opened(df)
    assert (
        tab.locator("#count").text_content()
        == {"empty": "0 rows", "one point": "1 row", "failures only": "1 row"}[kind]
    )
    assert tab.locator(".panel").first.is_visible() == (kind == "one point")
    assert tab.locator("#explore").is_visible() == (kind != "empty")
