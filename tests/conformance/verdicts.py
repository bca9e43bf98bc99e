"""Try a family of models from the check of its folder to `pipeline`, and write what came of it as a table.

python -m tests.conformance.verdicts     writes docs/models.md anew
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tests.conformance.families import FAMILIES, make_model
from tests.hub import write_tiny_model
from tests.trainable.runs import make_job, pairs
from trainable.config import TrialConfig
from trainable.data.tokens import TokenizedSplit, load_tokenizer, tokenize
from trainable.hub.model_checks import model_problems
from trainable.hub.model_folder import longest_row
from trainable.job import Job
from trainable.model.fast_layers import PLAIN_ATTENTION
from trainable.train.batching import Batches
from trainable.train.rehearsal import for_rehearsal, rehearse
from trainable.train.run import FineTuningRun
from tune.prepare.launch import NEIGHBOURS_MATTER

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
CONFIG = TrialConfig(batch_size=8, epochs=1, learning_rate=1e-3)
HEAD = """# Models

A model works here if transformers has a sequence classifier for its type. This table is written by a suite
(`make conformance`), which makes a small random model of every such type. The model is trained for two steps, stopped
after the first and continued bit-equal, saved, and opened by `pipeline`, which must give the logits that we get. A
model that can't do that is refused in a sentence before any trial starts: before each sweep, your own model computes
your own longest rows once, forward and backward.

- **neighbours**: by the nature of these models, what they say of a text depends on the texts beside it in a batch, or
  on the padding. They work, and a note says so.
- **bf16**: whether training works under bfloat16. Where it does not, or where it is not faster, float32 is used.
- **faster steps**: what we leave out or compute faster for this type; [Fast steps](fast_steps.md) tells what it is.

| model type | verdict | bf16 | faster steps |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Verdict:
    """What came of one family."""

    family: str
    verdict: str
    bf16: bool
    faster: Sequence[str]

    @property
    def row(self) -> str:
        """The family's line in the table."""
        bf16 = "" if self.verdict.startswith("refused") else "yes" if self.bf16 else "no"
        return f"| {self.family} | {self.verdict} | {bf16} | {', '.join(self.faster)} |"


def try_family(family: str, folder: Path) -> Verdict:
    """Make a small model of a family and do with it what a sweep does.

    Raises:
        AssertionError: It was neither refused nor treated right.
    """
    write_tiny_model(folder / "tokenizer")
    return try_model(family, make_model(family, folder / "tokenizer", folder / "model"), folder)


def try_model(family: str, model: Path, folder: Path) -> Verdict:
    """Do with a model what a sweep does.

    Args:
        family: Its model type.
        model: Its folder.
        folder: Where to write.

    Raises:
        AssertionError: It was neither refused nor treated right.
    """
    job = make_job(model, train_rows=16)
    problems = model_problems(model)
    if not problems:
        long = replace(job, train=_with_a_long_text(job.train, model))
        rehearsal = rehearse(for_rehearsal(long, 8), 8, lambda _: {}, ("fp32", "bf16"))
        problems = [] if rehearsal.problem is None else [rehearsal.problem]
    if problems:
        return Verdict(family, f"refused: {problems[0].removeprefix(f'--model {model}: ')}", False, ())
    run = FineTuningRun(job)
    run.reset(CONFIG, seed=1)
    assert run.next_segment(lambda: True) is None, "it did not stop after its first step"
    run.save_state(folder / "state")
    ended = run.next_epoch()
    _continue_elsewhere(job, folder / "state", run)
    assert ended.peak_memory_mib > 0
    run.write_best(folder / "best")
    _open_by_pipeline(run, folder / "best")
    faster = {
        "the rows of the embedding that occur": run.classifier.sliced is not None,
        "the first token of the last layer": run.classifier.first_token_only,
        "attention": family in PLAIN_ATTENTION,
    }
    matters = rehearsal.neighbour_effect > NEIGHBOURS_MATTER
    verdict = "works; neighbours" if matters else "works"
    return Verdict(family, verdict, "bf16" in rehearsal.seconds, [name for name, used in faster.items() if used])


def _with_a_long_text(split: TokenizedSplit, model: Path) -> TokenizedSplit:
    """The split and a row as long as the model allows, which is 128 tokens where these models set a limit."""
    tokenizer = load_tokenizer(str(model))
    long = tokenize([["bank " * 200], ["bank " * 200]], [0], tokenizer, min(160, longest_row(model) or 160))
    types = None
    if split.token_types is not None and long.token_types is not None:
        types = np.concatenate([split.token_types, long.token_types])
    return TokenizedSplit(
        ids=np.concatenate([split.ids, long.ids]),
        offsets=np.concatenate([split.offsets, split.offsets[-1] + long.offsets[1:]]),
        token_types=types,
        labels=np.concatenate([split.labels, long.labels]),
    )


def _continue_elsewhere(job: Job, state: Path, run: FineTuningRun) -> None:
    """Load a state in a new process's place, train to the end, and compare every bit."""
    other = FineTuningRun(job)
    other.reset(CONFIG, seed=1)
    assert other.load_state(state)
    other.next_epoch()
    assert other.history[0].scores == run.history[0].scores
    theirs = other.classifier.weights()
    different = [name for name, tensor in run.classifier.weights().items() if not torch.equal(tensor, theirs[name])]
    assert not different, f"a continued trial has other weights: {different[:3]}"


def _open_by_pipeline(run: FineTuningRun, best: Path) -> None:
    """Open the written model as a user does, and compare its logits with those of the model that was trained."""
    from transformers import pipeline

    texts, labels = pairs(2, start=1000)
    split = tokenize(texts, labels, load_tokenizer(str(best)), 64)
    classifier = run.classifier
    unpadded = Batches(split, run.job.pad_id, run.device, sliced=classifier.sliced, pad_to=1)
    opened = pipeline("text-classification", model=str(best), device="cpu", top_k=None, function_to_apply="none")
    assert opened.model.dtype == torch.float32
    model = classifier.module.eval()
    for row, (first, second) in enumerate(zip(*texts, strict=True)):
        with torch.inference_mode():
            ours = model(**unpadded.take(np.array([row])).inputs).logits[0]
        said = {each["label"]: each["score"] for each in opened({"text": first, "text_pair": second})}
        theirs = torch.tensor([said[name] for name in run.job.label_names])
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def _row(family: str) -> tuple[str, str]:
    """The family's line and nothing, or nothing and what is wrong."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return try_family(family, Path(folder)).row, ""
        except Exception:
            return "", f"{family}: {traceback.format_exc()}"


def main() -> int:
    """Try every family, as many at once as there are cores, and write the page; returns the exit code."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        tried = pool.map(_row, FAMILIES, chunksize=1)
    wrong = [error for _, error in tried if error]
    print("\n".join(wrong), file=sys.stderr)
    PAGE.write_text(HEAD + "\n".join(row for row, _ in tried if row) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
