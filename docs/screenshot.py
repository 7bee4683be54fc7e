"""Takes the README's picture of a page: ``python docs/screenshot.py results/reference/quick/<env>/page.html``.

Needs the system package chromium. The page has to be there: ``bench report`` writes it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "images" / "page.png"


# where on the screen a point of a plot is: that of the row with the greatest latency ratio among those shown
_POINT = """() => {
  const doc = Bokeh.documents[0];
  const rows = doc.get_model_by_name("rows").data, on = doc.get_model_by_name("shown").booleans;
  const ratio = (i) => (on[i] && rows.latency_ratio[i]) || 0;
  const best = [...on.keys()].reduce((a, b) => (ratio(b) > ratio(a) ? b : a));
  const view = [...Bokeh.index.find(doc.get_model_by_name("left"))][0];
  const box = view.canvas_view.el.getBoundingClientRect(), { x_scale, y_scale } = view.frame;
  return [box.x + x_scale.compute(rows.left_x[best]), box.y + y_scale.compute(rows.left_y[best])];
}"""


def take(page: Path) -> None:
    """Choose the convolutions and point at one of them, so that the picture shows what a page does."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1360, "height": 1000})
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector("body[data-ready=yes]")
        tab.locator("fieldset[data-factor=subject] .chip").get_by_text("conv2d", exact=True).click()
        tab.locator(".panel[data-panel=right] select.y").select_option("peak_bytes")
        tab.wait_for_timeout(500)
        tab.mouse.move(*tab.evaluate(_POINT))
        tab.wait_for_timeout(1000)
        PICTURE.parent.mkdir(exist_ok=True)
        tab.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
