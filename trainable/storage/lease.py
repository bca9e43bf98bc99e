"""One driver at a time where the storage has no locks: the driver writes a sign of life again and again."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from trainable.errors import UserError
from trainable.redaction import one_line
from trainable.storage.conditional_writes import ConditionalObject, conditional_object
from trainable.storage.objects import Objects
from trainable.storage.trouble import storage_failed

LEASE_FILE = "driver.json"
SIGN_EVERY_S = 15.0
DEAD_AFTER_S = 60.0  # without a sign of life, a driver counts as dead
SETTLE_S = 1.0  # without conditional writes, two drivers that begin at one moment see after this time which is the last


class Lease:
    """The right to be the only driver of the sweep below a URL.

    The driver holds it by writing an object with its process and machine every 15 seconds. Another driver may begin
    once this one was silent for a minute by the store's own clock, or at once if its process on the same machine is
    dead. Where the store has conditional writes, only one of several drivers that begin at the same moment can write.
    If a machine slept for longer than a minute, another driver may have begun in the meantime: its signs of life end,
    `lost` becomes true and nothing more may be published.
    """

    def __init__(self, objects: Objects) -> None:
        self.lost = False
        self._objects = objects
        self._conditional: ConditionalObject | None = None  # while this process holds the lease exclusively
        self._file = objects.root / LEASE_FILE

    def refuse_if_driven(self) -> None:
        """Raise UserError, naming the owner, if a driver on another machine gave a sign of life lately."""
        try:
            host, pid = self._owner()
            silent_s = self._silent_s()
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return
        # A process that replaced itself by a new program keeps its number; a container that is started again may, too.
        gone = host == socket.gethostname() and (pid == os.getpid() or not _lives(pid))
        if silent_s > DEAD_AFTER_S or gone:
            return
        name = self._objects.name_of(self._objects.root)
        told = (
            f"--out {name}: another sweep is running here (process {pid} on {one_line(host)}, last heard of "
            f"{silent_s:.0f} s ago); if it was killed, wait for {DEAD_AFTER_S:.0f} s"
        )
        raise UserError([told])

    def driver(self) -> str | None:
        """The driver that gave a sign of life lately, like "4711 on host".

        Its age is measured by this machine's clock: asking for the store's time would mean writing there.
        """
        try:
            host, pid = self._owner()
            (info,) = self._objects.info(self._file)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return f"{pid} on {one_line(host)}" if time.time() - info.mtime_ns / 1e9 < DEAD_AFTER_S else None

    def _owner(self) -> tuple[str, int]:
        """Machine and process number of the driver that wrote last."""
        owner = self._read()
        return str(owner["host"]), int(owner["pid"])

    def _read(self) -> Any:
        return json.loads(self._objects.read_text(self._file))

    def _silent_s(self) -> float:
        """How long ago the last sign of life was written, by the store's own clock."""
        probe = self._file.with_name(f"{LEASE_FILE}.{uuid.uuid4().hex[:8]}")
        try:
            self._objects.write(probe, "now")
            now, then = self._objects.info(probe, self._file)
        finally:
            self._objects.delete(probe)
        return float((now.mtime_ns - then.mtime_ns) / 1e9)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease while the context lasts. Raises UserError, naming the owner, if another driver has it."""
        mine = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
        self._conditional = self._take_exclusively(json.dumps(mine))
        if self._conditional is None:
            self.refuse_if_driven()
            self._objects.write(self._file, json.dumps(mine))
            time.sleep(SETTLE_S)
            if self._read() != mine:  # two drivers began at once: the one that wrote last stays
                self.refuse_if_driven()
        end = threading.Event()
        thread = threading.Thread(target=self._give_signs, args=[mine, end], daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            # A store that failed is not asked again: the next driver will find that this one's process is gone.
            if not storage_failed():
                thread.join()
            if not storage_failed() and not self.lost:
                with contextlib.suppress(OSError):
                    self._objects.delete(self._file)

    def _take_exclusively(self, sign: str) -> ConditionalObject | None:
        """Write the first sign of life, unless another driver does so at this moment; None where the store can't tell.

        Raises:
            UserError: Another driver holds the lease.
        """
        try:
            file = conditional_object(self._objects.url, LEASE_FILE)
            if file is None:
                return None
            file.look()  # before the owner is looked at: whoever comes in between changes the object
            self.refuse_if_driven()
            if file.write(sign):
                return file if file.keeps_conditions() else None
        except OSError:  # it has no such writes, or its keys are known to pyarrow alone
            return None
        self.refuse_if_driven()
        name = self._objects.name_of(self._objects.root)
        raise UserError([f"--out {name}: another sweep has begun here at the same moment"])

    def _give_signs(self, mine: dict[str, Any], end: threading.Event) -> None:
        """Write a sign of life every 15 seconds, until the end or until another driver has written one."""
        while not self.lost and not end.wait(SIGN_EVERY_S):
            try:
                if self._conditional is not None:
                    self.lost = not self._conditional.write(json.dumps(mine))
                    continue
                self.lost = self._read() != mine
                if not self.lost:
                    self._objects.write(self._file, json.dumps(mine))
            except (FileNotFoundError, ValueError):  # another driver came, and has ended since
                self.lost = True
            except OSError:  # the store does not answer: the next file that is published will tell
                continue


def _lives(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid)
