"""Find the ports that a process and its children listen on (from /proc), and whom they let in."""

from __future__ import annotations

import contextlib
import importlib
import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
# For each of Ray's services, a method that takes an empty request and changes nothing.
HARMLESS = {
    "gcs_server": "/ray.rpc.NodeInfoGcsService/GetClusterId",
    "raylet": "/ray.rpc.NodeManagerService/GetNodeStats",
    "driver": "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "worker": "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
}
OBJECT_MANAGER = [f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull", "FreeObjects")]
HEALTH = "/grpc.health.v1.Health/Check"  # the only method that needs no token; it tells that the process is there


class Port(NamedTuple):
    """An open port: the kind of process that listens on it, tcp or udp, the address, the number."""

    process: str
    protocol: str
    address: str
    number: int


def descendants(pid: int) -> list[int]:
    """The ids of a process and of all its descendants. A process whose parent has ended is missed."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def kind(pid: int, driver: int) -> str:
    """The kind of a process: gcs_server, raylet, runtime_env_agent, dashboard_agent, worker, driver, or its command."""
    if pid == driver:
        return "driver"
    words = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().split()
    name = words[0] if words else ""
    agents = {"ray::RuntimeEnvAgent": "runtime_env_agent", "ray::DashboardAgent": "dashboard_agent"}
    return agents.get(name) or ("worker" if name.startswith("ray::") else Path(name).name)


class Opened(NamedTuple):
    """An open port of which only the socket is known: tcp or udp, the address, the number."""

    protocol: str
    address: str
    number: int


def opened(network: Path = Path("/proc/net")) -> dict[str, Opened]:
    """All open ports of a network namespace, by the inode of their socket."""
    found = {}
    for protocol, state in LISTENS.items():
        for line in (network / protocol).read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == state:
                host, number = cells[1].split(":")
                found[cells[9]] = Opened(protocol.removesuffix("6"), _address(host), int(number, 16))
    return found


def listening(driver: int) -> list[Port]:
    """All ports that a driver and its descendants listen on. Processes that end meanwhile are left out."""
    sockets = opened()
    found = set()
    for pid in descendants(driver):
        for inode in inodes(pid) & sockets.keys():
            with contextlib.suppress(OSError):
                found.add(Port(kind(pid, driver), *sockets[inode]))
    return sorted(found)


def inodes(pid: int) -> set[str]:
    """The inodes of a process's open sockets; none if the process has ended."""
    found = set()
    with contextlib.suppress(OSError):
        for handle in (Path("/proc") / str(pid) / "fd").iterdir():
            name = str(handle.readlink())
            if name.startswith("socket:["):
                found.add(name.removeprefix("socket:[").removesuffix("]"))
    return found


def _address(text: str) -> str:
    words = [struct.unpack(">I", bytes.fromhex(text[i : i + 8]))[0] for i in range(0, len(text), 8)]
    raw = b"".join(struct.pack("<I", word) for word in words)
    shown = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return shown.removeprefix("::ffff:")


def answer(port: Port, token: str | None, host: str = "127.0.0.1") -> str:
    """What a port answers to a harmless request with that token: OK, UNAUTHENTICATED, or another status."""
    shown = () if token is None else (("authorization", f"Bearer {token}"),)
    if port.process == "runtime_env_agent":
        url = f"http://{host}:{port.number}/get_or_create_runtime_env"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=b"", headers=dict(shown)), timeout=10):
                return "OK"
        except urllib.error.HTTPError as error:
            error.close()
            return "UNAUTHENTICATED" if error.code in (401, 403) else str(error.code)
    answers = ask(port.number, shown, [HARMLESS[port.process], OBJECT_MANAGER[0]], host)
    (told,) = set(answers.values()) - {"UNIMPLEMENTED"}  # a raylet has two ports, for its two services
    return told


def ask(number: int, shown: tuple[tuple[str, str], ...], methods: list[str], host: str = "127.0.0.1") -> dict[str, str]:
    """What a gRPC port answers to an empty request of each method."""
    import grpc

    answers = {}
    with grpc.insecure_channel(f"{host}:{number}", [("grpc.enable_http_proxy", 0)]) as channel:
        for method in methods:
            try:
                channel.unary_unary(method)(b"", metadata=shown, timeout=10)
                answers[method] = "OK"
            except grpc.RpcError as error:
                answers[method] = error.code().name
    return answers


def every_method() -> list[str]:
    """Every method of every service of Ray, from its protocol buffers."""
    import ray.core.generated

    found = [*OBJECT_MANAGER]  # Ray brings no Python module for this service
    for folder in ray.core.generated.__path__:
        for path in sorted(Path(folder).glob("*_pb2.py")):
            module = importlib.import_module(f"ray.core.generated.{path.stem}")
            for service in module.DESCRIPTOR.services_by_name.values():
                found += [f"/{service.full_name}/{method.name}" for method in service.methods]
    return found
