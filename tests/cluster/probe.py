"""Ask every port named for a harmless answer, without a token and with the one that is known here.

    python -m tests.cluster.probe HOST:PORT ...

Prints JSON: for each, what it answered without, with another and with the right token.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.tune.ports import HARMLESS, OBJECT_MANAGER, ask


def answers(where: str) -> list[list[str]]:
    host, _, port = where.rpartition(":")
    methods = [*{*HARMLESS.values()}, OBJECT_MANAGER[0]]
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    shown = [(), (("authorization", f"Bearer {'b' * 64}"),), (("authorization", f"Bearer {token}"),)]
    return [sorted({*ask(int(port), one, methods, host).values()}) for one in shown]


def main() -> None:
    with ThreadPoolExecutor(8) as pool:
        print(json.dumps(dict(zip(sys.argv[1:], pool.map(answers, sys.argv[1:]), strict=True))))


if __name__ == "__main__":
    main()
