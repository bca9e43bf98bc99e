"""If no hosts can be made on this machine, these tests fail in CI and are skipped elsewhere."""

from __future__ import annotations

import os

import pytest

from tests.cluster.hosts import why_not


@pytest.fixture(scope="session", autouse=True)
def _hosts_can_be_made() -> None:
    if reason := why_not():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no hosts can be made here: {reason}")
