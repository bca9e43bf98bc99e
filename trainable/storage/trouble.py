"""Which errors mean that the storage is full, read-only or broken."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator

from trainable.errors import FinetuneSearchError, StorageFailed

STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.ESTALE,
)  # fmt: skip
# Ray, SQLAlchemy and others pass on only the text of such an error.
STORAGE_WORDS = ("disk is full", "disk I/O error", "readonly database", "unable to open database", "No space left")


def storage_trouble(error: BaseException) -> str | None:
    """Why something could not be written, in words; None if the error and its causes are of another kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in STORAGE_ERRNOS:
            return f"{cause.filename or 'a file'}: {cause.strerror}"
        if any(word in str(cause) for word in STORAGE_WORDS):
            return str(cause).strip().splitlines()[0]
        cause = cause.__cause__ or cause.__context__
    return None


@contextlib.contextmanager
def storage_told(where: object) -> Iterator[None]:
    """Turn an error of a full, broken or read-only storage into StorageFailed, which tells the user `where`."""
    try:
        yield
    except FinetuneSearchError:
        raise
    except Exception as error:
        reason = storage_trouble(error)
        if reason is None:
            raise
        raise StorageFailed(f"can't write to {where} ({reason}); what is finished is kept there") from error


def storage_failed() -> bool:
    """Whether the exception that is being handled right now says that something could not be written or read.

    A context that is left asks this: a storage that has just failed is not asked to store the last changes, too.
    """
    return isinstance(sys.exception(), (OSError, StorageFailed))
