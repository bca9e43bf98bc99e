"""Make several hosts on this machine: sets of Linux namespaces, each with an address, joined by a private bridge.

All hosts lie in one outer set of namespaces, the lab. The lab's first process waits until its input is closed. So
however the test ends, the kernel then ends every process of the lab, and removes its bridge, addresses and mounts.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.machine import SYSTEM_FOLDERS, missing_programs
from tests.faults.disturbed import family
from tests.tune.ports import Opened, opened

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
NETWORK = "10.0.0"  # this network is in the lab, so nobody else can be on it
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)  # the working directory of ssh's sessions

# A home folder, which outlasts a loss of power, and /tmp, /run and /dev/shm, which do not. What programs and tests run
# from is bound into the first two. No name server is there to be waited for.
FRESH = """
set -e
hostname "$NAME"
mount -t tmpfs -o mode=755 fresh /mnt
mkdir -p /mnt/tmp "/mnt$HOME" "$FOLDER/disk/$NAME"
mount --bind "$FOLDER/disk/$NAME" "/mnt$HOME"
for place in /tmp "$HOME"; do
    for path in $KEPT; do
        case "$path" in "$place"/*) mkdir -p "/mnt$path"; mount --bind "$path" "/mnt$path";; esac
    done
done
chmod 1777 /mnt/tmp
for place in /tmp "$HOME"; do mount --rbind "/mnt$place" "$place"; done
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs shm /dev/shm
ip link set lo up
: > /run/resolv.conf
printf '127.0.0.1 localhost\\n%s %s\\n' "$ADDRESS" "$NAME" > /run/hosts
for file in resolv.conf hosts; do mount --bind "/run/$file" "/etc/$file"; done
"""
LAB = """
ip link add name bridge0 type bridge
ip address add "$ADDRESS/24" dev bridge0
ip link set bridge0 up
echo
exec cat
"""
HOST = """
mkdir /run/sshd
cp -r /etc/skel/. "$HOME"
mkdir -p -m 700 "$HOME/.ssh"
cp "$FOLDER/environment" "$HOME/.ssh/environment"
echo
read -r connected
exec "$(PATH=$PATH:$SYSTEM_FOLDERS command -v sshd)" -D -e -f "$FOLDER/sshd_$NAME"
"""
SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PermitUserEnvironment yes
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""


def why_not() -> str | None:
    """Why no hosts can be made on this machine; None if they can."""
    if missing := missing_programs():
        return f"not installed: {', '.join(missing)}"
    if os.getuid() != 0:
        return "namespaces and bridges are made by root"
    link = "ip link add name bridge0 type bridge && ip link add name a type veth peer name b"
    tried = subprocess.run([*UNSHARE, "sh", "-c", link], capture_output=True, text=True)
    return f"this kernel makes no namespaces, bridges or veth: {tried.stderr.strip()}" if tried.returncode else None


def kept(more: Sequence[Path]) -> list[str]:
    """Folders below /tmp or the home folder that hosts need, such as those of the programs and the tests."""
    used = {*map(Path, sys.path), Path(sys.prefix), Path(sys.base_prefix), *more}
    used = {path for one in used if str(one) for path in (one.absolute(), one.resolve())}
    folders = [path for path in used if path.is_dir()]
    outermost = [path for path in folders if not any(other in path.parents for other in folders)]
    return sorted(str(path) for path in outermost if path.is_relative_to("/tmp") or path.is_relative_to(HOME))


@dataclass
class Machine:
    """A set of namespaces: the process that made it, its first process, its address."""

    name: str
    process: subprocess.Popen[str]
    address: str

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "\n", f"{self.name} did not come up"
        self.pid = family(self.process.pid)[-1]

    def words(self, *words: str) -> list[str]:
        """The command that runs those words in the namespaces."""
        spaces = ("--net", "--mount", "--pid", "--uts", "--ipc")
        return ["nsenter", "--target", str(self.pid), *spaces, "--", *words]

    def ip(self, *words: str) -> None:
        """Set up the network of the namespaces."""
        subprocess.run(["nsenter", "--target", str(self.pid), "--net", "--", "ip", *words], check=True)

    def processes(self) -> dict[int, str]:
        """All processes in the namespaces, except the first one, with their command lines."""
        space = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == space and int(entry.name) != self.pid:
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if words:  # one that has ended, and whose end nobody has asked for yet, has none
                        found[int(entry.name)] = words
        return found

    def ports(self) -> dict[str, Opened]:
        """The open ports of its network, by inode."""
        return opened(Path(f"/proc/{self.pid}/net"))

    def die(self) -> None:
        """Lose power: the kernel ends every process in the namespaces and removes the network card."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.gone()

    def gone(self) -> None:
        """Wait until it has ended."""
        self.process.wait(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass
class Lab:
    """The lab: its end of the bridge reaches the hosts as a launching machine would reach them."""

    folder: Path
    environment: Mapping[str, str]
    hosts: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("host_key", "user_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(words, check=True)
        lines = [f"{name}={value}\n" for name, value in self.environment.items()]
        (self.folder / "environment").write_text("".join(lines))
        self.kept = " ".join(kept([self.folder]))
        self.machine = self._make("lab", UNSHARE, FRESH + LAB, f"{NETWORK}.1")

    def _make(self, name: str, words: Sequence[str], script: str, address: str) -> Machine:
        environment = {"NAME": name, "KEPT": self.kept, "FOLDER": str(self.folder), "ADDRESS": address}
        environment["SYSTEM_FOLDERS"] = SYSTEM_FOLDERS
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [*words, "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "HOME": str(HOME), **environment},
            )
        return Machine(name, process, address)

    def add(self, name: str, last: int) -> Machine:
        """Switch on a host with that name and last number of its address. Its home folder is as the host left it."""
        address = f"{NETWORK}.{last}"
        (self.folder / f"sshd_{name}").write_text(SSHD.format(address=address, folder=self.folder))
        host = self._make(name, self.machine.words(*UNSHARE), FRESH + HOST, address)
        self.machine.ip("link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self.machine.ip("link", "set", name, "master", "bridge0", "up")
        host.ip("address", "add", f"{address}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        host.ip("route", "add", "default", "via", self.machine.address)
        assert host.process.stdin is not None
        host.process.stdin.write("\n")
        host.process.stdin.flush()
        self.hosts[name] = host
        return host

    def command(self, *words: str) -> list[str]:
        """The command that runs those words on the launching machine."""
        return self.machine.words(*words)

    def close(self) -> None:
        """End all hosts and the lab."""
        self.machine.die()
        for host in self.hosts.values():
            host.gone()


@contextlib.contextmanager
def lab(folder: Path, **environment: str) -> Iterator[Lab]:
    """A lab without hosts. Every session on a host that is added later has that environment."""
    made = Lab(folder, environment)
    try:
        yield made
    finally:
        made.close()
