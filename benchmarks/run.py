"""Measure every claim about speed on CPUs, and print the table.

    make bench BENCH_DATA=FOLDER              FOLDER has train, validation and test files of sentence pairs (like MRPC)
    python -m benchmarks.run --rounds 3       without BENCH_DATA: the demo's data

One round takes 13 minutes on two cores. In each round all contestants run one after the other, so that a slow day of
the machine affects all of them. Ratios are computed within a round, and the table shows their medians over the rounds.
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
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured (default: 1)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["sweep", "strict", "short", "plain", "many"],
        help="measure only these: P1 and P6 need sweep, P1s strict, P2 and P3 short, P4 short and plain, P5 many",
    )
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
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
    """Measure one round and return its figures by name."""
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
    """Run `python -m tune.search` over the configurations; return its wall seconds and its run directory's figures."""
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
    """Run a command and return its wall seconds."""
    began = time.monotonic()
    output_of(module, *arguments)
    return time.monotonic() - began


def child(module: str, *arguments: object) -> dict[str, Any]:
    """Run a benchmark script and return the JSON of its last line."""
    printed: dict[str, Any] = json.loads(output_of(module, *arguments).strip().splitlines()[-1])
    return printed


def output_of(module: str, *arguments: object) -> str:
    """Run a command and return what it prints; if it fails, the benchmark ends."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def encoder_flops(tokens: float, training: bool) -> float:
    """Count the floating-point operations of MiniLM-L6's matrix products over some tokens.

    Each layer multiplies by 12 matrices of hidden x hidden, the last one by 2, because it computes the rest for one
    token of a row only. A backward pass costs as much as two forward passes. Attention's own products are left out;
    here they are 3 %.
    """
    return tokens * 2 * (5 * 12 + 2) * 384**2 * (3 if training else 1)


def table(rounds: list[dict[str, Any]]) -> str:
    """Print each figure beside its goal and its floor."""
    lines = ["| | measure | goal | measured | floor |", "|---|---|---|---|---|"]

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
        row("P1", "wall time of the sweep over that of the peer", "<= 0.33",
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
        row("P2", f"percentage of the slots' time not spent computing, {len(SHORT_TRIALS)} trials of "
            f"{median(lambda r: r['short']['computing_s'] / len(SHORT_TRIALS)):.1f} s", "<= 5 %",
            f"{median(lambda r: r['short']['overhead_percent']):.1f} %", "0 %")  # fmt: skip
        row("P3", "from a trial's assignment to its first step, warm worker", "<= 0.25 s",
            f"{median(lambda r: r['short']['to_step_warm']):.3f} s", "0 s")  # fmt: skip
        trained = len(SHORT_TRIALS) * tokens["train"]
        if "plain" in first:
            row("P4", "tokens trained a second, over those of the plain loop", ">= 2 (>= 4 with AMX)",
                f"{median(lambda r: trained * SLOTS / r['short']['training_s'] / r['plain']['tokens_per_s']):.2f} "
                f"({median(lambda r: trained * SLOTS / r['short']['training_s']):.0f} / "
                f"{median(lambda r: r['plain']['tokens_per_s']):.0f} a second)",
                f"{median(lambda r: ceiling(r)):.1f}: two cores of bf16 matrix products")  # fmt: skip
    if "many" in first:
        row("P5", "a trial, of 2,000 that return at once", "<= 200 ms",
            f"{median(lambda r: r['many']['ms_a_trial']):.0f} ms",
            f"{median(lambda r: r['bare']['ms_a_trial']):.0f} ms: Tune without study, table and curves")  # fmt: skip
        row("", "last 200 over first 200", "<= 1.3",
            f"{median(lambda r: r['many']['ms_last'] / r['many']['ms_first']):.2f}", "1")  # fmt: skip
        row("", "growth of the driver's memory after the first 200", "< 100 MB",
            f"{median(lambda r: r['many']['memory_mib_end'] - r['many']['memory_mib_early']):.0f} MiB", "")  # fmt: skip
    if "sweep" in first:
        written = median(lambda r: 100 * r["sweep"]["written_bytes"] / r["sweep"]["full_bytes"])
        one = 100 / 3 / epochs
        row("P6", "bytes written, over a full checkpoint an epoch, in P1's sweep", "<= 15 %", f"{written:.1f} %",
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
    """Return how much faster than the plain loop training could be if it consisted of bf16 matrix products alone."""
    per_token = encoder_flops(1, True)
    return float(SLOTS * found["machine"]["gflops"]["bf16"] * 1e9 / per_token / found["plain"]["tokens_per_s"])


def token_counts() -> dict[str, float]:
    """Count the splits' tokens, without padding and padded (train: random batches of 16; validation: 64 in order)."""
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
