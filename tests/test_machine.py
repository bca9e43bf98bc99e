"""Every program that the tests on hosts need is looked for by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import machine


def test_one_program_that_is_there_hides_none_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ip").write_text("#!/bin/sh\n")
    (tmp_path / "ip").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "SYSTEM_FOLDERS", str(tmp_path))
    assert machine.missing_programs() == [name for name in machine.PACKAGE_OF if name != "ip"]


def test_what_can_not_be_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "SYSTEM_FOLDERS", str(tmp_path))
    assert machine.main() == 1
    assert "sshd" in capsys.readouterr().err
