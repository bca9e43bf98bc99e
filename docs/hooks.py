"""What `mkdocs` does beside its own work when it builds the site: two things that would go stale if written by hand.

Pages that lie outside docs/, such as the changelog, get onto the site if one of its pages links to them or the
navigation names them. So does any other file that is linked, such as cluster.yaml. Links are rewritten to where their
targets lie on the site.

Every room of `tune` and `trainable` gets a page of its API, made from the docstrings of its modules.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGES = ("tune", "trainable")
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the pages of the API to the navigation."""
    pages = [{f"{package}.{room}": api_page(package, room)} for package in PACKAGES for room in rooms(package)]
    assert config.nav is not None
    config.nav.append({"API": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API, and every file of the repository that a page links to."""
    for package in PACKAGES:
        for room, modules in rooms(package).items():
            files.append(File.generated(config, api_page(package, room), content=api_text(package, room, modules)))
    on_site = {file.src_uri for file in files}
    unread = [path_of(file.src_uri) for file in files.documentation_pages() if not file.src_uri.startswith("api/")]
    unread += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    while unread:
        path = unread.pop()
        place = site_place(path)
        if place not in on_site and path.is_file():
            on_site.add(place)
            files.append(File.generated(config, place, abs_src_path=str(path)))
        if path.suffix == ".md":
            linked = [(path.parent / target).resolve() for target in LINK.findall(path.read_text(encoding="utf-8"))]
            unread += [target for target in linked if target.is_file() and site_place(target) not in on_site]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where their targets lie on the site."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    folder = path_of(page.file.src_uri).parent
    here = posixpath.dirname(page.file.src_uri)

    def on_the_site(match: re.Match[str]) -> str:
        target = (folder / match.group()).resolve()
        if not target.is_file():
            return match.group()
        anchor = "#" + ".".join(target.relative_to(ROOT).with_suffix("").parts) if is_module(target) else ""
        return posixpath.relpath(site_place(target), here or ".") + anchor

    return LINK.sub(on_the_site, markdown)


def rooms(package: str) -> dict[str, list[str]]:
    """The modules of each room of a package: a folder is a room, and so is a module beside the folders."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if len(parts) > 2 or not parts[-1].startswith("__"):
            modules = found.setdefault(parts[1], [])
            modules += [] if parts[-1].startswith("__") else [".".join(parts)]
    return found


def api_text(package: str, room: str, modules: list[str]) -> str:
    """The page of a room: what the folder's `__init__` says, then its modules."""
    blocks = [f"# {package}.{room}"]
    if (ROOT / package / room).is_dir():
        blocks.append(f"::: {package}.{room}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}")
    return "\n\n".join([*blocks, *(f"::: {module}" for module in modules)])


def api_page(package: str, room: str) -> str:
    """Where the page of a room lies on the site."""
    return f"api/{package}.{room}.md"


def path_of(place: str) -> Path:
    """The file of the repository that lies at a place of the site."""
    in_docs = ROOT / "docs" / place
    return in_docs if in_docs.exists() else ROOT / place


def is_module(path: Path) -> bool:
    """Whether a file is a module of the packages, which lies on a page of the API."""
    return path.suffix == ".py" and path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES


def site_place(path: Path) -> str:
    """Where a file of the repository lies on the site; the README's place is the first page's."""
    if is_module(path):
        package, room = path.relative_to(ROOT).parts[:2]
        return api_page(package, room.removesuffix(".py"))
    place = os.path.relpath(path, ROOT).replace(os.sep, "/")
    return "index.md" if place == "README.md" else place.removeprefix("docs/")
