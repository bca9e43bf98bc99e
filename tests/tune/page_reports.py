"""Reports of sweeps that nobody ran, with everything that the page can show: for tests that look at it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, RungScores, WorkerFacts, best_epoch
from trainable.metrics import METRICS
from tune.report.answers import answers_of
from tune.report.building import trial_row
from tune.report.confirmed import Cheapest, DefaultScores, FinalistScores, FreshRun, OptimismScores, RecipeScores
from tune.report.details import Answers, DataSummary, Provenance, SplitSummary
from tune.report.importance import importance_of
from tune.report.results import Intervals, Majority, SplitScores, SweepReport, Winner
from tune.report.timeline import timeline_of
from tune.run_dir.records import TrialRecord
from tune.spec.space import Choice, Domain, Float, Int

SPACE: dict[str, Domain] = {
    "learning_rate": Float(1e-5, 1e-3, log=True),
    "batch_size": Choice((8, 16, 32)),
    "epochs": Int(2, 5),
    "dropout": Choice((None, 0.1, 0.2)),
}
BEGAN = 1.79e9
STATES = ("COMPLETE", "PRUNED", "COMPLETE", "COMPLETE", "FAIL", "PRUNED")  # of the trials, again and again
FRESH_RUNS = 6
WORKERS = 4


def trial_records(trials: int, seed: int = 1) -> list[TrialRecord]:
    """The trials of a search, then fresh runs of three finalists; the driver was away for hours in between."""
    rng, free = random.Random(seed), [BEGAN] * WORKERS
    records: list[TrialRecord] = []
    for number in range(trials):
        config = TrialConfig(
            learning_rate=10 ** rng.uniform(-5, -3), batch_size=rng.choice((8, 16, 32)), epochs=rng.randint(2, 5),
            dropout=rng.choice((None, 0.1, 0.2)),
        )  # fmt: skip
        records.append(_record(number, STATES[number % len(STATES)], config, rng, free))
    free = [at + 10_000 for at in free]
    done = sorted((r for r in records if r.state == "COMPLETE"), key=lambda record: -(record.value or 0))[:3]
    for i in range(FRESH_RUNS):
        finalist = done[i % len(done)]
        run = _record(trials + i, "COMPLETE", finalist.config, rng, free)
        records.append(replace(run, confirms=finalist.number))
    return records


def _record(number: int, state: str, config: TrialConfig, rng: random.Random, free: list[float]) -> TrialRecord:
    """A trial on the worker that is free first; every fourth that is stopped early never finished an epoch."""
    epochs = config.named()["epochs"] if state == "COMPLETE" else 0 if state == "PRUNED" and number % 4 == 1 else 1
    worker = min(range(WORKERS), key=lambda i: free[i])
    facts = WorkerFacts(f"node-{worker // 2}", 1000 + worker, 0.5, 0)
    scored = []
    for epoch in range(1, epochs + 1):
        score = 0.5 + 0.1 * epoch**0.5 + 0.2 * rng.random()
        scores = {**dict.fromkeys(METRICS, score), "loss": 1.2 - score}
        percent = 100 * epoch / config.named()["epochs"]
        scored.append(
            EpochScores(epoch, percent, 1 - score, scores, number % 7 == 2, 1e-4, 9.0, free[worker], 9.0, 1.0, 99.0,
                        None, facts)
        )  # fmt: skip
        free[worker] += 11
    rung = RungScores(12.5, 5, 0.9, 2.0, {**dict.fromkeys(METRICS, 0.5), "loss": 0.9})
    best = best_epoch(scored, "f1", "max")
    return TrialRecord(
        number, state, config, 1000 + number, tuple(scored), best, None if best is None else best.scores["f1"], (rung,),
        failure="CUDA out of memory" if state == "FAIL" else None,
    )  # fmt: skip


def some_answers(names: list[str], rows: int = 300, texts: bool = True) -> Answers:
    """What a model answers that takes one class in eight for the next one."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, len(names), rows)
    logits = rng.normal(0, 1, (rows, len(names)))
    logits[np.arange(rows), labels] += 3
    wrong = rng.random(rows) < 0.12
    logits[wrong, (labels[wrong] + 1) % len(names)] += 5
    odds = np.exp(logits)
    sure = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float16)
    column = [f"the secret text of row {i}, " + "which goes on and on " * 30 for i in range(rows)]
    return answers_of("test", labels, sure, names, [column] if texts else None)


