"""Starting the same command again: by this process itself, or by the user."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainable.errors import RayDied
from tune.process.signals import end_at_once, end_descendants

RESTARTS = "FINETUNE_SEARCH_RESTARTS"  # this environment variable counts how often the command has restarted itself
MAX_RESTARTS = 5
COMMAND = "FINETUNE_SEARCH_COMMAND"  # in a job on a cluster, this environment variable has what the user typed


def continuing_command(argv: Sequence[str]) -> str:
    """The command with which the user continues the sweep that these arguments began."""
    return os.environ.get(COMMAND) or shlex.join(
        ["python", "-m", "tune.search", *(word for word in argv if word != "--fresh")]
    )


def reporting_command(out: str | Path) -> str:
    """The command that makes a report of what a sweep has come to; `out` is its run directory, as the user gave it."""
    return shlex.join(["python", "-m", "tune.report", str(out)])


def restart_or_exit(error: RayDied, argv: Sequence[str], private: bool) -> NoReturn:
    """Start the command again where a private Ray has died; for a cluster, leave that to the user.

    Nothing is cleaned up: Ray's libraries may wait for ever for what is dead, or end the process.
    """
    print(error, file=sys.stderr, flush=True)
    if private:
        restart()
    print(f"Go on with: {continuing_command(argv)}", file=sys.stderr, flush=True)
    end_at_once(RayDied.exit_code)


def restart() -> None:
    """Replace this process by a new one with the same command, after a pause that doubles each time.

    Only a new process helps: Ray's libraries end any process whose control service is gone. After `MAX_RESTARTS`
    restarts this function returns and does nothing.
    """
    before = int(os.environ.get(RESTARTS, "0"))
    if before >= MAX_RESTARTS:
        return
    print(f"starting again ({before + 1} of at most {MAX_RESTARTS} times)", file=sys.stderr, flush=True)
    time.sleep(2.0**before)
    os.environ[RESTARTS] = str(before + 1)
    words = [word for word in sys.orig_argv[1:] if word != "--fresh"]
    end_descendants()
    os.execv(sys.executable, [sys.executable, *words])
