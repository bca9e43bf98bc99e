"""End a sweep that runs on this machine, named by its run directory: in order, or with a result from what is done."""

from __future__ import annotations

import os
import signal
import socket
import time

from trainable.errors import UserError
from tune.process.signals import FINISH_SIGNAL
from tune.report.status import status
from tune.run_dir.layout import RunDir, open_run_dir

_POLL_S = 0.2


def stop_run(name: str, finish: bool) -> int:
    """Ask the sweep's process to end, and wait until it has; returns the exit code.

    Args:
        name: The run directory.
        finish: Whether it is to make best/ and the report from the trials that are done. If not, the same command goes
            on with it later.

    Raises:
        UserError: No process runs the sweep, or one on another machine does.
    """
    run_dir = open_run_dir(os.path.expanduser(name), reading=True)
    process, host = _running(run_dir)
    if host != socket.gethostname():
        raise UserError([f"--stop {name}: process {process} on {host} runs it; give the command there"])
    try:
        os.kill(process, FINISH_SIGNAL if finish else signal.SIGTERM)
        while run_dir.owner() is not None:
            time.sleep(_POLL_S)
    except PermissionError:
        raise UserError([f"--stop {name}: process {process}, which runs it, is another user's"]) from None
    except ProcessLookupError:
        pass  # it has just ended
    if not finish and status(name).state == "finished":
        print(f"it finished before it could be stopped: {name}/report.html and {name}/best")
        return 0
    has_report = run_dir.report_json.is_file()
    if finish and not has_report:
        print(f"no trial had finished: there is no result yet; the same command goes on in {name}")
        return 1
    print(f"finished: {name}/report.html and {name}/best" if finish else f"stopped; the same command goes on in {name}")
    return 0


def _running(run_dir: RunDir) -> tuple[int, str]:
    """The process that runs the sweep, and its machine."""
    owner = run_dir.owner()
    process, _, host = (owner or "").partition(" on ")
    if not process.isdigit():
        told = "no process runs this sweep; with --finish, the result is made of what is done"
        raise UserError([f"--stop {run_dir.name}: {told}"])
    return int(process), host or socket.gethostname()
