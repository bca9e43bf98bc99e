"""Which storage the text of an --out means: a folder's path, or the URL of an object store.

This is the only module of the project that knows what such a URL looks like. To add a kind of storage, write a class
like `ObjectStore` in a file of its own and give its schemes a line in `KINDS`. (`conditional_writes.py` opens some of
them a second time, as pyarrow reads them.)
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainable.storage.base import Storage
from trainable.storage.folder import FolderStorage
from trainable.storage.object_store import ObjectStore
from trainable.storage.private_folder import working_folder


@dataclass(frozen=True)
class StorageKind:
    """How the URLs of a scheme are read and opened."""

    open: Callable[[Path, str], Storage] = ObjectStore
    """Makes the storage from this machine's working copy and the URL."""
    container_at_account: bool = False
    """Whether the part before an @ names a container, not a user."""


KINDS = {
    "s3": StorageKind(),
    "gs": StorageKind(),
    "gcs": StorageKind(),
    "abfs": StorageKind(container_at_account=True),
    "abfss": StorageKind(container_at_account=True),
}
OTHER_KIND = StorageKind()  # pyarrow may know the scheme; if not, its error says so
_SECRET = re.compile(r"secret|passw|token|key|sig|cred|@", re.IGNORECASE)  # in a URL's options


def is_url(out: str | Path) -> bool:
    """Whether an --out names an object store, not a folder of this machine."""
    return "://" in str(out)


def url_problem(out: str | Path) -> str | None:
    """Why an --out that is a URL can't be a run directory; None if it can, or if it is a folder's path."""
    if not is_url(out):
        return None
    scheme, _, rest = str(out).partition("://")
    where, _, options = rest.partition("?")
    if not scheme.isalnum() or not where.strip("/"):
        return "must be a folder or a URL like s3://bucket/prefix"
    if scheme.lower() == "file":
        return f"{out}: is a folder; give its path alone"
    user = where.strip("/").partition("/")[0].rpartition("@")[0]
    may_have_user = KINDS.get(scheme, OTHER_KIND).container_at_account
    if ":" in user or (user and not may_have_user) or _SECRET.search(options):
        return "a URL with a key or a password in it would be written into logs; give keys as the provider's tools do"
    return None


def open_storage(out: str | Path, reading: bool = False) -> Storage:
    """The storage that an --out means. Nothing is read or written there yet.

    Args:
        out: A folder's path, or a URL that `url_problem` has nothing to say against.
        reading: Whether the caller only reads. Then its working copy is a temporary folder, which is removed when the
            process ends, and the driver's working copy on this machine stays untouched.

    Raises:
        OSError: There is no place for the working copy.
    """
    if not is_url(out):
        return FolderStorage(Path(out).expanduser().absolute())
    url = str(out)
    if reading:
        root = Path(tempfile.mkdtemp(prefix="finetune-search-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
    else:
        root = working_folder(url)
    return KINDS.get(url.partition("://")[0], OTHER_KIND).open(root, url)
