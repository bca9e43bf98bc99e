"""What is shown must not end what is done."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from tune.report.progress import Progress
from tune.spec.sweep_spec import SweepSpec


class ClosedPipe(StringIO):
    """`| head` that has seen enough."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_goes_away_does_not_end_the_sweep(tmp_path: Path) -> None:
    spec = SweepSpec(name="s", model="m", dataset="d")
    with Progress(spec, tmp_path / "log.txt", out=ClosedPipe()) as progress:
        progress.say("first")
        progress.say("second")
    assert [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["first", "second"]
