"""The laws of the demo corpus: deterministic, shipped as generated, no leakage, sane form, not trivial."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from tune.demo import corpus as demo
from tune.demo.__main__ import main
from tune.demo.corpus import DEFAULT_SEED, MIX, NOT_PARAPHRASE, PARAPHRASE, SPLIT_SIZES, Pair
from tune.demo.words import FRAMES

SHIPPED = Path(demo.__file__).parents[1] / "presets" / "demo"

Corpus = dict[str, list[Pair]]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return demo.make_corpus(DEFAULT_SEED)


def test_same_seed_same_corpus_other_seed_another(corpus: Corpus) -> None:
    assert demo.make_corpus(DEFAULT_SEED) == corpus
    other = demo.make_corpus(DEFAULT_SEED + 1)
    assert {pair.sentence1 for pair in other["train"]}.isdisjoint(pair.sentence1 for pair in corpus["train"])


def test_the_command_writes_the_shipped_files(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path / "new")]) == 0
    names = sorted(path.name for path in SHIPPED.glob("*.jsonl"))
    assert names == sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["test.jsonl", "train.jsonl", "validation.jsonl"]
    for name in names:
        assert (tmp_path / "new" / name).read_bytes() == (SHIPPED / name).read_bytes(), name
    assert sum((SHIPPED / name).stat().st_size for name in names) < 600_000


def test_shipped_rows_have_the_three_fields(corpus: Corpus) -> None:
    for split, pairs in corpus.items():
        rows = [json.loads(line) for line in (SHIPPED / f"{split}.jsonl").read_text("utf-8").splitlines()]
        assert [list(row) for row in rows] == [["sentence1", "sentence2", "label"]] * len(pairs)
        assert [row["label"] for row in rows] == [pair.label for pair in pairs]


def test_sizes_and_share_of_paraphrases(corpus: Corpus) -> None:
    assert {split: len(pairs) for split, pairs in corpus.items()} == {
        "train": 800,
        "validation": 200,
        "test": 400,
    }
    for split, pairs in corpus.items():
        labels = Counter(pair.label for pair in pairs)
        assert set(labels) == {PARAPHRASE, NOT_PARAPHRASE}
        assert labels[PARAPHRASE] == SPLIT_SIZES[split][1]
        assert 0.66 <= labels[PARAPHRASE] / len(pairs) <= 0.68


def test_every_kind_of_near_miss_in_every_split(corpus: Corpus) -> None:
    for pairs in corpus.values():
        assert {pair.kind for pair in pairs if pair.label == NOT_PARAPHRASE} == set(MIX)
        assert {pair.kind for pair in pairs if pair.label == PARAPHRASE} == {demo.SAME}


def test_at_least_forty_frames() -> None:
    assert len(FRAMES) >= 40


def test_no_sentence_twice_and_no_near_copy_in_two_splits(corpus: Corpus) -> None:
    sentences = [text for pairs in corpus.values() for pair in pairs for text in (pair.sentence1, pair.sentence2)]
    assert len(set(sentences)) == len(sentences)
    sets = {split: [demo.word_set(pair) for pair in pairs] for split, pairs in corpus.items()}
    for one, two in combinations(sets, 2):
        assert max(demo.overlap(a, b) for a in sets[one] for b in sets[two]) <= 0.8


def test_sentences_have_a_sane_form(corpus: Corpus) -> None:
    for pairs in corpus.values():
        for text in (text for pair in pairs for text in (pair.sentence1, pair.sentence2)):
            assert re.match(r"[A-Z0-9\"]", text), text
            assert re.search(r"[^.]\.$", text), text
            assert not re.search(r"\s\s|\s[,.]|^\s|\s$|,,|\.,,", text), text
            assert not re.search(r"[\[\]{}<>|]|//|\$[a-z]|None", text), text
            assert not re.search(r"\b(\w+) \1\b", text), text
            assert not re.search(r"\b[Aa] (8|11|18|eight|eleven|[aeio])", text), text
            assert 12 <= len(text.split()) <= 30, text


def jaccard(pair: Pair) -> float:
    one, two = (set(re.findall(r"[\w%$.,-]*[\w%]", text.lower())) for text in (pair.sentence1, pair.sentence2))
    return len(one & two) / len(one | two)


def f1(pairs: list[Pair], predicted: list[bool]) -> float:
    true = [pair.label == PARAPHRASE for pair in pairs]
    hits = sum(a and b for a, b in zip(true, predicted, strict=True))
    return 2 * hits / (sum(true) + sum(predicted)) if hits else 0.0


def test_word_overlap_does_not_solve_it(corpus: Corpus) -> None:
    scores = {split: [jaccard(pair) for pair in pairs] for split, pairs in corpus.items()}

    def rule(split: str, threshold: float, above: bool) -> float:
        return f1(corpus[split], [(score >= threshold) == above for score in scores[split]])

    _best, threshold, above = max(
        (rule("train", step / 100, above), step / 100, above) for step in range(102) for above in (True, False)
    )
    assert rule("test", threshold, above) < 0.85


def test_both_labels_overlap_alike(corpus: Corpus) -> None:
    means = [
        sum(values) / len(values)
        for values in (
            [jaccard(pair) for pair in corpus["train"] if pair.label == label] for label in (PARAPHRASE, NOT_PARAPHRASE)
        )
    ]
    assert abs(means[0] - means[1]) < 0.08
