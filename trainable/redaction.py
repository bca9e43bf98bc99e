"""Redact text from elsewhere (data, names, errors) before it is shown: no control characters, no secrets."""

from __future__ import annotations

import os
import re

# C0 and C1 without tab and line feed, and the characters that turn the direction of writing: a terminal obeys them,
# and a reader is misled.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_IN_A_LINE = re.compile("[\t\n]")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|KEY)$", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
SHORTEST_SECRET = 8  # characters; a shorter value may also be part of a common word
REDACTED = "***"


def plain(text: str) -> str:
    r"""Make a text safe to print: it has no control characters, and none of this environment's secrets.

    Control characters other than line feeds and tabs are written as Python writes them (`\x1b`). Secrets are the values
    of variables whose names end like API_KEY, HF_TOKEN or DB_PASSWORD, and users with their passwords in URLs.
    """
    for secret in _secrets():
        text = text.replace(secret, REDACTED)
    return _CONTROL.sub(_written, _USER_IN_URL.sub(f"{REDACTED}@", text))


def one_line(text: str) -> str:
    """Like `plain`, and on one line: tabs and line feeds are written as Python writes them."""
    return _IN_A_LINE.sub(_written, plain(text))


def _secrets() -> list[str]:
    """The secrets in this environment, the longest first, since one may contain another.

    A value that is the path of a file is no secret; the file holds it.
    """
    found = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET and not os.path.exists(value)
    }
    return sorted(found, key=len, reverse=True)


def _written(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
