"""Training on a GPU, without network: random weights of BERT-base's shape, random rows of MRPC's lengths.

    python -m benchmarks.gpu                 on a GPU: minutes
    python -m benchmarks.gpu --tiny          anywhere: a model of two narrow layers, seconds

It measures the seconds of an epoch at batch sizes 8, 16 and 32, in our loop and in a plain eager float32 loop. Then it
measures how many trials finish in an hour with 1, 2, 4 and 8 of them side by side on the device. Each trial runs in a
process of its own and may use its fraction of the memory. Only torch, transformers, numpy and safetensors are needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import queue
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainable.config import TrialConfig
from trainable.data.tokens import TokenizedSplit
from trainable.job import Job
from trainable.train.devices import pick_device
from trainable.train.run import FineTuningRun
from tune.cluster.mps import multi_process_service

EPOCHS_A_TRIAL = 3


@dataclass(frozen=True)
class Size:
    """How large the measurement is."""

    config: dict[str, int]
    """What differs from BERT-base in the encoder's configuration."""
    train_rows: int
    validation_rows: int
    batch_sizes: tuple[int, ...]
    """The batch sizes at which an epoch is timed; 16 is among them."""
    side_by_side: tuple[int, ...]
    """The numbers of trials that run at the same time on the device."""


BERT_BASE = Size({}, 3668, 408, (8, 16, 32), (1, 2, 4, 8))
TINY = Size(
    {
        "vocab_size": 500, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128,
    },
    200, 40, (8, 16), (1, 2),
)  # fmt: skip


def main() -> None:
    """Measure, print two tables, and print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = pick_device(use_gpu=True)
    if device.type == "cpu" and not options.tiny:
        raise SystemExit("there is no GPU here; --tiny only shows that everything runs")
    size = TINY if options.tiny else BERT_BASE
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), size)
        job = make_job(Path(folder), size)
        epochs = [epoch_seconds(job, batch_size) for batch_size in size.batch_sizes]
        plain_16 = next(row["plain_s"] for row in epochs if row["batch_size"] == 16)
        with multi_process_service(Path(folder)) as shared:
            rates = [trials_an_hour(job, count) for count in size.side_by_side]
    print(f"{name}, torch {torch.__version__}; an epoch of {size.train_rows} rows and its evaluation\n")
    print("| batch size | plain fp32, s | ours, s | ratio | peak memory, MiB |\n|---|---|---|---|---|")
    for row in epochs:
        ratio = row["plain_s"] / row["ours_s"]
        peak = row["peak_memory_mib"]
        print(f"| {row['batch_size']} | {row['plain_s']:.2f} | {row['ours_s']:.2f} | {ratio:.1f} | {peak:.0f} |")
    alone = 3600 / (plain_16 * EPOCHS_A_TRIAL)
    print(f"\nTrials of {EPOCHS_A_TRIAL} epochs at batch size 16; the plain loop, one at a time: {alone:.0f} an hour;")
    print(f"multi-process service: {'on' if shared else 'not available'}\n")
    print("| side by side | trials an hour | over the plain loop |\n|---|---|---|")
    for row in rates:
        hourly = row["an_hour"]
        print(f"| {row['count']} | " + (f"{hourly:.0f} | {hourly / alone:.1f} |" if hourly else "do not fit | |"))
    print(json.dumps({"device": name, "epochs": epochs, "rates": rates}))


def write_model(folder: Path, size: Size) -> None:
    """Write a model with random weights in Hugging Face's format."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", **size.config)
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)


def make_job(folder: Path, size: Size) -> Job:
    """Make random rows of the lengths of MRPC's pairs: 20 to 103 word pieces, 53 in the mean."""
    random = np.random.default_rng(0)
    vocabulary = size.config.get("vocab_size", 12_000)

    def split(rows: int) -> TokenizedSplit:
        lengths = np.clip(random.normal(53, 14, rows), 20, 103).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = random.integers(5, vocabulary, offsets[-1], dtype=np.int32)
        return TokenizedSplit(ids, offsets, np.zeros(offsets[-1], np.uint8), random.integers(0, 2, rows))

    return Job(
        str(folder),
        ("0", "1"),
        split(size.train_rows),
        split(size.validation_rows),
        0,
        precision="bf16",
        gpus_per_trial=1.0,
    )


