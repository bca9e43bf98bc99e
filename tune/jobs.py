"""A sweep as a job of a running Ray cluster: hand it over, follow its log, attach again, stop it.

The driver runs on the cluster's head and does not need the machine that submitted it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import logging
import os
import re
import shlex
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from trainable.errors import SweepFailed, UserError, shown
from trainable.plain import one_line, plain
from tune.auth import HOW_TO, PROBE_TIMEOUT_S, known_token, token_problems
from tune.flags import Request
from tune.spec import spec_as_yaml_values, write_yaml
from tune.supervisor import COMMAND, STOP_LIMIT_S, continuing_command

DEFAULT_SERVER = "http://127.0.0.1:8265"
SERVER_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
SPEC_FILE = "sweep.yaml"  # all that travels with a job
OUT, SETTINGS = "finetune_search_out", "finetune_search_settings"  # a job's metadata
STOP_WAIT_S = int(STOP_LIMIT_S) + 8  # Ray gives a job 3 s by default, too few to write what it has
SILENCE_S = 60.0  # a log without a word for so long is asked for anew: the connection may be dead
LOST_S = 60.0  # a job server that does not answer for so long is given up
POLL_S = 1.0
SIGTERM_CODE = 143  # what a driver that was stopped exits with
KNOWN_SHOWN = 10


class Server(NamedTuple):
    """A job server: its URL, and how messages call it."""

    url: str
    who: str


def submit(request: Request, words: Sequence[str], problems: list[str]) -> int:
    """Hand a sweep to a cluster and follow it to its end; returns the exit code.

    One that runs already in the same run directory is followed instead. words: the command line
    problems: what is known to be wrong; raised as a UserError with all that is found here
    """
    out = str(request.out).replace("s3:/", "s3://", 1) if str(request.out).startswith("s3:/") else str(request.out)
    problems += _problems_on_a_cluster(request, out)
    server = _server(request.submit, problems)
    with _connected(server, problems) as client:
        values = {**spec_as_yaml_values(request.spec), "name": request.spec.name}
        values.pop("address", None)
        text = write_yaml(values)
        flags = ["--fresh"] * request.fresh + ["--allow-new-space"] * request.allow_new_space
        settings = hashlib.sha256(text.encode()).hexdigest()
        base = _base_id(request.spec.name, out)
        running = _running(client, base)
        if running is None:
            job = f"{base}-{1 + max(_attempts(client, base), default=0)}"
            try:
                _hand_over(client, job, text, [*flags, "--out", out], {OUT: out, SETTINGS: settings}, words)
            except RuntimeError:
                running = _running(client, base)  # the same command may have been given twice at once
                if running is None:
                    raise
            else:
                print(
                    plain(f"submitted as {job} to {server.url}; Ctrl-C detaches, the sweep goes on there"), flush=True
                )
                return _follow(client, server, job, out)
        if request.fresh or running.metadata.get(SETTINGS) != settings:
            raise UserError([_busy(out, running.submission_id, server)])
        print(plain(f"this sweep runs already, as {running.submission_id}; Ctrl-C detaches"), flush=True)
        return _follow(client, server, running.submission_id, out)


def attach(job: str, address: str | None) -> int:
    """Follow a sweep that was submitted, from the beginning of its log; returns its exit code."""
    problems: list[str] = []
    server = _server(address, problems)
    with _connected(server, problems) as client:
        found = _find(client, server, "--attach", job)
        return _follow(client, server, job, found.metadata[OUT])


def stop(job: str, address: str | None) -> int:
    """Stop a sweep in order and wait until it has written what it has; returns the exit code."""
    problems: list[str] = []
    server = _server(address, problems)
    with _connected(server, problems) as client:
        found = _find(client, server, "--stop", job)
        if found.status.is_terminal():
            raise UserError([f"--stop {job}: has ended already ({found.status})"])
        asked = False
        while not client.get_job_info(job).status.is_terminal():
            asked = asked or client.stop_job(job)  # one that has not begun yet can't be asked
            time.sleep(POLL_S)
    print(plain(f"stopped; what is finished is kept in {found.metadata[OUT]}, and its command goes on"))
    return 0


# What is wrong


def _problems_on_a_cluster(request: Request, out: str) -> list[str]:
    """What can't be there as it is here: paths that only this machine, or this working directory, knows."""
    problems = []
    if not out.startswith(("/", "s3://")):
        problems.append(
            f"--out {out}: what is submitted runs elsewhere; give an absolute path that all of the cluster's nodes "
            "share, or s3://BUCKET/PREFIX"
        )
    for name in ("model", "dataset"):
        value = getattr(request.spec, name)
        if value and not value.startswith(("/", "~")) and (value.startswith(".") or os.path.exists(value)):
            problems.append(
                f"--{name} {value}: is a path on this machine; give an absolute path that all of the cluster's nodes "
                "share, or a name on the hub"
            )
    return problems


