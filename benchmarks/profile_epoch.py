"""Where an epoch's time goes: torch's profile of training and evaluation on one thread.

python -m benchmarks.profile_epoch [bf16|fp32 [BATCH_SIZE]]
"""

from __future__ import annotations

import sys

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.workload import load_rows, model_folder
from trainable.config import Job, TrialConfig
from trainable.run import FineTuningRun
from trainable.tokens import load_tokenizer, tokenize


def main(precision: str, batch_size: int) -> None:
    """Profile a second epoch and print its operators by their own time."""
    train_texts, train_labels, validation_texts, validation_labels = load_rows()
    tokenizer = load_tokenizer(str(model_folder()))
    job = Job(
        str(model_folder()),
        ("0", "1"),
        tokenize(train_texts, train_labels, tokenizer, 128),
        tokenize(validation_texts, validation_labels, tokenizer, 128),
        0,
        precision="bf16" if precision == "bf16" else "fp32",
    )
    run = FineTuningRun(job)
    run.reset(TrialConfig(batch_size=batch_size, epochs=2), seed=1)
    run.next_epoch()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        result = run.next_epoch()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40))
    print(f"training {result.train_s:.2f} s, evaluation {result.eval_s:.2f} s (profiled); torch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bf16", int(sys.argv[2]) if len(sys.argv) > 2 else 16)
