"""The fine-tuning loop as notebooks write it: float32, shuffled batches padded to their longest row, torch's AdamW.

    BENCH_DATA=FOLDER python -m benchmarks.plain_loop [THREADS]

It trains one epoch in batches of 8 with a learning rate of 5e-5 that decays linearly, and clips gradients to norm 1. It
prints one line of JSON: how many tokens of text, not counting padding, it trains a second.
"""

from __future__ import annotations

import json
import sys
import time

BATCH_SIZE = 8
LEARNING_RATE = 5e-5


def main(threads: int) -> None:
    """Train one epoch and print the rate."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    from benchmarks.workload import load_rows, model_folder

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    folder = str(model_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    split, _ = load_rows()
    labels = split.labels
    encoded = tokenizer(*[list(column) for column in split.texts], truncation=True, max_length=128)
    columns = {name: [torch.tensor(row) for row in rows] for name, rows in encoded.items()}
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    order = torch.randperm(len(labels))
    steps = -(-len(labels) // BATCH_SIZE)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)  # type: ignore[no-untyped-call]
    tokens, began = 0, time.perf_counter()
    for step in range(steps):
        rows = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE].tolist()
        batch = {
            name: pad_sequence([column[row] for row in rows], batch_first=True) for name, column in columns.items()
        }
        loss = model(**batch, labels=torch.tensor([labels[row] for row in rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += sum(len(columns["input_ids"][row]) for row in rows)
    print(json.dumps({"tokens_per_s": tokens / (time.perf_counter() - began)}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
