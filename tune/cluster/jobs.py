"""A sweep as a job of a running Ray cluster: hand it over, follow its log, attach again, stop it.

The driver runs on the cluster's head and does not need the machine that submitted it any more.
"""

from __future__ import annotations

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
from trainable.redaction import one_line, plain
from trainable.storage.urls import is_url
from tune.cluster.auth import HOW_TO, PROBE_TIMEOUT_S, known_token, token_problems
from tune.process.restart import COMMAND, continuing_command
from tune.process.signals import STOP_LIMIT_S
from tune.spec.flags import Request
from tune.spec.sweep_spec import spec_as_yaml_values, write_yaml

DEFAULT_SERVER = "http://127.0.0.1:8265"
SERVER_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
SPEC_FILE = "sweep.yaml"  # all that travels with a job
OUT, SETTINGS = "finetune_search_out", "finetune_search_settings"  # a job's metadata
STOP_WAIT_S = int(STOP_LIMIT_S) + 8  # Ray gives a job 3 s by default, too few to write what it has
LOST_S = 60.0  # a job server that does not answer for so long is given up
POLL_S = 1.0  # between two looks at a job
LOG_CHARACTERS = 100_000  # for as many more, a log is asked for less often: it always comes whole
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
    out = str(request.out)
    problems += _problems_on_a_cluster(request, out)
    server = _server(request.submit, problems)
    with _connected(server, problems) as client:
        values = {**spec_as_yaml_values(request.spec), "name": request.spec.name}
        values.pop("address", None)
        text = write_yaml(values)
        settings = hashlib.sha256(text.encode()).hexdigest()
        running = _running(client, out)
        if running is None:
            base = _base_id(request.spec.name, out)
            job = f"{base}-{1 + max(_attempts(client, base), default=0)}"
            flags = ["--fresh"] * request.fresh + ["--allow-new-space"] * request.allow_new_space
            try:
                _hand_over(client, job, text, [*flags, "--out", out], {OUT: out, SETTINGS: settings}, words)
            except RuntimeError:  # the same command may have been given twice at once
                running = _running(client, out)
                if running is None:
                    raise
        if running is None:
            told = f"submitted as {job} to {server.url}; Ctrl-C detaches, the sweep goes on there"
        elif request.fresh or running.metadata.get(SETTINGS) != settings:
            raise UserError([_busy(out, running.submission_id, server)])
        else:
            job = running.submission_id
            told = f"this sweep runs already, as {job}; Ctrl-C detaches"
        print(plain(told), flush=True)
        return _follow(client, server, job, out)


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
            raise UserError([f"--stop {job}: has ended already ({found.status.value.lower()})"])
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
    if not out.startswith("/") and not is_url(out):
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
    """The job server that is meant; what is wrong with its address, the token and its door is appended."""
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
        problems += _door_problems(Server(url, f"{name} {url}"))
    return Server(url, f"{name} {url}")


@contextlib.contextmanager
def _connected(server: Server, problems: list[str]) -> Iterator[Any]:
    """A client of the job server, which asks for a token. Raises UserError with `problems` and what it says."""
    if problems:
        raise UserError(problems)
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise UserError([_not_installed(error)]) from error
    logging.disable(logging.WARNING)  # Ray's client tells of every upload
    try:
        try:
            with known_token(), _no_other_server():
                client = JobSubmissionClient(server.url)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError([f"{server.who}: is no Ray job server ({_last_line(error)})"]) from error
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


def _running(client: Any, out: str) -> Any:
    """The job at a run directory that has not ended; None where there is none."""
    jobs = (job for job in _sweeps(client) if os.path.normpath(job.metadata[OUT]) == os.path.normpath(out))
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


def _follow(client: Any, server: Server, job: str, out: str) -> int:
    """Show a job's log until it ends; returns its exit code. Ctrl-C tells how to go on and is raised again.

    The log is asked for again and again: a connection that broke, or a machine that slept, changes nothing.
    """
    shown, heard, deaf = 0, time.monotonic(), False
    try:
        while True:
            try:
                found = client.get_job_info(job)  # before the log: what it has at the end is whole
                text = _log(client, found)
                heard = time.monotonic()
            except (RuntimeError, OSError) as error:
                if time.monotonic() - heard > LOST_S:
                    gone = f"{server.who}: does not answer any more ({_last_line(error)}); the sweep may go on there"
                    _tell(gone, server, job, out)
                    return 1
            else:
                try:
                    print(plain(text[shown:]) if not deaf else "", end="", flush=not deaf)
                except BrokenPipeError:  # whoever read has gone; the sweep has not
                    deaf = True
                shown = max(shown, len(text))
                if found.status.is_terminal():
                    return _exit_code(found)
            time.sleep(POLL_S * (1 + shown / LOG_CHARACTERS))
    except KeyboardInterrupt:
        _tell("detached; the sweep goes on there", server, job, out)
        raise


def _log(client: Any, job: Any) -> str:
    try:
        return str(client.get_job_logs(job.submission_id))
    except RuntimeError:
        if job.status.is_terminal():  # its node may be gone
            return ""
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
