"""What a machine needs for the tests on hosts: the programs, and Debian's packages that bring them.

python -m tests.cluster.machine     installs the packages of those that are missing (as root, on Debian and its kin)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGE_OF = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # sshd lies there, and a user's PATH may lack them


def missing_programs() -> list[str]:
    """The programs that are not there, each looked for by itself."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"
    return [program for program in PACKAGE_OF if shutil.which(program, path=path) is None]


def main() -> int:
    """Install what is missing; returns 1 and says what is missing still where that does not help."""
    packages = sorted({PACKAGE_OF[program] for program in missing_programs()})
    if packages and os.getuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *arguments], env=quiet, capture_output=True, text=True)
            if done.returncode:
                print(f"apt-get {arguments[0]} failed: {done.stderr.strip()}", file=sys.stderr)
                break
    if missing := missing_programs():
        wanted = " ".join(sorted({PACKAGE_OF[program] for program in missing}))
        print(f"not installed: {', '.join(missing)}; install {wanted} (Debian's names)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
