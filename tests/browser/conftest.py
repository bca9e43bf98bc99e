"""If there is no browser on this machine, these tests fail in CI and are skipped elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.machine import browser
from tests.tune.page_reports import whole_report
from tune.report.html_page import html_page

SOFTWARE_WEBGL = "--enable-unsafe-swiftshader"  # a machine without a GPU draws WebGL on its cores


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """Starts a browser with arguments."""
    program = browser()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium or Chrome is installed")
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        yield lambda *arguments: playwright.chromium.launch(executable_path=program, args=[*as_root, *arguments])


@pytest.fixture(scope="session")
def chromium(launch: Callable[..., Any]) -> Iterator[Any]:
    started = launch(SOFTWARE_WEBGL)
    yield started
    started.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in which every chart has something to show."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html_page(whole_report()), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def page_of_77_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html_page(whole_report(classes=77)), encoding="utf-8")
    return file
