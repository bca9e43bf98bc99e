"""Send a harmless request to ports: without a token, with a wrong one, and with the right one.

    python -m tests.cluster.probe HOST:PORT ...

Prints what each port answered to the three requests, as JSON.
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
