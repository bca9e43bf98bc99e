"""The browser that the tests of the page need.

python -m tests.browser.machine     installs Chromium where there is none (as root, on Debian)
"""

from __future__ import annotations

import shutil
import sys

from tests.cluster import machine

PACKAGE_OF = {"chromium": "chromium"}
ALSO_GOOD = ("chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str | None:
    """The program of a Chromium or Chrome; None if there is none."""
    found = (shutil.which(name) for name in (*PACKAGE_OF, *ALSO_GOOD))
    return next((path for path in found if path is not None), None)


def main() -> int:
    """Install Chromium where there is no browser. If there is still none, say so and return 1."""
    return 0 if browser() is not None else machine.main(PACKAGE_OF)


if __name__ == "__main__":
    sys.exit(main())
