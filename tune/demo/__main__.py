"""Write the demo corpus: python -m tune.demo --out DIR [--seed N]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tune.demo.corpus import DEFAULT_SEED, make_corpus, to_jsonl


def main(argv: Sequence[str] | None = None) -> int:
    """Write the three files of a corpus; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tune.demo", description="Write the demo paraphrase corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the three files into")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"default {DEFAULT_SEED}")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, pairs in make_corpus(args.seed).items():
        (args.out / f"{split}.jsonl").write_bytes(to_jsonl(pairs).encode("utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
