"""What the user reads where our own code has a mistake."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path

from trainable.redaction import plain
from tune.run_dir.layout import LOG


def tell_our_mistake(out: str | Path) -> None:
    """Print the traceback of the exception that is being handled, and add it to the log of the run directory."""
    trace = plain(traceback.format_exc())
    print(f"{trace}This is a mistake of ours, not yours. What is finished is kept in {out}", end="", file=sys.stderr)
    log = Path(out) / LOG
    with contextlib.suppress(OSError):
        if log.is_file():
            with log.open("a", encoding="utf-8") as file:
                file.write(trace)
            print(f"; log: {log}", end="", file=sys.stderr)
    print(file=sys.stderr)
