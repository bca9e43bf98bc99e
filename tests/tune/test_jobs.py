"""`--submit`, `--attach` and `--stop` against a fake job server: what is sent, printed and returned."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tune.job_server import TOKEN, FakeJob, FakeServer, fake_job_server
from tests.tune.test_end_to_end import ROOT
from tune.cluster import job_log, job_server, jobs
from tune.cluster.auth import TOKEN_HINT, TOKEN_VARIABLES
from tune.cluster.job_server import SERVER_VARIABLES
from tune.process.restart import COMMAND, continuing_command
from tune.process.signals import STOP_LIMIT_S
from tune.search import main
from tune.spec.flags import parse
from tune.spec.sources import given_from_file
from tune.spec.sweep_spec import build_spec

OUT = "/shared/runs/mrpc"
FLAGS = ["--preset", "mrpc", "--confirm", "none", "--num-trials", "4", "--out", OUT]


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a token. The environment names the file and sets nothing else about tokens and servers."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    for name in (*TOKEN_VARIABLES, *SERVER_VARIABLES, COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.setattr(job_log, "LOG_EVERY_S", 0.02)
    monkeypatch.setattr(jobs, "STOP_POLL_S", 0.02)
    return path


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_job_server() as found:
        found.begin = {"status": "SUCCEEDED", "log": "one\ntwo\n"}
        yield found


def submit(server: FakeServer, *more: str) -> int:
    return main([*FLAGS, *more, "--submit", server.url])


def test_what_travels_is_the_resolved_sweep_alone(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "points.json").write_text('[{"learning_rate": 3e-5, "epochs": 3}]')
    (tmp_path / "mine.yaml").write_text("preset: mrpc\nname: my sweep\nspace:\n  epochs: 2..3\n")
    words = ["mine.yaml", "--submit", server.url, "--points", "points.json", "--out", "/shared/a run", "--fresh"]
    assert main(words) == 0
    (name,) = server.jobs
    request = server.jobs[name].request
    assert re.fullmatch(r"my-sweep-[0-9a-f]{8}-1", name)
    assert request["entrypoint"] == (
        "exec python -m tune.search sweep.yaml --address auto --fresh --out '/shared/a run'"
    )
    assert request["entrypoint_num_cpus"] == 0
    assert request["runtime_env"]["env_vars"] == {
        "RAY_JOB_STOP_WAIT_TIME_S": str(jobs.STOP_WAIT_S), COMMAND: continuing_command(words),
    }  # fmt: skip
    files = server.files_of(name)
    assert list(files) == ["sweep.yaml"]
    sent = json.dumps(request) + str(files)
    assert "hf_secret_of_mine" not in sent
    assert TOKEN not in sent

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "sweep.yaml").write_text(files["sweep.yaml"])
    problems: list[str] = []
    there = build_spec(given_from_file(tmp_path / "there" / "sweep.yaml", problems), problems)
    here = parse([word for word in words if word not in ("--submit", server.url)], problems).spec
    assert (there, problems) == (here, [])
    assert [point.named() for point in there.points] == [{"learning_rate": 3e-5, "epochs": 3}]
    out = capsys.readouterr().out
    assert out == f"submitted as {name} to {server.url}; Ctrl-C detaches, the sweep goes on there\none\ntwo\n"
    assert server.tokens == {f"Bearer {TOKEN}"}


def test_the_driver_has_time_to_end_in_order() -> None:
    assert jobs.STOP_WAIT_S >= STOP_LIMIT_S + 5


def test_a_driver_that_is_a_job_tells_the_command_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = continuing_command(["s.yaml", "--submit", "--fresh"])
    assert typed == "python -m tune.search s.yaml --submit"
    monkeypatch.setenv(COMMAND, typed)
    assert continuing_command(["sweep.yaml", "--address", "auto"]) == typed


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        ({"status": "SUCCEEDED"}, 0, ""),
        ({"status": "FAILED", "exit_code": 1}, 1, ""),
        ({"status": "FAILED", "exit_code": 2, "log": "no such folder\n"}, 2, ""),
        ({"status": "FAILED", "exit_code": -9}, 137, "the driver was killed by signal 9; the same command goes on\n"),
        ({"status": "STOPPED"}, 143, "stopped; the same command goes on\n"),
        ({"status": "FAILED", "message": "runtime_env\x1b[2J setup failed"}, 1,
         "the job failed: runtime_env\\x1b[2J setup failed\n"),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_jobs(
    server: FakeServer, job: dict[str, Any], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.begin = job
    assert submit(server) == code
    captured = capsys.readouterr()
    assert captured.err == said
    assert captured.out.endswith(job.get("log", "goes on there\n"))


def test_the_same_command_again_follows_what_runs_and_goes_on_with_what_ended(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server) == 0
    server.begin = {"status": "RUNNING", "log": "second\n"}
    ends = threading.Timer(0.5, lambda: setattr(next(reversed(server.jobs.values())), "status", "SUCCEEDED"))
    ends.start()
    assert submit(server) == 0
    ends.join()
    first, second = server.jobs
    assert second == first.removesuffix("1") + "2"

    server.jobs[second].status = "RUNNING"
    capsys.readouterr()
    ends = threading.Timer(0.5, lambda: setattr(server.jobs[second], "status", "SUCCEEDED"))
    ends.start()
    assert main([*FLAGS[:-1], "/shared/runs/./mrpc", "--submit", server.url]) == 0
    ends.join()
    assert capsys.readouterr().out == f"this sweep runs already, as {second}; Ctrl-C detaches\nsecond\n"
    assert list(server.jobs) == [first, second]

    server.jobs[second].status = "PENDING"
    for change in (["--fresh"], ["--confirm", "none", "--num-trials", "9"], ["--set", "name=other"]):
        assert submit(server, *change) == 2
        assert capsys.readouterr().err == (
            f"--out {OUT}: another command's sweep is running there, as {second}; follow it with --attach {second}, or "
            f"stop it first with --stop {second} (--submit {server.url})\nNothing was started. See --help.\n"
        )
    assert list(server.jobs) == [first, second]


def test_two_commands_at_once_make_one_job(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = jobs._attempts

    def late(client: Any, base: str) -> list[int]:
        found = attempts(client, base)
        server.begin["status"] = "RUNNING"
        threading.Timer(0.5, lambda: setattr(next(iter(server.jobs.values())), "status", "SUCCEEDED")).start()
        other = dict(jobs_of_the_first)
        server.jobs[f"{base}-1"] = FakeJob(other, 0, "RUNNING", "its log\n")
        return found

    assert submit(server) == 0
    ((name, first),) = server.jobs.items()
    jobs_of_the_first = first.request
    server.jobs.clear()
    monkeypatch.setattr(jobs, "_attempts", late)
    assert submit(server) == 0
    assert list(server.jobs) == [name]


def test_a_log_is_shown_once_as_it_grows_whatever_breaks(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"line {n} \x1b[31m\n" for n in range(7)]
    server.begin = {"status": "RUNNING", "log": lines[0]}

    def go_on() -> None:
        (job,) = server.jobs.values()
        for line in lines[1:]:
            job.breaks = 2
            time.sleep(0.1)
            job.log += line
        job.status = "SUCCEEDED"

    timer = threading.Timer(0.5, go_on)
    timer.start()
    assert submit(server) == 0
    timer.join()
    shown = capsys.readouterr().out.splitlines()[1:]
    assert shown == [line.strip().replace("\x1b", "\\x1b") for line in lines]


def test_a_log_that_went_with_its_node_does_not_hide_the_end(server: FakeServer) -> None:
    server.begin = {"status": "FAILED", "exit_code": 3, "breaks": 100}
    assert submit(server) == 3


def test_a_server_that_goes_away_is_given_up_and_the_sweep_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job_log, "GIVE_UP_AFTER_S", 0.3)
    follow = jobs.follow
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fake_job_server())
        server.begin = {"status": "RUNNING", "log": "one\n"}

        def gone(*arguments: Any) -> int:
            stack.close()
            return follow(*arguments)

        monkeypatch.setattr(jobs, "follow", gone)
        assert submit(server) == 1
    (name,) = server.jobs
    err = capsys.readouterr().err
    assert f"--submit {server.url}: does not answer any more (" in err
    assert "the sweep may go on there" in err
    assert f"--attach {name} --submit {server.url}" in err


def client(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tune.search", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ctrl_c_detaches_and_stops_nothing(server: FakeServer, number: int, code: int) -> None:
    server.begin = {"status": "RUNNING", "log": "trial 0 started\n"}
    process = client(*FLAGS, "--submit", server.url)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("submitted as ")
    assert process.stdout.readline() == "trial 0 started\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    (name,) = server.jobs
    assert (process.returncode, out) == (code, "")
    assert err.splitlines() == [
        "",
        "detached; the sweep goes on there",
        f"attach again  python -m tune.search --attach {name} --submit {server.url}",
        f"stop it       python -m tune.search --stop {name} --submit {server.url}",
        f"its state     python -m tune.search --status {OUT}   (where that is to be read)",
        f"results       {OUT}",
    ]
    assert server.stops == []
    assert server.jobs[name].status == "RUNNING"
    for line in err.splitlines()[2:4]:
        assert parse(shlex.split(line.partition("tune.search ")[2]), []).action is not None


def test_a_closed_pipe_ends_the_showing_only(server: FakeServer) -> None:
    server.begin = {"status": "RUNNING", "log": "first\n"}
    process = client(*FLAGS, "--submit", server.url)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("submitted as ")
    process.stdout.close()
    (job,) = server.jobs.values()
    job.log += "second\n"
    time.sleep(0.5)
    job.exit_code, job.status = 1, "FAILED"
    process.wait(timeout=20)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_attach_shows_the_log_from_its_beginning(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.begin = {"status": "FAILED", "exit_code": 2, "log": "one\ntwo\n"}
    submit(server)
    (name,) = server.jobs
    capsys.readouterr()
    assert main(["--attach", name, "--submit", server.url]) == 2
    assert capsys.readouterr() == ("one\ntwo\n", "")


def test_an_unknown_sweep_lists_those_that_are_known(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--attach", "--stop"):
        assert main([flag, "x", "--submit", server.url]) == 2
        assert capsys.readouterr().err == f"{flag} x: no such sweep at {server.url}; none was submitted there\n"
    submit(server)
    (name,) = server.jobs
    request = {**server.jobs[name].request}
    server.jobs["not-ours"] = FakeJob({**request, "metadata": {}}, 1)
    for number in range(2, 14):
        server.jobs[f"{name[:-1]}{number}"] = FakeJob(request, number)
    capsys.readouterr()
    assert main(["--attach", "not-ours", "--submit", server.url]) == 2
    head, *listed = capsys.readouterr().err.splitlines()
    assert head == f"--attach not-ours: no such sweep at {server.url}; known:"
    assert listed[0] == f"  {name[:-1]}13  running  {OUT}"
    assert len(listed) == 10


def test_stop_asks_and_waits(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    submit(server)
    (name,) = server.jobs
    capsys.readouterr()
    assert main(["--stop", name, "--submit", server.url]) == 2
    assert capsys.readouterr().err == f"--stop {name}: has ended already (succeeded)\n"
    server.jobs[name].status = "RUNNING"
    assert main(["--stop", name, "--submit", server.url]) == 0
    assert server.stops == [name]
    assert capsys.readouterr().out == f"stopped; what is finished is kept in {OUT}, and its command goes on\n"


def test_a_job_that_ended_by_itself_was_not_stopped(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    submit(server)
    (name,) = server.jobs
    server.jobs[name].status = "RUNNING"
    server.stopped_as = "SUCCEEDED"
    capsys.readouterr()
    assert main(["--stop", name, "--submit", server.url]) == 0
    assert capsys.readouterr().out == f"it finished before it could be stopped; its result is in {OUT}\n"


# What is refused


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_sent(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    words = [
        "--dataset", "data", "--model", "./bert",
        "--confirm", "none", "--num-trials", "0", "--space", "epochs=2..x", "--set", "num_cpus=3",
        "--out", "runs/a",
    ]  # fmt: skip
    assert main([*words, "--submit", server.url]) == 2
    told = capsys.readouterr().err
    for said in (
        "6 problems:",
        "--num-trials must be",
        "--space epochs=2..x: ",
        "num_cpus is what a private local Ray offers",
        "--out runs/a: what is submitted runs elsewhere; give an absolute path that all of the cluster's nodes share, "
        "or s3://BUCKET/PREFIX",
        "--dataset data: is a path on this machine; give an absolute path that all of the cluster's nodes share, or a "
        "name on the hub",
        "--model ./bert: is a path on this machine; ",
    ):
        assert said in told
    assert not server.jobs
    assert not server.tokens


def test_without_out_the_default_is_refused(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--submit", server.url]) == 2
    assert "--out runs/demo: what is submitted runs elsewhere" in capsys.readouterr().err
    assert main(["--submit", server.url, "--out", "s3://bucket/runs/a"]) == 0
    (job,) = server.jobs.values()
    assert job.request["entrypoint"].endswith("--out s3://bucket/runs/a")
    assert job.request["metadata"][jobs.OUT_KEY] == "s3://bucket/runs/a"


def refusal(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*FLAGS, *words]) == 2
    return capsys.readouterr().err.removesuffix("\nNothing was started. See --help.\n")


@pytest.mark.parametrize(
    "address", ["ftp://host:8265", "http://", "http://me:secret@host:8265", "http://host:99999", "ray://host:10001"]
)
def test_an_address_that_is_none_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal("--submit", address, capsys=capsys)
    shown = address.replace("me:secret", "***")
    assert told == f"--submit must be a job server's address, like http://127.0.0.1:8265, but got {shown!r}"


def test_nothing_that_listens(capsys: pytest.CaptureFixture[str]) -> None:
    said = "no Ray job server answers there (Connection refused); is the cluster running, and the tunnel open"
    assert refusal("--submit", "127.0.0.1:1", capsys=capsys).startswith(f"--submit http://127.0.0.1:1: {said}")


@pytest.mark.parametrize("answers", ["an HTTP server", "nothing", "no HTTP"])
def test_what_is_no_job_server(
    answers: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_server, "PROBE_TIMEOUT_S", 0.3)
    if answers == "an HTTP server":

        class Other(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(404)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        with HTTPServer(("127.0.0.1", 0), Other) as other:
            threading.Thread(target=other.handle_request).start()
            url = f"http://127.0.0.1:{other.server_port}"
            told, reason = refusal("--submit", url, capsys=capsys), "HTTP 404"
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def speak() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"\0\1\2\r\n\r\n") if answers == "no HTTP" else time.sleep(1)

            thread = threading.Thread(target=speak)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            told = refusal("--submit", url, capsys=capsys)
            reason = "timed out" if answers == "nothing" else "\\x00\\x01\\x02\\x0d"
            thread.join()
    assert told.startswith(f"--submit {url}: no Ray job server answers there ({reason})") or answers == "no HTTP"
    assert "no Ray job server answers there (" in told


def test_a_server_that_lets_in_anybody_gets_nothing(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.asks_for_token = False
    told = refusal("--submit", server.url, capsys=capsys)
    assert told == f"--submit {server.url}: lets in anybody without a token, to run any code as its user; {TOKEN_HINT}"
    assert not server.jobs
    assert not server.tokens


@pytest.mark.parametrize("version", [{"ray_version": "1"}, {}, [], {"ray_version": None}])
def test_a_server_of_another_kind_behind_the_same_door(
    server: FakeServer, version: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.version = version
    told = refusal("--submit", server.url, capsys=capsys)
    assert told.startswith(
        f"--submit {server.url}: {'refuses' if version == {'ray_version': '1'} else 'is no Ray job'}"
    )
    assert not server.jobs


def test_another_token_is_told(server: FakeServer, token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token.write_text("b" * 64)
    wrong = "asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)"
    assert refusal("--submit", server.url, capsys=capsys) == f"--submit {server.url}: {wrong}"
    token.write_text("")
    wrong = "only a cluster that asks for a token is joined, but no token is known here"
    assert refusal("--submit", server.url, capsys=capsys).startswith(f"--submit {server.url}: {wrong}")


@pytest.mark.parametrize("name", SERVER_VARIABLES)
def test_the_environment_names_a_server_and_the_command_line_wins(
    server: FakeServer, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, server.url)
    assert main([*FLAGS, "--submit"]) == 0
    assert os.environ[name] == server.url
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert main([*FLAGS, "--submit", server.url]) == 0
    assert len(server.jobs) == 2
    assert refusal("--submit", capsys=capsys).startswith(f"{name} http://127.0.0.1:1: no Ray job server answers there")


def test_a_client_that_is_not_installed_whole(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "pip install 'finetune-search[cluster]'"
    monkeypatch.setattr("ray.dashboard.modules.job.sdk.requests", None)
    assert refusal("--submit", server.url, capsys=capsys).endswith(hint)
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    assert refusal("--submit", server.url, capsys=capsys).endswith(hint)


def test_what_the_server_refuses_is_told(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("Request failed with status code 500: Traceback\nTimeoutError: no head node agent")

    monkeypatch.setattr(jobs, "_hand_over", refuse)
    told = refusal("--submit", server.url, capsys=capsys)
    assert told == f"--submit {server.url}: refuses (TimeoutError: no head node agent)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attach", "x", "--seed", "3"], "--attach goes with --submit ADDRESS alone; leave out --seed"),
        (["--stop", "x", "s.yaml"], "--stop goes with --submit ADDRESS alone; leave out 's.yaml'"),
        (["--stop"], "--stop needs a value"),
        (["--submit", "--address", "auto"], "give --submit or --address, not both"),
    ],
)
def test_flags_that_do_not_go_together(words: list[str], said: str) -> None:
    problems: list[str] = []
    parse(words, problems)
    assert any(problem.startswith(said) for problem in problems), problems


def test_a_spec_may_follow_submit(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("preset: mrpc\nnum_trials: 3\n")
    for words in (["--submit", str(tmp_path / "s.yaml")], [str(tmp_path / "s.yaml"), "--submit"]):
        problems: list[str] = []
        request = parse(words, problems)
        assert (request.submit, request.spec.num_trials, request.spec.address, problems) == ("", 3, "auto", [])
    assert parse(["--submit", "host:8265"], []).submit == "host:8265"
    assert parse(["--submit=https://host"], []).submit == "https://host"
