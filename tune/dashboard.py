"""Look at a sweep in optuna-dashboard, also while it runs: on this machine alone, and without writing anything.

python -m tune.dashboard runs/mine                 prints the address to open
python -m tune.dashboard runs/mine --port 8090

It needs the extra: pip install "finetune-search[dashboard]"
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import UserError
from trainable.storage.urls import is_url
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready
from tune.run_dir.layout import STUDY, RunDir
from tune.run_dir.study import open_read_only

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ON_LOOPBACK = "127.0.0.1"
PORT = 8080
READING = ("GET", "HEAD")
INSTALL = 'pip install "finetune-search[dashboard]"'


def make_server(run: str, port: int) -> WSGIServer:
    """Open a sweep's study and listen on loopback; `serve_forever` of what is returned answers.

    Args:
        run: The run directory.
        port: The port; 0 takes a free one.

    Raises:
        UserError: There is no study that can be read, the extra is not installed, or the port is taken.
    """
    problems = []
    if is_url(run):
        problems.append(f"{run}: only a folder can be opened; copy {STUDY} and spec.yaml into one, and name that")
    else:
        run_dir = RunDir(Path(run))
        if not run_dir.holds_sweep:
            problems.append(f"{run_dir.root}: holds no sweep (no spec.yaml)")
        elif not run_dir.study_file.is_file():
            problems.append(f"{run_dir.root}: has no {STUDY} yet; ask again when the first trial has begun")
    if importlib.util.find_spec("optuna_dashboard") is None:
        problems.append(f"optuna-dashboard is not installed: {INSTALL}")
    if problems:
        raise UserError(problems)
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer
    from wsgiref.simple_server import make_server as listen

    from optuna_dashboard import wsgi

    class EachInItsThread(ThreadingMixIn, WSGIServer):
        """A browser holds connections open on which it asks nothing yet; and Ctrl-C never falls into an answer."""

        daemon_threads = True

    storage = open_read_only(run_dir.study_file)
    try:
        server = listen(ON_LOOPBACK, port, lambda *asked: [], server_class=EachInItsThread)
    except OSError as error:
        raise UserError([f"--port {port}: {error.strerror or error}; name another one, or 0 for any"]) from error
    server.set_app(only_reading(wsgi(storage), server.server_port))
    return server


def only_reading(app: WSGIApplication, port: int) -> WSGIApplication:
    """Let through what reads, and what was asked of this very address.

    The study can't be written anyway; the dashboard's buttons get an answer that says so. Another host's name would
    come from a page elsewhere whose name was turned to this machine, to read the study through the user's browser.
    """
    hosts = {f"{name}:{port}" for name in (ON_LOOPBACK, "localhost")}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in hosts:
            return refuse(start_response, f"open http://{ON_LOOPBACK}:{port}")
        if environ["REQUEST_METHOD"] not in READING:
            return refuse(start_response, "this view only reads: the sweep alone writes its study")
        return app(environ, start_response)

    return answer


def refuse(start_response: StartResponse, reason: str) -> list[bytes]:
    """Answer that something is not done, with the reason."""
    start_response("403 Forbidden", [("Content-Type", "application/json")])
    return [f'{{"reason": "{reason}"}}'.encode()]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.dashboard",
        description="Look at a sweep in optuna-dashboard, also while it runs, without writing anything.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument("--port", type=_port, default=PORT, help=f"on loopback; 0 for any (default: {PORT})")
    return parser


def _port(given: str) -> int:
    if not given.isdecimal() or not 0 <= int(given) <= 65535:
        raise argparse.ArgumentTypeError(f"must be 0..65535, but got {given!r}")
    return int(given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line until it is interrupted; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    given = make_parser().parse_args(argv)

    def serve() -> int:
        with make_server(given.run, given.port) as server:
            server.RequestHandlerClass = _silent(server.RequestHandlerClass)
            print(f"http://{ON_LOOPBACK}:{server.server_port} shows {given.run}; Ctrl-C ends it", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
        return 0

    return exit_code_of(serve)


def _silent(handler: Callable[..., Any]) -> type[Any]:
    """The handler without a line for each request."""
    return type("SilentHandler", (handler,), {"log_message": lambda *line: None})  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
