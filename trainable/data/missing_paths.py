"""Say what is there instead of a path that does not exist."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

_SHOWN = 8
_MEANT = "did you mean "


def what_is_there(path: str | Path) -> str:
    """What the nearest folder above a missing path holds, as the end of a sentence; empty if that can't be listed.

    "./data holds imdb, mrpc; did you mean data/imdb?"
    """
    whole = Path(os.path.expanduser(path))
    above = next((folder for folder in whole.parents if os.path.isdir(folder)), None)
    if above is None:
        return ""
    try:
        names = sorted(name for name in os.listdir(above) if not name.startswith("."))
    except OSError:
        return ""
    missing = whole.relative_to(above).parts[0]
    close = difflib.get_close_matches(missing, names, n=1, cutoff=0.6) if len(missing) <= 100 else []
    if close:
        return f"{_MEANT}{above / close[0]}?"
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    where = "the working directory" if str(above) == "." else above
    return f"{where} holds {', '.join(names[:_SHOWN]) or 'nothing'}{more}"


def local_hint(name: str) -> str:
    """What is on this disk instead of a name that the hub has not, as a sentence to append.

    Empty where the name does not look like a mistyped path: the folder before its slash is missing, or the working
    directory holds nothing that is called nearly so.
    """
    folder = os.path.dirname(name)
    there = what_is_there(name) if os.path.isdir(folder or os.curdir) else ""
    return f". No such path is here, either; {there}" if there and (folder or there.startswith(_MEANT)) else ""
