"""No Ray without a token: a private one gets its own, and one that lets in anybody is not joined. No keys in logs."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROBE_TIMEOUT_S = 10.0
HOW_TO = "start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, a file of mode 0600 with a random token"
# All that decides which token this process and its children show and ask for.
SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def private_token(folder: Path) -> Iterator[None]:
    """A new random token for a Ray that is started in the context, in a file that only this user can read.

    It stands in no argument and in no environment: that has the file's name alone. Afterwards the settings are as
    they were, for this may be a notebook's process.
    """
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    with _settings({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}):
        yield


@contextlib.contextmanager
def known_token() -> Iterator[None]:
    """Show the token that this user has (see `token_problems`) to a Ray that is joined in the context."""
    kept = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    with _settings({**kept, "RAY_AUTH_MODE": "token"}):
        yield


@contextlib.contextmanager
def _settings(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in SETTINGS}
    _set({name: values.get(name) for name in SETTINGS})
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
    # Ray keeps both: first the mode, so that no thread of its looks for a token that is gone.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def no_keys_in_actors() -> Iterator[None]:
    """Keep Tune from copying AWS's keys into its actors' environments, which stand in Ray's logs and its head.

    A private Ray's workers have this process's environment anyway; what a cluster's have is its owner's business.
    """
    from ray.tune.execution import class_cache

    before = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in before if not name.startswith("AWS_")}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = before


def token_problems(who: str) -> list[str]:
    """Why there is nothing to show to a cluster that messages call by that name; found without importing Ray."""
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
    """What is wrong where the head at host:port answers somebody without a token, or not us with ours.

    who: how the message calls the cluster. Raises ConnectionError where no head answers there.
    """
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if _answers(head, {}):
        return [f"{who}: lets in anybody without a token, to run any code as its user; {HOW_TO}"]
    if not _answers(head, AuthenticationTokenLoader.instance().get_token_for_http_header()):
        return [f"{who}: asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)"]
    return []


def _answers(head: str, shown: Mapping[str, str]) -> bool:
    import grpc

    try:
        with _channel(head) as channel:
            ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
            metadata = tuple((name.lower(), value) for name, value in shown.items())
            ask(b"", metadata=metadata, timeout=PROBE_TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise ConnectionError(f"no Ray head answers at {head}: {error.code().name}") from error
    return True


def _channel(address: str) -> Any:
    """A channel that shows no token, with Ray's TLS where that is set up."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address, options)
    from ray._common.tls_utils import load_certs_from_env

    chain, key, authority = load_certs_from_env()  # type: ignore[no-untyped-call]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, chain), options)
