"""Measure everything that is claimed about speed on CPUs, and print the table.

    make bench BENCH_DATA=FOLDER              FOLDER: train, validation and test files of sentence pairs (MRPC, say);
    python -m benchmarks.run --rounds 3       without it the demo's data

One round takes 13 minutes on two cores. In every round the contestants run one after the other, so that what the
machine does that day falls on all; ratios are taken within a round, the table shows medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import SweepFigures, read_figures
from benchmarks.workload import CONFIGURATIONS, ROWS, SLOTS, data_folder, make_job, model_folder

SHORT_TRIALS = [{"learning_rate": 5e-5, "batch_size": 8, "epochs": 1}] * 12


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=["sweep", "strict", "short", "plain", "many"], default=None)
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    options = parser.parse_args()
    wanted = set(options.only or ["sweep", "strict", "short", "plain", "many"])
    began = time.monotonic()
    rounds = []
    for number in range(options.rounds):
        rounds.append(one_round(wanted))
        print(f"round {number + 1} of {options.rounds} done after {time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    print(table(rounds))


def one_round(wanted: set[str]) -> dict[str, Any]:
    """All figures of one round, by name."""
    found: dict[str, Any] = {"machine": child("benchmarks.machine")}
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        if "sweep" in wanted:
            found["sweep"] = sweep(folder / "sweep", CONFIGURATIONS)
        if wanted & {"sweep", "strict"}:
            found["peer"] = child("benchmarks.peer", folder / "peer")
            shutil.rmtree(folder / "peer")
        if "strict" in wanted:
            found["strict"] = sweep(
                folder / "strict", CONFIGURATIONS, "--precision", "fp32", "--set", "batching=shuffled"
            )
        if "short" in wanted:
            found["short"] = sweep(folder / "short", SHORT_TRIALS)
        if "plain" in wanted:
            found["plain"] = child("benchmarks.plain_loop")
        if "many" in wanted:
            found["many"] = child("benchmarks.many_trials", folder / "many")
            found["bare"] = child("benchmarks.many_trials", folder / "bare", 300, "bare")
        found["help_s"] = statistics.median(seconds_of("tune.search", "--help") for _ in range(3))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def sweep(out: Path, points: list[dict[str, float]], *flags: str) -> dict[str, Any]:
    """`python -m tune.search` over the points: its wall seconds and what its run directory says."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps(points), encoding="utf-8")
    started_at = time.time()
    arguments = [
        "--model", "builtin:minilm", "--dataset", data_folder(), "--train-rows", str(ROWS), "--points", str(file),
        "--num-trials", str(len(points)), "--scheduler", "none", "--set", f"num_cpus={SLOTS}", "--out", str(out),
    ]  # fmt: skip
    wall = seconds_of("tune.search", *arguments, *flags)
    model_bytes = (model_folder() / "model.safetensors").stat().st_size
    figures: SweepFigures = read_figures(out, started_at, SLOTS, model_bytes)
    return {"wall_s": wall, **asdict(figures)}


def seconds_of(module: str, *arguments: object) -> float:
    """Wall seconds of a command."""
    began = time.monotonic()
    output_of(module, *arguments)
    return time.monotonic() - began


def child(module: str, *arguments: object) -> dict[str, Any]:
    """What a benchmark script prints in its last line."""
    printed: dict[str, Any] = json.loads(output_of(module, *arguments).strip().splitlines()[-1])
    return printed


