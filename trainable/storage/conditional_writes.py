"""Writes of one object that fail where another process has written it meanwhile; pyarrow has none.

Amazon S3, Google Cloud Storage and Azure have them, and so do many stores that speak S3's protocol.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from trainable.storage.request_timeout import answered

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

PROFILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
CLIENT: dict[str, Any] = {
    "client_options": {"timeout": "30s", "connect_timeout": "10s", "allow_http": True},
    "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
}


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn the errors of the store's client into OSErrors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, str(error).strip().partition("\n")[0]) from error


class ConditionalObject:
    """An object that this process writes only while nobody else has written it."""

    def __init__(self, client: Client, key: str) -> None:
        """Address an object; nothing is asked for yet.

        Args:
            client: The store.
            key: The object's key in it.
        """
        self._client = client
        self._key = key
        self._version: str | None = None

    def look(self) -> None:
        """Take what is there now, which may be nothing, for what may be overwritten. Raises OSError."""
        import obstore

        with _as_os_errors():
            try:
                self._version = answered(lambda: obstore.head(self._client, self._key)["e_tag"])
            except FileNotFoundError:
                self._version = None

    def write(self, text: str) -> bool:
        """Write the object.

        Returns:
            Whether it was written: False where it is another one than this process has last seen or written.

        Raises:
            OSError: The store refuses, or has no such writes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        condition: Any = "create" if self._version is None else {"e_tag": self._version}

        def put() -> str | None:
            return obstore.put(self._client, self._key, text.encode(), mode=condition)["e_tag"]

        with _as_os_errors():
            try:
                self._version = answered(put)
            except FileNotFoundError:
                return False
            except (AlreadyExistsError, PreconditionError):
                return self._is(text)
        return True

    def _is(self, text: str) -> bool:
        """Whether the text is there: where an answer was lost, the client has asked again, and met its own write."""
        import obstore

        def get() -> tuple[bytes, str | None]:
            found = obstore.get(self._client, self._key)
            return bytes(found.bytes()), found.meta["e_tag"]

        try:
            content, version = answered(get)
        except FileNotFoundError:
            return False
        if content == text.encode():
            self._version = version
        return content == text.encode()

    def keeps_conditions(self) -> bool:
        """Whether the store refuses to make the written object anew: some take a condition and don't look at it.

        Raises:
            OSError: The store does not answer.
        """
        known, self._version = self._version, None
        try:
            return known is not None and not self.write("")
        finally:
            self._version = known


def conditional_object(url: str, name: str) -> ConditionalObject | None:
    """The object of that name below a run directory's URL; None where no such store is known to have conditions.

    Args:
        url: As pyarrow opens it.
        name: Of an object directly below it.

    Raises:
        OSError: The store's client can't be made from this URL.
    """
    parts = urlsplit(url)
    open_client = CLIENTS.get(parts.scheme)
    if open_client is None:
        return None
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    with _as_os_errors():
        client, prefix = open_client(parts.netloc, parts.path.strip("/"), options)
    return ConditionalObject(client, f"{prefix}/{name}" if prefix else name)


def _amazon(bucket: str, prefix: str, options: dict[str, str]) -> tuple[Client, str]:
    from obstore.store import S3Store

    config: Any = {}
    if "endpoint_override" in options:
        endpoint = options["endpoint_override"]
        whole = endpoint.startswith(("http:", "https:"))
        config["endpoint"] = endpoint if whole else urlunsplit((options.get("scheme", "https"), endpoint, "", "", ""))
    if (region := options.get("region") or _region_of(bucket, options)) is not None:
        config["region"] = region
    # obstore itself reads the environment and what the machine was given, but no profile.
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        if find_spec("boto3") is not None:
            from obstore.auth.boto3 import Boto3CredentialProvider

            config["credential_provider"] = Boto3CredentialProvider()
        elif any(Path(os.environ.get(name, file)).expanduser().exists() for name, file in PROFILES.items()):
            raise OSError(errno.ENOTSUP, "keys of a profile; boto3 would read it")
    return S3Store(bucket, **CLIENT, **config), prefix


def _region_of(bucket: str, options: dict[str, str]) -> str | None:
    """The region of a bucket of Amazon's, as Amazon says without being shown a key."""
    if "endpoint_override" in options:
        return None
    from pyarrow.fs import resolve_s3_region

    return answered(lambda: str(resolve_s3_region(bucket)))


def _google(bucket: str, prefix: str, options: dict[str, str]) -> tuple[Client, str]:
    from obstore.store import GCSStore

    if "endpoint_override" in options:
        raise OSError(errno.ENOTSUP, "another endpoint than Google's own")
    return GCSStore(bucket, **CLIENT), prefix


def _azure(where: str, path: str, options: dict[str, str]) -> tuple[Client, str]:
    from obstore.store import AzureStore

    container, _, account = where.rpartition("@")
    if not container or options:
        raise OSError(errno.ENOTSUP, "a URL that is not container@account")
    return AzureStore(container, account_name=account.partition(".")[0], **CLIENT), path


CLIENTS: dict[str, Callable[[str, str, dict[str, str]], tuple[Client, str]]] = {
    "s3": _amazon, "gs": _google, "gcs": _google, "abfs": _azure, "abfss": _azure,
}  # fmt: skip
