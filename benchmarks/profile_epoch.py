"""Shows where an epoch's time goes, with torch's profile of training and evaluation on one thread.

python -m benchmarks.profile_epoch [bf16|fp32 [BATCH_SIZE]]
"""

from __future__ import annotations

import sys

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.workload import make_job
from trainable.config import TrialConfig
from trainable.train.run import FineTuningRun


def main(precision: str, batch_size: int) -> None:
    """Profile the second epoch and print its operators, sorted by their own time."""
    run = FineTuningRun(make_job(precision="bf16" if precision == "bf16" else "fp32"))
    run.reset(TrialConfig(batch_size=batch_size, epochs=2), seed=1)
    run.next_epoch()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        result = run.next_epoch()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40))
    print(f"training {result.train_s:.2f} s, evaluation {result.eval_s:.2f} s (profiled); torch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bf16", int(sys.argv[2]) if len(sys.argv) > 2 else 16)