def output_of(module: str, *arguments: object) -> str:
    """What a command prints; one that fails ends the benchmark."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def encoder_flops(tokens: float, training: bool) -> float:
    """Floating-point operations of MiniLM-L6's matrix products over some tokens.

    12 products of hidden by hidden a layer, in the last one 2 (the rest is computed for one token a row); a backward
    pass costs two forward ones. Attention's own products, 3 % here, are left out.
    """
    return tokens * 2 * (5 * 12 + 2) * 384**2 * (3 if training else 1)


def table(rounds: list[dict[str, Any]]) -> str:
    """The figures with what was to be reached, and the floors."""
    lines = ["| | measure | reach | measured | floor |", "|---|---|---|---|---|"]

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(value(r) for r in rounds)

    def row(name: str, measure: str, reach: str, measured: str, floor: str) -> None:
        lines.append(f"| {name} | {measure} | {reach} | {measured} | {floor} |")

    first = rounds[0]
    epochs = sum(int(point["epochs"]) for point in CONFIGURATIONS)
    tokens = token_counts()
    flops = epochs * (encoder_flops(tokens["train"], True) + encoder_flops(tokens["validation"], False))
    if "sweep" in first:
        gemm = median(lambda r: flops / (r["machine"]["gflops"]["bf16"] * 1e9) / SLOTS / r["peer"]["wall_s"])
        row("P1", "wall of the sweep over that of the peer", "<= 0.33",
            f"{median(lambda r: r['sweep']['wall_s'] / r['peer']['wall_s']):.3f} "
            f"({median(lambda r: r['sweep']['wall_s']):.1f} s / {median(lambda r: r['peer']['wall_s']):.1f} s)",
            f"{gemm:.3f}: matrix products in bf16 alone")  # fmt: skip
    if "strict" in first:
        padded = epochs * (
            encoder_flops(tokens["train_padded"], True) + encoder_flops(tokens["validation_padded"], False)
        )
        gemm = median(lambda r: padded / (r["machine"]["gflops"]["fp32"] * 1e9) / SLOTS / r["peer"]["wall_s"])
        row("P1s", "the same in fp32 with the peer's padding", "<= 0.80",
            f"{median(lambda r: r['strict']['wall_s'] / r['peer']['wall_s']):.3f} "
            f"({median(lambda r: r['strict']['wall_s']):.1f} s)",
            f"{gemm:.3f}: matrix products in fp32 alone")  # fmt: skip
    if "short" in first:
        row("P2", f"time of the slots not spent computing, {len(SHORT_TRIALS)} trials of "
            f"{median(lambda r: r['short']['computing_s'] / len(SHORT_TRIALS)):.1f} s", "<= 5 %",
            f"{median(lambda r: r['short']['overhead_percent']):.1f} %", "0 %")  # fmt: skip
        row("P3", "from a trial's assignment to its first step, warm worker", "<= 0.25 s",
            f"{median(lambda r: r['short']['to_step_warm']):.3f} s", "0 s")  # fmt: skip
        trained = len(SHORT_TRIALS) * tokens["train"]
        if "plain" in first:
            row("P4", "tokens trained a second over those of the plain loop", ">= 2 (>= 4 with AMX)",
                f"{median(lambda r: trained * SLOTS / r['short']['training_s'] / r['plain']['tokens_per_s']):.2f} "
                f"({median(lambda r: trained * SLOTS / r['short']['training_s']):.0f} / "
                f"{median(lambda r: r['plain']['tokens_per_s']):.0f} a second)",
                f"{median(lambda r: ceiling(r)):.1f}: two cores of bf16 matrix products")  # fmt: skip
    if "many" in first:
        row("P5", "2,000 trials that answer at once: a trial", "<= 200 ms",
            f"{median(lambda r: r['many']['ms_a_trial']):.0f} ms",
            f"{median(lambda r: r['bare']['ms_a_trial']):.0f} ms: Tune with no study, table or curves")  # fmt: skip
        row("", "last 200 over first 200", "<= 1.3",
            f"{median(lambda r: r['many']['ms_last'] / r['many']['ms_first']):.2f}", "1")  # fmt: skip
        row("", "what the driver's memory grew by after the first 200", "< 100 MB",
            f"{median(lambda r: r['many']['memory_mib_end'] - r['many']['memory_mib_early']):.0f} MiB", "")  # fmt: skip
    if "sweep" in first:
        share = median(lambda r: 100 * r["sweep"]["written_bytes"] / r["sweep"]["full_bytes"])
        one = 100 / 3 / epochs
        row("P6", "bytes written over a full checkpoint an epoch, P1's sweep", "<= 15 %", f"{share:.1f} %",
            f"{one:.1f} %: one model")  # fmt: skip
    row("P7", "`--help`", "<= 0.5 s", f"{median(lambda r: r['help_s']):.2f} s", "")
    if "sweep" in first:
        row("", "start to first training step", "<= 12 s",
            f"{median(lambda r: r['sweep']['to_first_step']):.1f} s",
            "")  # fmt: skip
        memory = median(lambda r: sum(r["sweep"]["peak_memory_mib"]))
        row("", "peak memory of both slots", "< 3,072 MiB", f"{memory:.0f} MiB", "")
    machine = first["machine"]
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in machine["gflops"].items())
    measured_on = (
        f"{os.cpu_count()} cores of {machine['cpu']}; torch {machine['torch']}; GFLOP/s a core: {rates}; copy "
        f"{machine['copy_gb_per_s']:.0f} GB/s; data {Path(data_folder()).name}; median of {len(rounds)}."
    )
    return "\n".join([*lines, "", textwrap.fill(measured_on, 120)])


def ceiling(found: dict[str, Any]) -> float:
    """Tokens a second, over the plain loop's, if matrix products in bf16 were all that there is."""
    per_token = encoder_flops(1, True)
    return float(SLOTS * found["machine"]["gflops"]["bf16"] * 1e9 / per_token / found["plain"]["tokens_per_s"])


def token_counts() -> dict[str, float]:
    """Tokens of the splits, and what they are padded to in random batches of 16 and in batches of 64 in file order."""
    from trainable.train.batching import eval_order, train_order

    job = make_job()
    train, validation = job.train.lengths, job.validation.lengths
    return {
        "train": float(train.sum()),
        "validation": float(validation.sum()),
        "train_padded": float(sum(len(b) * train[b].max() for b in train_order(train, 16, 0, 0, "shuffled"))),
        "validation_padded": float(sum(len(b) * validation[b].max() for b in eval_order(validation, 0, "shuffled"))),
    }


if __name__ == "__main__":
    main()
