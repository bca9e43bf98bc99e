"""Tokens for Ray. Whoever can give a Ray work can run any code as its user, so we use none without a token.

A private Ray gets a token of its own. A cluster that lets in anybody without a token is not joined.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROBE_TIMEOUT_S = 10.0
TOKEN_HINT = "start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, a file of mode 0600 with a random token"
# These variables decide which token this process and its children show and ask for.
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def private_token(folder: Path) -> Iterator[None]:
    """Give a new random token to a Ray that is started in the context.

    The token stands in a file that only this user can read. The environment holds the file's name, and no argument and
    no variable holds the token. Afterwards the settings are restored, since this may be a notebook's process.
    """
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    with _settings({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}):
        yield


@contextlib.contextmanager
def known_token() -> Iterator[None]:
    """Show the user's own token (see `token_problems`) to a Ray that is joined in the context."""
    kept = {name: os.environ[name] for name in TOKEN_VARIABLES if name in os.environ}
    with _settings({**kept, "RAY_AUTH_MODE": "token"}):
        yield


@contextlib.contextmanager
def _settings(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in TOKEN_VARIABLES}
    _set({name: values.get(name) for name in TOKEN_VARIABLES})
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # Ray caches mode and token. The mode comes first, so that no thread of Ray's looks for a token that is gone.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def token_problems(who: str) -> list[str]:
    """Why we have no token to show to a cluster. Ray is not imported for this.

    Args:
        who: What the messages call the cluster.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        return [f"{who}: only a cluster that asks for a token is joined, but got RAY_AUTH_MODE={mode}"]
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return []
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8").strip():
            return []
    return [
        f"{who}: only a cluster that asks for a token is joined, but no token is known here: {path} "
        "is missing or empty; RAY_AUTH_TOKEN_PATH=FILE names another file"
    ]


def cluster_problems(head: str, who: str) -> list[str]:
    """Whether the cluster's head lets in somebody without a token, or does not let us in with ours.

    Args:
        head: The head's address, host:port.
        who: What the messages call the cluster.

    Raises:
        ConnectionError: No head answers at that address.
    """
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if _lets_in(head, {}):
        return [f"{who}: lets in anybody without a token, to run any code as its user; {TOKEN_HINT}"]
    if not _lets_in(head, AuthenticationTokenLoader.instance().get_token_for_http_header()):
        return [f"{who}: asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)"]
    return []


def _lets_in(head: str, headers: Mapping[str, str]) -> bool:
    """Whether the head answers a harmless question that is asked with these headers."""
    import grpc

    try:
        with _channel(head) as channel:
            ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
            metadata = tuple((name.lower(), value) for name, value in headers.items())
            ask(b"", metadata=metadata, timeout=PROBE_TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise ConnectionError(f"no Ray head answers at {head}: {error.code().name}") from error
    return True


def _channel(address: str) -> Any:
    """A channel that shows no token by itself; with TLS, if Ray's TLS is set up."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address, options)
    from ray._common.tls_utils import load_certs_from_env

    chain, key, authority = load_certs_from_env()  # type: ignore[no-untyped-call]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, chain), options)