def whole_report(trials: int = 12, classes: int = 6, texts: bool = True, **fields: Any) -> SweepReport:
    """A report in which every chart has something to show."""
    records = trial_records(trials)
    names = [f"class number {i} of them" for i in range(classes)]
    found = [r for r in records if r.confirms is None and r.state == "COMPLETE"]
    fresh = [r for r in records if r.confirms is not None]
    ranked = sorted(found, key=lambda record: -(record.value or 0))
    winner, default = ranked[0], ranked[-1]
    run = next(r for r in fresh if r.confirms == winner.number)
    answers = some_answers(names, texts=texts)
    scores = {**dict.fromkeys(METRICS, 0.8123), "loss": 0.4}
    guess = {name: 0.2 for name, metric in METRICS.items() if metric.majority == "scored"}
    whole: dict[str, Any] = {
        "name": "reviews", "model": "bert-base-uncased", "dataset": "reviews.csv", "metric": "f1", "mode": "max",
        "f1_average": "macro", "label_names": names, "precision": "bf16", "warnings": [], "notes": ["a note"],
        "best": Winner(
            trial=run.number, config=winner.config, epoch=run.best_epoch or 1, seed=run.seed, confirms=winner.number,
            validation=dict(scores), collapsed=False,
        ),
        "test": SplitScores(
            scores=scores, rows=answers.rows, interval=Intervals(accuracy=[0.78, 0.84], f1=[0.7812, 0.8456], level=0.95)
        ),
        "majority": Majority(validation=guess, test=guess), "trials": [trial_row(record) for record in records],
        "wall_s": 900.0, "train_s": sum(record.seconds for record in records), "versions": {"python": "3.11"},
        "rows": {"train": 1000, "validation": 200, "test": answers.rows}, "seed": 42, "sweep_id": None,
        "recipe": RecipeScores(mean=0.80, interval=[0.78, 0.83], seeds=2, sd_seed=0.01, on="test", metric="f1"),
        "optimism": OptimismScores(epoch=0.3, seed=0.9, selection=0.7, total=1.4),
        "default": DefaultScores(
            trial=default.number, config=default.config, validation=0.7, test=0.7, difference=0.0234,
            interval=[0.01, 0.03], probability_better=0.97, on="test", is_winner=False,
        ),
        "finalists": [
            FinalistScores(
                trial=each.number, config=each.config, found=each.value or 0.0, mean=0.7, behind=False,
                runs=[
                    FreshRun(trial=r.number, seed=r.seed or 0, value=r.value or 0.0, epoch=1, seconds=9.0)
                    for r in fresh if r.confirms == each.number
                ],
            )
            for each in ranked[:3]
        ],
        "ties": [each.number for each in ranked[1:3]],
        "cheapest": Cheapest(
            trial=ranked[1].number, config=ranked[1].config, seconds=9.0, of_winner_s=20.0, words="epochs=2 is as good"
        ),
        "timeline": timeline_of(records), "importance": importance_of(records, SPACE, "f1", "max"), "answers": answers,
        "data": DataSummary(
            text_columns=["text"], label_column="label", max_length=128, cut_from_train=["validation"],
            splits={"train": SplitSummary(
                rows=1000, classes=dict.fromkeys(names, 9), median_tokens=22.5, longest_tokens=128, cut_rows=3
            )},
        ),
        "provenance": Provenance(
            command="python -m tune.search --dataset reviews.csv", spec={"model": "bert-base-uncased", "points": None},
            model_fingerprint="a1" * 32, data_fingerprint="b2" * 32, environment={"driver": "node-0"},
        ),
    }  # fmt: skip
    return SweepReport(**{**whole, **fields})
