"""How fast this machine can be at best; the floors in the table of figures follow from these rates.

    python -m benchmarks.machine

It prints one line of JSON: the rate of matrix products of an encoder's shapes on one thread in each precision
(GFLOP/s), and how many GB a second a copy reads and writes.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def best_seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Return the seconds of the fastest run, after one that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    """Measure and print the rates."""
    torch.set_num_threads(1)
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        tokens, weight = torch.randn(1024, 384).to(dtype), torch.randn(1536, 384).to(dtype).t()
        seconds = best_seconds(lambda a=tokens, b=weight: a @ b)  # type: ignore[misc]
        rates[name] = 2 * 1024 * 384 * 1536 / seconds / 1e9
    source, target = torch.ones(32 << 20), torch.ones(32 << 20)
    copied = 2 * source.numel() * 4 / best_seconds(lambda: target.copy_(source), 3)
    print(json.dumps({"gflops": rates, "copy_gb_per_s": copied / 1e9, "cpu": cpu_name(), "torch": torch.__version__}))


def cpu_name() -> str:
    """Return the processor's name and the bf16 instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    found = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.machine())}, {' and '.join(found) or 'no bf16 instructions'}"


if __name__ == "__main__":
    main()
