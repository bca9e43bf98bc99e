"""A folder becomes a table: one entry a module, each under a name of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainable.discovery import find_entries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "a_table_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def write(folder: Path, module: str, name: str) -> None:
    source = f"from types import SimpleNamespace\nENTRY = SimpleNamespace(name={name!r})\n"
    (folder / f"{module}.py").write_text(source)


def test_entries_come_by_name_in_the_order_of_their_modules(package: Path) -> None:
    write(package, "b", "first")
    write(package, "c", "second")
    (package / "a.py").write_text("OTHER = 1\n")
    assert list(find_entries(package.name, [str(package)], "ENTRY")) == ["first", "second"]


def test_two_entries_of_one_name_are_refused(package: Path) -> None:
    write(package, "a", "same")
    write(package, "b", "same")
    with pytest.raises(ValueError, match="two modules of a_table_of_a_test have a ENTRY called 'same'"):
        find_entries(package.name, [str(package)], "ENTRY")
