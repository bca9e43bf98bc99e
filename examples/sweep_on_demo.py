"""A sweep of two trials from Python: search, read the report, label a new pair of sentences with the winner.

python examples/sweep_on_demo.py [OUT]                       minutes on two cores, no network
python examples/sweep_on_demo.py OUT --train-rows 64         seconds, but the winner learns next to nothing

It needs the extra `demo`: pip install -c constraints.txt -e '.[demo]'
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tune.search

PAIR = {
    "text": "Shares of Harborline rose 4 percent on Tuesday after it reported record sales.",
    "text_pair": "Harborline reported record sales, and its stock gained 4% on Tuesday.",
}


def main(out: Path, train_rows: int | None) -> None:
    """Run the sweep (or continue the one in `out`), print its result, and use its best model."""
    result = tune.search.run(
        preset="demo",
        num_trials=2,
        train_rows=train_rows,
        space={"learning_rate": "log:3e-5..2e-4", "batch_size": 16, "epochs": "1..2"},
        out=out,
    )
    # As a mapping, the result is what report.json holds.
    for trial in result["trials"]:
        print(f"trial {trial['number']}: {trial['state']}, {result['metric']} {trial['value']}, {trial['config']}")
    print(f"test f1 {result['test']['f1']:.4f}; always one class would get {result['majority']['test']['f1']:.4f}")

    # The best model is like any other to transformers.
    from transformers import pipeline

    classify = pipeline("text-classification", result.best, device="cpu")
    print(f"{PAIR['text']}\n{PAIR['text_pair']}\n-> {classify(PAIR)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/sweep_on_demo"), help="the run directory")
    parser.add_argument("--train-rows", type=int, help="train on the first N rows only")
    options = parser.parse_args()
    main(options.out, options.train_rows)
