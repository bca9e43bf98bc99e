"""The site is built without warnings, its links lead somewhere, and it asks no other server for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
# The attributes whose targets a browser fetches by itself when it opens a page.
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Targets(HTMLParser):
    """Collects the addresses that a page fetches, and those that its links lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if (target := values.get(FETCHED.get(tag, ""))) is not None:
            self.fetched.append(target)
        if tag == "a" and (target := values.get("href")) is not None:
            self.linked.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; --strict makes every warning an error. No proxy leads anywhere: the build may ask nobody."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def targets(site: Path) -> dict[Path, Targets]:
    return {page: Targets(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}


def test_every_document_and_every_room_has_a_page(site: Path) -> None:
    for document in (ROOT / "docs").glob("*.md"):
        assert (site / f"{document.stem}.html").is_file(), document.name
    rooms = {
        f"{package}.{path.relative_to(ROOT / package).parts[0].removesuffix('.py')}"
        for package in ("tune", "trainable")
        for path in (ROOT / package).rglob("*.py")
        if path.parent != ROOT / package or path.name != "__init__.py"
    }
    assert len(rooms) > 12
    assert {page.name.removesuffix(".html") for page in (site / "api").glob("*.html")} == rooms


def test_docstrings_are_on_the_pages(site: Path) -> None:
    assert "tune.search.run" in (site / "api" / "tune.search.html").read_text(encoding="utf-8")


def test_no_page_fetches_anything_from_another_server(site: Path, targets: dict[Path, Targets]) -> None:
    assert len(targets) > 20
    for page, found in targets.items():
        for address in found.fetched:
            assert not urlsplit(address).netloc, f"{page.name} fetches {address}"
        # The theme's script would fetch the library that draws such diagrams.
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8")
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        assert re.findall(r"@import|url\(['\"]?(?:https?:)?//", text) == [], style.name


def test_links_between_pages_lead_somewhere(site: Path, targets: dict[Path, Targets]) -> None:
    for page, found in targets.items():
        for address in found.linked:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path or page.name == "404.html":
                continue
            target = page.parent / unquote(parts.path)
            assert target.is_file() or (target / "index.html").is_file(), f"{page.relative_to(site)}: {address}"
