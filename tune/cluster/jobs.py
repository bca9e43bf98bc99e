"""Run a sweep as a job of a Ray cluster: submit it, attach to it again, stop it.

The driver of such a sweep runs on the cluster's head. It does not need the machine that submitted it any more.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import UserError
from trainable.redaction import plain
from trainable.storage.urls import is_url
from tune.cluster.job_log import follow
from tune.cluster.job_server import Server, connected_to, find_server
from tune.process.restart import COMMAND, continuing_command
from tune.process.signals import STOP_LIMIT_S
from tune.spec.field_types import flag_name
from tune.spec.flags import Request
from tune.spec.sweep_spec import spec_as_yaml_values
from tune.spec.yaml_file import write_yaml

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

SPEC_FILE = "sweep.yaml"  # the only file that is sent with a job
OUT_KEY, SETTINGS_KEY = "finetune_search_out", "finetune_search_settings"  # keys of a job's metadata
STOP_WAIT_S = int(STOP_LIMIT_S) + 8  # Ray's default of 3 s is too short for a driver to write what it has
STOP_POLL_S = 1.0
MAX_KNOWN = 10  # jobs that a message lists


def submit(request: Request, words: Sequence[str], problems: list[str]) -> int:
    """Submit a sweep to a cluster and follow it to its end; returns the exit code.

    If the same sweep runs already in that run directory, it is followed instead.

    Args:
        request: What the user asked for.
        words: The command line.
        problems: What is known to be wrong already.

    Raises:
        UserError: Something is wrong; nothing was submitted.
    """
    out = str(request.out)
    problems += _problems_on_a_cluster(request, out)
    server = find_server(request.submit, problems)
    with connected_to(server, problems) as client:
        text = write_yaml(_spec_to_send(request))
        settings = hashlib.sha256(text.encode()).hexdigest()
        running = _running(client, out)
        if running is None:
            base = _base_id(request.spec.name, out)
            job = f"{base}-{1 + max(_attempts(client, base), default=0)}"
            flags = ["--fresh"] * request.fresh + ["--allow-new-space"] * request.allow_new_space
            try:
                _hand_over(client, job, text, [*flags, "--out", out], {OUT_KEY: out, SETTINGS_KEY: settings}, words)
            except RuntimeError:  # somebody may have given the same command at the same time
                running = _running(client, out)
                if running is None:
                    raise
        if running is None:
            told = f"submitted as {job} to {server.url}; Ctrl-C detaches, the sweep goes on there"
        else:
            job = str(running.submission_id)
            if request.fresh or _metadata(running).get(SETTINGS_KEY) != settings:
                raise UserError([_other_sweep_runs(out, job, server)])
            told = f"this sweep runs already, as {job}; Ctrl-C detaches"
        print(plain(told), flush=True)
        return follow(client, server, job, out)


def attach(job: str, address: str | None) -> int:
    """Follow a sweep that was submitted, from the beginning of its log; returns its exit code."""
    problems: list[str] = []
    server = find_server(address, problems)
    with connected_to(server, problems) as client:
        found = _find(client, server, "--attach", job)
        return follow(client, server, job, _metadata(found)[OUT_KEY])


def stop(job: str, address: str | None) -> int:
    """Ask a sweep to stop, and wait until it has written what it has; returns the exit code."""
    problems: list[str] = []
    server = find_server(address, problems)
    with connected_to(server, problems) as client:
        found = _find(client, server, "--stop", job)
        if found.status.is_terminal():
            raise UserError([f"--stop {job}: has ended already ({found.status.value.lower()})"])
        asked = False
        while not client.get_job_info(job).status.is_terminal():
            asked = asked or client.stop_job(job)  # False as long as the job has not begun
            time.sleep(STOP_POLL_S)
        succeeded = client.get_job_info(job).status.value == "SUCCEEDED"
    if succeeded:
        print(plain(f"it finished before it could be stopped; its result is in {_metadata(found)[OUT_KEY]}"))
        return 0
    print(plain(f"stopped; what is finished is kept in {_metadata(found)[OUT_KEY]}, and its command goes on"))
    return 0


# What is submitted


def _problems_on_a_cluster(request: Request, out: str) -> list[str]:
    """Paths that only this machine, or this working directory, knows."""
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
                f"{flag_name(name)} {value}: is a path on this machine; give an absolute path that all of the "
                "cluster's nodes share, or a name on the hub"
            )
    return problems


def _spec_to_send(request: Request) -> dict[str, object]:
    """The resolved specification. The cluster's address is left out: on the cluster it is always `auto`."""
    values = {**spec_as_yaml_values(request.spec), "name": request.spec.name}
    values.pop("address", None)
    return values


def _hand_over(
    client: JobSubmissionClient,
    job: str,
    spec: str,
    flags: Sequence[str],
    metadata: dict[str, str],
    words: Sequence[str],
) -> None:
    """Submit the job. It runs the cluster's own installation of this project, and the spec is its only file.

    Nothing of this process's environment is sent: the cluster must have its own hub token and keys.
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


# Which jobs there are


def _base_id(name: str, out: str) -> str:
    """The part of a job's ID that all attempts at one run directory share."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "sweep"
    return f"{word}-{hashlib.sha256(os.path.normpath(out).encode()).hexdigest()[:8]}"


def _attempts(client: JobSubmissionClient, base: str) -> list[int]:
    """The numbers of the attempts that were submitted before."""
    numbers = (re.fullmatch(rf"{re.escape(base)}-(\d+)", str(job.submission_id)) for job in _sweeps(client))
    return [int(match[1]) for match in numbers if match]


def _running(client: JobSubmissionClient, out: str) -> JobDetails | None:
    """The job that is at work in a run directory; None if there is none."""
    jobs = (job for job in _sweeps(client) if os.path.normpath(_metadata(job)[OUT_KEY]) == os.path.normpath(out))
    return next((job for job in jobs if not job.status.is_terminal()), None)


def _sweeps(client: JobSubmissionClient) -> list[JobDetails]:
    """The jobs that are sweeps, newest first."""
    found = [job for job in client.list_jobs() if job.submission_id and OUT_KEY in _metadata(job)]
    return sorted(found, key=lambda job: -(job.start_time or 0))


def _metadata(job: JobDetails) -> dict[str, str]:
    return job.metadata or {}


def _find(client: JobSubmissionClient, server: Server, flag: str, wanted: str) -> JobDetails:
    """The sweep with that ID; raises UserError with the IDs that are known."""
    sweeps = _sweeps(client)
    for job in sweeps:
        if job.submission_id == wanted:
            return job
    listed = "".join(
        f"\n  {job.submission_id}  {job.status.value.lower()}  {_metadata(job)[OUT_KEY]}" for job in sweeps
    )
    known = "known:" + "\n".join(listed.split("\n")[: MAX_KNOWN + 1]) if sweeps else "none was submitted there"
    raise UserError([f"{flag} {wanted}: no such sweep at {server.url}; {known}"])


def _other_sweep_runs(out: str, job: str, server: Server) -> str:
    return (
        f"--out {out}: another command's sweep is running there, as {job}; follow it with --attach {job}, or stop it "
        f"first with --stop {job} (--submit {server.url})"
    )
