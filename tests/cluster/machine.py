"""The programs that a machine needs for the tests on hosts, and the Debian packages that contain them.

python -m tests.cluster.machine     installs the missing ones (as root, on Debian, Ubuntu, ...)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

PACKAGE_OF = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # sshd lies in one of them, and a user's PATH may not contain them


def missing_programs(package_of: Mapping[str, str] = PACKAGE_OF) -> list[str]:
    """The programs that are not installed."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"
    return [program for program in package_of if shutil.which(program, path=path) is None]


def main(package_of: Mapping[str, str] = PACKAGE_OF) -> int:
    """Install what is missing. If something is still missing after that, print what, and return 1."""
    packages = sorted({package_of[program] for program in missing_programs(package_of)})
    if packages and os.getuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *arguments], env=quiet, capture_output=True, text=True)
            if done.returncode:
                print(f"apt-get {arguments[0]} failed: {done.stderr.strip()}", file=sys.stderr)
                break
    if missing := missing_programs(package_of):
        wanted = " ".join(sorted({package_of[program] for program in missing}))
        print(f"not installed: {', '.join(missing)}; install {wanted} (Debian's names)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
