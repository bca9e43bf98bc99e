"""The page as people see it: it asks for nothing, every chart is drawn, on wide and narrow screens, light and dark."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tune.report.charts import CHARTS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DRAWN = "html[data-charts=drawn]"
PATIENCE_MS = 120_000  # a machine without a GPU that has other work draws slowly
MARKS = "svg .trace path, svg .bars path, svg .hm image, canvas"
WIDTHS = {"wide": 1280, "phone": 390}


@dataclass
class Opened:
    """A page in the browser, and what it did."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Opened(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector(DRAWN, timeout=PATIENCE_MS)
    try:
        yield seen
    finally:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_drawn_without_a_request_or_an_error(
    width: int, scheme: str, chromium: Any, page_file: Path
) -> None:
    with opened(chromium, page_file, width, scheme) as seen:
        assert seen.requests == [page_file.as_uri()]
        assert seen.errors == []
        for name in CHARTS:
            assert seen.page.locator(f"#chart-{name}").locator(MARKS).count() > 0, name
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        ground = _brightness(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        inks = seen.page.evaluate(
            "[...document.querySelectorAll('.chart svg text')].filter((each) => !each.closest('.bars'))"
            ".map((each) => getComputedStyle(each).fill)"
        )
        assert len(inks) > 100
        assert all(abs(_brightness(ink) - ground) > 0.5 for ink in set(inks)), set(inks)


def _brightness(colour: str) -> float:
    """Of "rgb(1, 2, 3)", in [0, 1]."""
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]) / 765


def test_the_lines_of_parallel_coordinates_have_colours(chromium: Any, page_file: Path) -> None:
    with opened(chromium, page_file) as seen:
        picture = seen.page.locator("#chart-parallel_coordinates").screenshot()
    image = Image.open(io.BytesIO(picture)).convert("HSV")
    saturation = image.getchannel("S").tobytes()
    assert sum(value > 80 for value in saturation) > 500


def test_the_pointer_shows_a_trial_s_configuration(chromium: Any, page_file: Path) -> None:
    with opened(chromium, page_file) as seen:
        for name in ("history", "learning_curves"):
            chart = seen.page.locator(f"#chart-{name}")
            chart.scroll_into_view_if_needed()
            at = chart.locator("svg .points path").last.bounding_box()
            seen.page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2, steps=5)
            told = chart.locator(".hoverlayer .hovertext")
            told.first.wait_for(timeout=PATIENCE_MS)
            text = told.first.text_content()
            assert "trial" in text, name
            assert "learning_rate=" in text, name


def test_no_button_sends_a_chart_anywhere(chromium: Any, page_file: Path) -> None:
    with opened(chromium, page_file) as seen:
        titles = set(
            seen.page.evaluate("[...document.querySelectorAll('.modebar-btn')].map((each) => each.dataset.title)")
        )
    assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_charts_follow_when_the_reader_turns_dark_on_or_prints(chromium: Any, page_file: Path) -> None:
    ink = "getComputedStyle(document.querySelector('#chart-history .xtick text')).fill"
    with opened(chromium, page_file) as seen:
        before = seen.page.evaluate(ink)
        seen.page.emulate_media(color_scheme="dark")
        seen.page.wait_for_function(f"{ink} !== '{before}'", timeout=PATIENCE_MS)
        assert _brightness(seen.page.evaluate(ink)) > 0.7
        assert len(seen.page.pdf(format="A4")) > 50_000
        seen.page.wait_for_function(f"{ink} !== '{before}'", timeout=PATIENCE_MS)
        assert seen.errors == []


def test_the_names_of_77_classes_can_be_read(chromium: Any, page_of_77_classes: Path) -> None:
    boxes = "[...document.querySelectorAll('%s text')].map((each) => each.getBoundingClientRect().toJSON())"
    with opened(chromium, page_of_77_classes) as seen:
        for chart, axis, begin, end in (
            ("confusion", "ytick", "top", "bottom"),
            ("confusion", "xtick", "left", "right"),
            ("classes", "ytick", "top", "bottom"),
        ):
            found = seen.page.evaluate(boxes % f"#chart-{chart} .{axis}")
            assert len(found) == 77, chart
            whole = seen.page.evaluate(f"document.querySelector('#chart-{chart} svg').getBoundingClientRect().toJSON()")
            for box in found:
                assert whole["left"] <= box["left"], chart
                assert box["bottom"] <= whole["bottom"], chart
            found.sort(key=lambda box: box[begin])
            for one, other in pairwise(found):
                assert one[end] <= other[begin] + 2, (chart, axis)


def test_a_browser_without_webgl_is_told_so_and_draws_the_rest(launch: Callable[..., Any], page_file: Path) -> None:
    browser = launch("--disable-gpu", "--disable-3d-apis")
    try:
        with opened(browser, page_file) as seen:
            assert "needs WebGL" in seen.page.locator("#chart-parallel_coordinates").text_content()
            assert seen.page.locator("#chart-timeline").locator(MARKS).count() > 0
            assert seen.errors == []
    finally:
        browser.close()