def epoch_seconds(job: Job, batch_size: int) -> dict[str, Any]:
    """Time an epoch with its evaluation in our loop, after a first epoch that warms up, and in the plain loop."""
    run = FineTuningRun(job)
    run.reset(TrialConfig(batch_size=batch_size, epochs=2), seed=0)
    run.next_epoch()
    result = run.next_epoch()
    ours = result.train_s + result.eval_s
    del run
    return {
        "batch_size": batch_size,
        "ours_s": ours,
        "plain_s": plain_epoch(job, batch_size),
        "peak_memory_mib": result.peak_memory_mib,
    }


def plain_epoch(job: Job, batch_size: int) -> float:
    """Time an epoch with its evaluation in the loop that notebooks have, after a few steps that warm up."""
    from transformers import AutoModelForSequenceClassification

    device = pick_device(use_gpu=True)
    model = AutoModelForSequenceClassification.from_pretrained(job.model_folder, num_labels=2).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    train, validation = rows_of(job.train), rows_of(job.validation)
    order = np.random.default_rng(1).permutation(len(train))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def step(rows: np.ndarray) -> float:
        loss = model(**padded(train, rows, device), labels=torch.tensor(job.train.labels[rows]).to(device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    model.train()
    for rows in batches[:5]:
        step(rows)
    began = time.perf_counter()
    for rows in batches:
        step(rows)
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(validation), 64):
            rows = np.arange(start, min(start + 64, len(validation)))
            answers = model(**padded(validation, rows, device)).logits.argmax(-1).cpu().numpy()
            right += int((answers == job.validation.labels[rows]).sum())
    return time.perf_counter() - began


def rows_of(split: TokenizedSplit) -> list[torch.Tensor]:
    """Return each row's token ids."""
    pairs = zip(split.offsets, split.offsets[1:], strict=False)
    return [torch.tensor(split.ids[start:end], dtype=torch.int64) for start, end in pairs]


def padded(rows: list[torch.Tensor], numbers: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
    """Make a batch, padded to its longest row."""
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([rows[i] for i in numbers], batch_first=True)
    return {"input_ids": ids.to(device), "attention_mask": (ids != 0).long().to(device)}


def trials_an_hour(job: Job, count: int) -> dict[str, Any]:
    """Measure how many trials an hour `count` processes finish side by side, after each has trained one epoch.

    If a process dies, the trials do not fit into the memory, and the rate is None.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    shared = dataclasses.replace(job, gpus_per_trial=1 / count)
    workers = [
        context.Process(target=one_trial, args=(shared, barrier, results, seed), daemon=True) for seed in range(count)
    ]
    for worker in workers:
        worker.start()
    spans: list[tuple[float, float]] = []
    while len(spans) < count:
        try:
            spans.append(results.get(timeout=1))
        except queue.Empty:
            if any(worker.exitcode for worker in workers):
                for worker in workers:
                    worker.terminate()
                return {"count": count, "seconds": None, "an_hour": None}
    for worker in workers:
        worker.join()
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    return {"count": count, "seconds": seconds, "an_hour": 3600 * count / seconds}


def one_trial(job: Job, barrier: Barrier, results: Any, seed: int) -> None:
    """Train one epoch to warm up, wait for the other processes, then time a whole trial."""
    run = FineTuningRun(job)
    run.reset(TrialConfig(batch_size=16, epochs=1), seed)
    run.next_epoch()
    barrier.wait()
    start = time.time()
    run.reset(TrialConfig(batch_size=16, epochs=EPOCHS_A_TRIAL), seed)
    while not run.done:
        run.next_epoch()
    results.put((start, time.time()))


if __name__ == "__main__":
    main()
