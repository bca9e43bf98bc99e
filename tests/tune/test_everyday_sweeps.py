"""From a file as people have it to the report, by the command line; and what may be asked of a sweep that exists."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hub import PLACES, SHOWS, THINGS, TONES, VERBS
from tests.tune.test_end_to_end import command

SENTENCES = [
    f"the {thing} in the {place} {verb} the {show} is {tone}"
    for thing, place, verb, show, tone in itertools.product(THINGS, PLACES, VERBS, SHOWS, [*TONES[0], *TONES[1]])
]


def sentences(rows: int, seed: int = 0) -> list[str]:
    """Different sentences in random order."""
    return random.Random(seed).sample(SENTENCES, rows)


def put(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(map(str, row)) for row in [head, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_good(sentence: str) -> bool:
    return sentence.split()[-1] in TONES[1]


def like_trec(folder: Path) -> Path:
    """Six classes of questions as JSON lines: train and test."""
    names = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]
    for split, rows, seed in (("train", 240, 0), ("test", 60, 1)):
        lines = [
            json.dumps({"text": f"{text} ?", "label": names[i % 6 if i > 11 or split == "test" else 1 + i % 5]})
            for i, text in enumerate(sentences(rows, seed))
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def like_sst2(folder: Path) -> Path:
    """TSV files: train, dev, and a test split whose labels are kept secret, in which quotes are letters."""
    texts = sentences(300)
    texts[0] = f'"{texts[0]}'
    put(folder / "train.tsv", ["sentence", "label"], [(t, int(is_good(t))) for t in texts[:200]], "\t")
    put(folder / "dev.tsv", ["sentence", "label"], [(t, int(is_good(t))) for t in texts[200:260]], "\t")
    put(folder / "test.tsv", ["index", "sentence"], list(enumerate(texts[260:])), "\t")
    return folder


def of_pairs(folder: Path) -> Path:
    """One CSV file of question pairs with identifiers, as Quora's."""
    texts = sentences(240)
    rows = []
    for i, text in enumerate(texts):
        is_same = i % 3 == 0
        other = texts[i - 1] if not is_same else f"{text} again"
        rows.append((i, 2 * i + 1, 2 * i + 2, text, other, int(is_same)))
    put(folder / "pairs.csv", ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], rows)
    return folder / "pairs.csv"


def of_77_classes(folder: Path) -> Path:
    """One CSV file of intents."""
    put(
        folder / "intents.csv",
        ["text", "category"],
        [(t, f"intent_{i % 77:02d}") for i, t in enumerate(sentences(770))],
    )
    return folder / "intents.csv"


def imbalanced(folder: Path) -> Path:
    """One CSV file as Excel saves it in half of Europe: semicolons, a class with one row in twenty."""
    texts = sorted(sentences(400), key=is_good)
    rows = [(t, "spam" if i % 20 == 0 else "ham") for i, t in enumerate(texts)]
    put(folder / "mails.csv", ["message", "spam"], rows, ";")
    return folder / "mails.csv"


DATA: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "TREC-like": (like_trec, {"classes": 6, "rows": {"train": 204, "validation": 36, "test": 60}}, "text text"),
    "SST-2-like": (like_sst2, {"classes": 2, "rows": {"train": 170, "validation": 60, "test": 30}}, "text sentence"),
    "pairs": (
        of_pairs,
        {"classes": 2, "rows": {"train": 174, "validation": 30, "test": 36}},
        "text question1 + question2",
    ),
    "77 classes": (of_77_classes, {"classes": 77, "rows": {"train": 539, "validation": 77, "test": 154}}, "text text"),
    "imbalanced": (imbalanced, {"classes": 2, "rows": {"train": 289, "validation": 51, "test": 60}}, "text message"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", DATA)
def test_a_file_becomes_a_report_with_default_settings(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    make, expected, said = DATA[kind]
    data = tmp_path / "data"
    data.mkdir()
    where = make(data)
    done = command("tune.search", "--dataset", where, "--model", tiny_model, "--out", "run", cwd=tmp_path, limit_s=580)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert said in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len([row for row in report["trials"] if row["confirms"] is None]) == 12
    assert len(report["label_names"]) == expected["classes"]
    assert report["rows"] == expected["rows"]
    assert report["test"]["rows"] == expected["rows"]["test"]
    assert report["f1_average"] == ("binary" if expected["classes"] == 2 else "macro")
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
    again = command("tune.evaluate", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "agrees with report.json" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_a_sweep_may_be_asked_later(tiny_model: Path, tmp_path: Path) -> None:
    """No test score; a space of few configurations; then a point, fewer trials, and replicates."""
    rows = [(text, int(is_good(text))) for text in sentences(80)]
    put(tmp_path / "my reviews.csv", ["review", "stars"], rows)
    flags = ["--dataset", "my reviews.csv", "--model", tiny_model, "--test-split", "none", "--scheduler", "none"]
    flags += ["--confirm", "none"]
    flags += [
        "--space",
        "learning_rate=1e-3",
        "--space",
        "batch_size=8,16",
        "--space",
        "epochs=1",
        "--precision",
        "fp32",
    ]

    done = command("tune.search", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    run = tmp_path / "runs" / "my reviews"
    report = json.loads((run / "report.json").read_text())
    assert report["test"] is None
    assert report["rows"] == {"train": 68, "validation": 12}
    assert sorted(row["config"]["batch_size"] for row in report["trials"]) == [8, 16], "each configuration once"
    assert "2 configurations" in done.stdout, "why it ended before 12 trials"
    assert "--repeat-configurations" in done.stdout

    out = ["--out", "runs/my reviews"]
    done = command("tune.search", *out, "--num-trials", 5, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "each configuration was tried" in done.stdout.splitlines()[0]
    point = {"learning_rate": 1e-3, "batch_size": 32, "epochs": 1}
    (tmp_path / "points.json").write_text(json.dumps([point]))
    done = command(
        "tune.search", *out, "--points", "points.json", "--repeat-configurations", "--num-trials", 4, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    trials = json.loads((run / "report.json").read_text())["trials"]
    assert len(trials) == 4
    assert trials[:2] == report["trials"], "what was there stays"
    assert trials[2]["config"]["batch_size"] == 32
    assert trials[3]["config"] in [row["config"] for row in trials[:3]], "a replicate"
    assert trials[3]["seed"] not in [row["seed"] for row in trials[:3]]

    done = command("tune.search", *out, "--num-trials", 1, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "of 1" not in done.stdout
    assert json.loads((run / "report.json").read_text())["trials"] == trials, "no trial is lost"
