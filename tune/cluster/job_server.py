"""The job server of a Ray cluster: which one is meant, whether it asks for a token, and a client of it."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from trainable.errors import SweepFailed, UserError, shown
from trainable.redaction import one_line
from tune.cluster.auth import PROBE_TIMEOUT_S, TOKEN_HINT, known_token, token_problems

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_SERVER = "http://127.0.0.1:8265"
SERVER_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class Server(NamedTuple):
    """A job server."""

    url: str
    who: str
    """What messages call it: the flag or the variable that named it, and its URL."""


def find_server(given: str | None, problems: list[str]) -> Server:
    """The job server that the user means: the one that is given, else the environment's, else the tunnel's.

    What is wrong with its address, with our token or with its door is appended to `problems`.
    """
    variable = next((name for name in SERVER_VARIABLES if os.environ.get(name)), None)
    if given or variable is None:
        named_by, text = "--submit", given or DEFAULT_SERVER
    else:
        named_by, text = variable, os.environ[variable]
    url = (text if "://" in text else f"http://{text}").rstrip("/")
    server = Server(url, f"{named_by} {url}")
    if not _is_address(url):
        problems.append(f"{named_by} must be a job server's address, like {DEFAULT_SERVER}, but got {shown(text)}")
    else:
        problems += token_problems(server.who)
        problems += _door_problems(server)
    return server


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query)
        return bool(fits) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _door_problems(server: Server) -> list[str]:
    """What is wrong if the server answers somebody without a token, or if no job server answers.

    urllib and not requests, because requests would show a password from ~/.netrc, and hides the reason of a failed
    connection in nested errors.
    """
    try:
        with urllib.request.urlopen(f"{server.url}/api/version", timeout=PROBE_TIMEOUT_S) as answer:
            is_job_server = "ray_version" in answer.read(10_000).decode(errors="replace")
            reason = "another HTTP server"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return []
        is_job_server, reason = False, f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        is_job_server, reason = False, getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if is_job_server:
        return [f"{server.who}: lets in anybody without a token, to run any code as its user; {TOKEN_HINT}"]
    hint = "is the cluster running, and the tunnel open (ray dashboard CLUSTER.yaml)?"
    return [f"{server.who}: no Ray job server answers there ({one_line(reason)}); {hint}"]


@contextlib.contextmanager
def connected_to(server: Server, problems: list[str]) -> Iterator[JobSubmissionClient]:
    """Give a client of the job server, which shows the user's token.

    Raises:
        UserError: There are `problems` already, or the server refuses us or is none.
        SweepFailed: The server stopped answering.
    """
    if problems:
        raise UserError(problems)
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise UserError([_not_installed(error)]) from error
    logging.disable(logging.WARNING)  # Ray's client logs every upload
    try:
        try:
            with known_token(), _no_server_in_environment():
                client = JobSubmissionClient(server.url)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError([f"{server.who}: is no Ray job server ({last_line(error)})"]) from error
        yield client
    except AuthenticationError as error:
        wrong = "asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)"
        raise UserError([f"{server.who}: {wrong}"]) from error
    except RuntimeError as error:
        if "ray[default]" in str(error):
            raise UserError([_not_installed(error)]) from error
        raise UserError([f"{server.who}: refuses ({last_line(error)})"]) from error
    except OSError as error:
        raise SweepFailed(
            f"{server.who}: does not answer any more ({last_line(error)}); give the command again"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _no_server_in_environment() -> Iterator[None]:
    """Hide the variables that Ray's client would prefer to the address that we give it."""
    before = {name: os.environ.pop(name) for name in SERVER_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _not_installed(error: Exception) -> str:
    return f"--submit: Ray's job client is not whole here ({error}); pip install 'finetune-search[cluster]'"


def last_line(error: BaseException) -> str:
    """The last line of an error's message: if it holds a traceback, that line says what is wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