def _server(given: str | None, problems: list[str]) -> Server:
    """The job server that is meant; problems of its address and the token are appended."""
    name = next((variable for variable in SERVER_VARIABLES if os.environ.get(variable)), "--submit")
    text = given or os.environ.get(name) or DEFAULT_SERVER
    name = "--submit" if given else name
    url = (text if "://" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query)
        fits = bool(fits) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        problems.append(f"{name} must be a job server's address, like {DEFAULT_SERVER}, but got {shown(text)}")
    else:
        problems += token_problems(f"{name} {url}")
    return Server(url, f"{name} {url}")


@contextlib.contextmanager
def _connected(server: Server, problems: list[str]) -> Iterator[Any]:
    """A client of the job server, which asks for a token. Raises UserError with `problems` and what it says."""
    problems = problems or _door_problems(server)
    if problems:
        raise UserError(problems)
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise UserError([_not_installed(error)]) from error
    logging.disable(logging.WARNING)  # Ray's client tells of every upload
    try:
        with known_token(), _no_other_server():
            client = JobSubmissionClient(server.url)
        yield client
    except AuthenticationError as error:
        wrong = "asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)"
        raise UserError([f"{server.who}: {wrong}"]) from error
    except RuntimeError as error:
        if "ray[default]" in str(error):
            raise UserError([_not_installed(error)]) from error
        raise UserError([f"{server.who}: refuses ({_last_line(error)})"]) from error
    except OSError as error:
        raise SweepFailed(
            f"{server.who}: does not answer any more ({_last_line(error)}); give the command again"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _last_line(error: BaseException) -> str:
    """What an error says, of a traceback what it ends with."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _not_installed(error: Exception) -> str:
    return f"--submit: Ray's job client is not whole here ({error}); pip install 'finetune-search[cluster]'"


@contextlib.contextmanager
def _no_other_server() -> Iterator[None]:
    """Ray's client would take these before the address that it is given."""
    before = {name: os.environ.pop(name) for name in SERVER_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _door_problems(server: Server) -> list[str]:
    """What is wrong where a job server answers somebody without a token, or nothing does."""
    try:
        with urllib.request.urlopen(f"{server.url}/api/version", timeout=PROBE_TIMEOUT_S) as answer:
            found = "ray_version" in answer.read(10_000).decode(errors="replace")
            reason = "another HTTP server"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return []
        found, reason = False, f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        found, reason = False, getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if found:
        return [f"{server.who}: lets in anybody without a token, to run any code as its user; {HOW_TO}"]
    hint = "is the cluster running, and the tunnel open (ray dashboard CLUSTER.yaml)?"
    return [f"{server.who}: no Ray job server answers there ({one_line(reason)}); {hint}"]


def _busy(out: str, job: str, server: Server) -> str:
    return (
        f"--out {out}: another command's sweep is running there, as {job}; follow it with --attach {job}, or stop it "
        f"first with --stop {job} (--submit {server.url})"
    )


# Jobs


def _base_id(name: str, out: str) -> str:
    """The same for every attempt at a run directory."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "sweep"
    return f"{word}-{hashlib.sha256(os.path.normpath(out).encode()).hexdigest()[:8]}"


def _sweeps(client: Any) -> list[Any]:
    """The jobs that are sweeps, newest first."""
    found = [job for job in client.list_jobs() if job.submission_id and OUT in (job.metadata or {})]
    return sorted(found, key=lambda job: -(job.start_time or 0))


def _attempts(client: Any, base: str) -> list[int]:
    numbers = (re.fullmatch(rf"{re.escape(base)}-(\d+)", job.submission_id) for job in _sweeps(client))
    return [int(match[1]) for match in numbers if match]


def _running(client: Any, base: str) -> Any:
    """The job at a run directory that has not ended; None where there is none."""
    jobs = (job for job in _sweeps(client) if job.submission_id.rpartition("-")[0] == base)
    return next((job for job in jobs if not job.status.is_terminal()), None)


def _find(client: Any, server: Server, flag: str, wanted: str) -> Any:
    sweeps = _sweeps(client)
    for job in sweeps:
        if job.submission_id == wanted:
            return job
    listed = "".join(f"\n  {job.submission_id}  {job.status.value.lower()}  {job.metadata[OUT]}" for job in sweeps)
    known = "known:" + "\n".join(listed.split("\n")[: KNOWN_SHOWN + 1]) if sweeps else "none was submitted there"
    raise UserError([f"{flag} {wanted}: no such sweep at {server.url}; {known}"])


def _hand_over(
    client: Any, job: str, spec: str, flags: Sequence[str], metadata: dict[str, str], words: Sequence[str]
) -> None:
    """Submit the job: the cluster's own installation of this project, and the spec as its only file.

    Nothing of this process's environment goes along: tokens of the hub and keys are the cluster's to have.
    """
    command = ["exec", "python", "-m", "tune.search", SPEC_FILE, "--address", "auto", *flags]
    with tempfile.TemporaryDirectory(prefix="ft-submit-") as folder:
        Path(folder, SPEC_FILE).write_text(spec, encoding="utf-8")
        client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=job,
            metadata=metadata,
            entrypoint_num_cpus=0,
            runtime_env={
                "working_dir": folder,
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), COMMAND: continuing_command(words)},
            },
        )


# Following


class _Log:
    """What a job has printed, as far as it was not shown yet."""

    def __init__(self, client: Any, job: str) -> None:
        self._client, self._job = client, job
        self._shown = 0  # characters
        self._deaf = False  # nobody reads what is printed

    async def stream(self) -> None:
        """Show it as it comes, until the job or the connection ends."""
        at = 0
        async with asyncio.timeout(SILENCE_S) as silence:
            async for text in self._client.tail_job_logs(self._job):
                silence.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                self._show(text, at)
                at += len(text)

    def rest(self) -> None:
        """Show all that is left."""
        self._show(self._client.get_job_logs(self._job), 0)

    def _show(self, text: str, at: int) -> None:
        """Show what is new of a text that stands at this character of the log."""
        new = text[max(0, self._shown - at) :]
        self._shown = max(self._shown, at + len(text))
        if new and not self._deaf:
            try:
                print(plain(new), end="", flush=True)
            except BrokenPipeError:  # whoever read has gone; the sweep has not
                self._deaf = True


def _follow(client: Any, server: Server, job: str, out: str) -> int:
    """Show a job's log until it ends; returns its exit code. Ctrl-C tells how to go on and is raised again."""
    import aiohttp

    broken = (RuntimeError, OSError, aiohttp.ClientError)
    log, heard = _Log(client, job), time.monotonic()
    try:
        while True:
            with contextlib.suppress(*broken):
                asyncio.run(log.stream())
            try:
                found = client.get_job_info(job)
                heard = time.monotonic()
                if found.status.is_terminal():
                    with contextlib.suppress(*broken):
                        log.rest()
                    return _exit_code(found)
            except broken as error:
                if time.monotonic() - heard > LOST_S:
                    gone = f"{server.who}: does not answer any more ({_last_line(error)}); the sweep may go on there"
                    _tell(gone, server, job, out)
                    return 1
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        _tell("detached; the sweep goes on there", server, job, out)
        raise


def _tell(what: str, server: Server, job: str, out: str) -> None:
    """What happened to the connection, and what can be done from here."""
    command = "python -m tune.search"
    where = f"--submit {shlex.quote(server.url)}"
    lines = (
        what,
        f"attach again  {command} --attach {job} {where}",
        f"stop it       {command} --stop {job} {where}",
        f"its state     {command} --status {shlex.quote(out)}   (where that is to be read)",
        f"results       {out}",
    )
    print(plain("\n" + "\n".join(lines)), file=sys.stderr, flush=True)


def _exit_code(job: Any) -> int:
    """The exit code of the driver that has ended; what the log does not say is told."""
    if job.status.value == "SUCCEEDED":
        return 0
    if job.status.value == "STOPPED":
        print("stopped; the same command goes on", file=sys.stderr)
        return SIGTERM_CODE
    code = job.driver_exit_code
    if code is None:  # it never ran, or what watched over it is gone
        print(plain(f"the job failed: {(job.message or 'without a message').strip()}"), file=sys.stderr)
        return 1
    if code < 0:
        print(f"the driver was killed by signal {-code}; the same command goes on", file=sys.stderr)
    return int(code) if code >= 0 else 128 - int(code)
