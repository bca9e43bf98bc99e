"""Every model type that transformers has a sequence classifier for: it works from end to end, or is refused before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.families import FAMILIES
from tests.conformance.verdicts import HEAD, PAGE, try_family


@pytest.mark.conformance
@pytest.mark.filterwarnings("ignore")  # some models' code warns of torch's functions, which is not ours to mend
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_does_what_the_table_says(family: str, tmp_path: Path) -> None:
    assert try_family(family, tmp_path).row in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_table_has_every_family() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.removeprefix(HEAD).splitlines()]
    assert text.startswith(HEAD)
    assert tuple(rows) == FAMILIES
