"""Hosts are isolated from each other and from this machine, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.hosts import lab
from tests.faults.disturbed import family
from tests.tune.test_end_to_end import ROOT

pytestmark = pytest.mark.cluster

HOLD = """
import sys, time
from pathlib import Path
from tests.cluster.hosts import lab

with lab(Path(sys.argv[1])) as made:
    made.add("host1", 11)
    print(flush=True)
    time.sleep(600)
"""


def left_behind() -> tuple[list[str], list[str], list[str]]:
    """This machine's network cards and mounts, and the public content of /tmp and /run."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return sorted(os.listdir("/sys/class/net")), sorted(mounts), sorted(os.listdir("/run"))


def test_hosts_see_neither_each_other_nor_this_machine(tmp_path: Path) -> None:
    with lab(tmp_path, GREETING="hello from all") as made:
        hosts = [made.add("host1", 11), made.add("host2", 12)]

        def says(number: int, script: str) -> str:
            done = subprocess.run(hosts[number].words("sh", "-c", script), capture_output=True, text=True)
            return done.stdout.strip()

        assert [says(number, "hostname") for number in (0, 1)] == ["host1", "host2"]
        says(0, "sleep 333 >/dev/null 2>&1 & for place in /tmp /dev/shm /run ~; do touch $place/mine; done")
        for number, mine in ((0, True), (1, False)):
            assert ("sleep 333" in says(number, "cat /proc/*/cmdline | tr '\\0' ' '")) == mine
            for place in ("/tmp", "/dev/shm", "/run", "~"):
                assert ("mine" in says(number, f"ls {place}").split()) == mine
        assert not Path("/tmp/mine").exists()
        shared = tmp_path / "shared"
        says(0, f"echo here > {shared}")
        assert says(1, f"cat {shared}") == "here"

        options = ["-i", str(tmp_path / "user_key"), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
        words = made.command("ssh", *options, f"root@{hosts[1].address}", "echo $GREETING from $(hostname)")
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.stdout == "hello from all from host2\n", done.stderr

        hosts[1].die()
        assert not Path(f"/proc/{hosts[1].pid}").exists()
        again = made.add("host2", 12)
        assert again.processes() == {}
        hosts[1] = again
        says(1, "touch /tmp/mine ~/mine")
        again.die()
        hosts[1] = made.add("host2", 12)
        assert ["mine" in says(1, f"ls {place}").split() for place in ("/tmp", "~")] == [False, True]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_test_run_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    before = left_behind()
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "\n"
    members = family(holder.pid)
    assert len(members) >= 6, "nsenter, unshare and the first process of lab and host"
    holder.send_signal(how)
    holder.communicate()
    ends = time.monotonic() + 10
    while (alive := [pid for pid in members if Path(f"/proc/{pid}").exists()]) and time.monotonic() < ends:
        time.sleep(0.05)
    assert alive == []
    assert left_behind() == before
