"""Follow the log of a sweep that runs as a job, to its end."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING

from trainable.redaction import plain
from tune.cluster.job_server import Server, last_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

GIVE_UP_AFTER_S = 60.0  # without an answer of the job server
LOG_EVERY_S = 1.0
# The server always sends the whole log, so a long one is asked for less often: for so many more characters, after
# another LOG_EVERY_S.
LOG_CHARACTERS = 100_000
SIGTERM_CODE = 143  # exit code of a driver that was stopped


def follow(client: JobSubmissionClient, server: Server, job: str, out: str) -> int:
    """Show a job's log until the job ends; returns its exit code.

    The log is asked for again and again, so a broken connection or a machine that slept does no harm.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C. How to come back is printed first.
    """
    shown, last_answer = 0, time.monotonic()
    try:
        while True:
            try:
                details = client.get_job_info(job)  # asked before the log: after the job's end the log is complete
                text = _log(client, job, ended=details.status.is_terminal())
                last_answer = time.monotonic()
            except (RuntimeError, OSError) as error:
                if time.monotonic() - last_answer > GIVE_UP_AFTER_S:
                    lost = f"{server.who}: does not answer any more ({last_line(error)}); the sweep may go on there"
                    _print_next_steps(lost, server, job, out)
                    return 1
            else:
                print(plain(text[shown:]), end="", flush=True)
                shown = max(shown, len(text))
                if details.status.is_terminal():
                    return _exit_code(details)
            time.sleep(LOG_EVERY_S * (1 + shown / LOG_CHARACTERS))
    except KeyboardInterrupt:
        _print_next_steps("detached; the sweep goes on there", server, job, out)
        raise


def _log(client: JobSubmissionClient, job: str, ended: bool) -> str:
    try:
        return str(client.get_job_logs(job))
    except RuntimeError:
        if ended:  # the log may have gone with its node
            return ""
        raise


def _print_next_steps(what_happened: str, server: Server, job: str, out: str) -> None:
    command = "python -m tune.search"
    where = f"--submit {shlex.quote(server.url)}"
    lines = (
        what_happened,
        f"attach again  {command} --attach {job} {where}",
        f"stop it       {command} --stop {job} {where}",
        f"its state     {command} --status {shlex.quote(out)}   (where that is to be read)",
        f"results       {out}",
    )
    print(plain("\n" + "\n".join(lines)), file=sys.stderr, flush=True)


def _exit_code(job: JobDetails) -> int:
    """The exit code of a driver that has ended. If the log does not tell why it ended, that is printed."""
    if job.status.value == "SUCCEEDED":
        return 0
    if job.status.value == "STOPPED":
        print("stopped; the same command goes on", file=sys.stderr)
        return SIGTERM_CODE
    code = job.driver_exit_code
    if code is None:  # the driver never ran, or Ray's supervisor of it is gone
        print(plain(f"the job failed: {(job.message or 'without a message').strip()}"), file=sys.stderr)
        return 1
    if code < 0:
        print(f"the driver was killed by signal {-code}; the same command goes on", file=sys.stderr)
    return int(code) if code >= 0 else 128 - int(code)
