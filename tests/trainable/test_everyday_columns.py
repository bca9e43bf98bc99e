"""Which column is what, and which labels are one class: guessed where there is one way to read a table, else asked."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.data.labels import MULTI_LABEL, REGRESSION
from trainable.data.load import TextData, load_data, load_file
from trainable.data.request import DataRequest
from trainable.errors import UserError

WORDS = "river lamp window ticket pencil kettle drawer basket curtain bicycle table spoon".split()  # noqa: SIM905
ROWS = 60


def prose(seed: int, rows: int = ROWS) -> list[str]:
    rng = random.Random(seed)
    return [f"{' '.join(rng.choices(WORDS, k=7))} {seed} {i}" for i in range(rows)]


def names(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(WORDS) + rng.choice(WORDS) for _ in range(ROWS)]


TEXT, OTHER = prose(1), prose(2)
LABEL = [i % 2 for i in range(ROWS)]
WORD = ["bad", "good"] * (ROWS // 2)


def put(folder: Path, split: str = "train", **columns: Any) -> Path:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def load(path: Path, **request: Any) -> TextData:
    return load_data(DataRequest(str(path), **request))


def refusals(path: Path, **request: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(path, **request)
    return [problem.replace(f"{path}/", "") for problem in caught.value.problems]


def notes_of(path: Path, **request: Any) -> list[str]:
    notes = [note.replace(f"{path}/", "") for note in load(path, **request).notes]
    return [note for note in notes if "were cut from train" not in note]


# Texts

READ: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "the only words, whatever their name": ({"zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "a clear name beside user names": ({"user_name": names(1), "tweet": TEXT, "label": LABEL}, ("tweet",), "label"),
    "identifiers": ({"doc": [f"ab{i}-x" for i in range(ROWS)], "zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "addresses": ({"at": [f"https://a.b/{i}" for i in range(ROWS)], "zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "dates": ({"day": [f"2020-01-{i % 28 + 1:02d} noon" for i in range(ROWS)], "zz": TEXT, "y": LABEL}, ("zz",), "y"),
    "languages": ({"in": ["en", "de", "pt-BR"] * 20, "zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "one and the same": ({"made by": ["the same old tool"] * ROWS, "zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "few values": ({"airline": ["Far And Wide", "Near By"] * 30, "zz": TEXT, "y": [0, 1, 1, 0] * 15}, ("zz",), "y"),
    "the label in words": ({"label_text": WORD, "zz": TEXT, "label": LABEL}, ("zz",), "label"),
    "a pair": ({"premise": TEXT, "hypothesis": OTHER, "label": LABEL}, ("premise", "hypothesis"), "label"),
    "a pair, the other way round": ({"hypothesis": OTHER, "premise": TEXT, "y": LABEL}, ("premise", "hypothesis"), "y"),
    "a pair by numbers": ({"q1": TEXT, "q2": OTHER, "is_duplicate": LABEL}, ("q1", "q2"), "is_duplicate"),
    "a pair as GLUE writes it": (
        {"Quality_label": LABEL, "#1 ID": LABEL, "#2 ID": LABEL, "#1 String": TEXT, "#2 String": OTHER},
        ("#1 String", "#2 String"),
        "Quality_label",
    ),
    "a pair by letters": ({"text_a": TEXT, "text_b": OTHER, "label": LABEL}, ("text_a", "text_b"), "label"),
    "a pair beside more prose": (
        {"question": TEXT, "passage": OTHER, "remark": prose(3), "label": LABEL},
        ("question", "passage"),
        "label",
    ),
    "a pair beside where it comes from": (
        {"source1": ["none here"] * ROWS, "source2": ["none here"] * ROWS, "sentence1": TEXT, "sentence2": OTHER,
         "y": LABEL},
        ("sentence1", "sentence2"),
        "y",
    ),
    "a label beside a column of one class": (
        {"category": ["fiction"] * ROWS, "text": TEXT, "gold_label": WORD},
        ("text",),
        "gold_label",
    ),
    "a pair beside its parses": (
        {"sentence1": TEXT, "sentence1_parse": prose(4), "sentence2": OTHER, "sentence2_parse": prose(5), "y": LABEL},
        ("sentence1", "sentence2"),
        "y",
    ),
    "half a pair": ({"sentence1": TEXT, "label": LABEL}, ("sentence1",), "label"),
    "stars": (
        {"review_id": [f"R{i}" for i in range(ROWS)], "stars": [1, 2, 3, 4, 5] * 12, "text": TEXT},
        ("text",),
        "stars",
    ),
    "a label by a word of its name": ({"text": TEXT, "airline_sentiment": WORD}, ("text",), "airline_sentiment"),
    "a label beside its confidence": (
        {"text": TEXT, "sentiment_confidence": [0.5 + i / 1000 for i in range(ROWS)], "item_sentiment": WORD},
        ("text",),
        "item_sentiment",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", READ)
def test_a_table_that_can_be_read_in_one_way(way: str, tmp_path: Path) -> None:
    columns, texts, label = READ[way]
    data = load(put(tmp_path, **columns))
    assert (data.text_columns, data.label_column) == (texts, label)


ASKED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "a reason beside the text": (
        {"text": TEXT, "reason": [f"says {word}" for word in names(4)], "label": LABEL},
        "train.jsonl: which columns are the texts? Name one, or the two of a pair, with --text-columns A[,B]; there",
        ["'text': ", "'reason': 'says "],
    ),
    "two columns of prose": (
        {"foo": TEXT, "bar": OTHER, "label": LABEL},
        "train.jsonl: which columns are the texts?",
        [f"'foo': '{TEXT[0][:40]}...', '{TEXT[1][:40]}...'", "'bar': "],
    ),
    "two names of texts": ({"title": TEXT, "body": OTHER, "y": LABEL}, "train.jsonl: which columns are the texts?", []),
    "two pairs": (
        {"sentence1": TEXT, "sentence2": OTHER, "premise": TEXT, "hypothesis": prose(3), "question": TEXT,
         "passage": OTHER, "label": LABEL},
        "train.jsonl: which columns are the texts?",
        [],
    ),
    "three texts": (
        {"text1": TEXT, "text2": OTHER, "text3": prose(3), "label": LABEL},
        "train.jsonl: which columns are the texts?",
        ["'text3': "],
    ),
    "a text of words": (
        {"text": [text.split()[:9] for text in TEXT], "label": LABEL},
        "train.jsonl: which columns are the texts?",
        ["'text' holds lists"],
    ),
    "nothing but identifiers": (
        {"doc": [f"ab{i}-x" for i in range(ROWS)], "label": LABEL},
        "train.jsonl: which columns are the texts?",
        ["there are doc, label"],
    ),
    "nothing but the label in words": (
        {"label_text": WORD, "label": LABEL},
        "train.jsonl: which columns are the texts?",
        ["there are label_text, label"],
    ),
    "two labels": (
        {"text": TEXT, "label": LABEL, "target": WORD},
        "train.jsonl: which column is the label? Name it with --label-column; there are\n",
        ["'label': '0', '1'", "'target': 'bad', 'good'"],
    ),
    "no label": ({"v1": WORD, "v2": TEXT}, "train.jsonl: which column is the label?", ["there are v1, v2"]),
    "a column for each class": (
        {"comment_text": TEXT, "toxic": LABEL, "insult": LABEL[::-1], "threat": [0] * ROWS},
        "train.jsonl: the columns toxic, insult, threat hold 0 and 1, as multi-label or one-hot data does; one label "
        "column with one class for each row is supported. Name it with --label-column",
        [],
    ),
    "a label of spans": (
        {"text": TEXT, "label": [[[0, 5, "PERSON"]]] * ROWS},
        "train.jsonl: which column is the label?",
        ["'label' holds an array"],
    ),
    "a label inside an object": (
        {"text": TEXT, "meta": [{"label": i} for i in LABEL]},
        "train.jsonl: which column is the label?",
        ["'meta' holds an object with the fields label (pandas.json_normalize makes columns of them)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", ASKED)
def test_a_table_that_can_be_read_in_several_ways_is_asked_about(way: str, tmp_path: Path) -> None:
    columns, begins, parts = ASKED[way]
    (problem,) = refusals(put(tmp_path, **columns))
    assert problem.startswith(begins)
    assert all(part in problem for part in parts), problem


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    leak = "train.jsonl: label_text says the label in other words and is not used: the score would be that of a leak"
    assert notes_of(put(tmp_path, text=TEXT, label=LABEL, label_text=WORD)) == [leak]
    put(tmp_path, question=TEXT, passage=OTHER, remark=prose(3), label=LABEL)
    assert notes_of(tmp_path) == ["train.jsonl: remark is not used as text"]


# Labels


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (["good", "good ", "bad"], ("bad", "good"), "label 'good ' (20 rows) is read as 'good'"),
        (["good", "good", "Good", "bad"], ("bad", "good"), "label 'Good' (15 rows) is read as 'good'"),
        ([" yes", "no"], ("no", "yes"), "label ' yes' is read as 'yes'"),
        (["1.0", "0.0"], ("0", "1"), "label '0.0' is read as '0'; '1.0' is read as '1'"),
        ([1.0, 0.0], ("0", "1"), None),
        ([True, False], ("false", "true"), None),
        ([1, "1", 0, "0"], ("0", "1"), None),
        (["True", "true", "False"], ("False", "True"), "label 'true' (20 rows) is read as 'True'"),
        (["1.0", "1.5", "2.0"], ("1.0", "1.5", "2.0"), None),
        ([["bad"], ["good"]], ("bad", "good"), None),
        ([1, 2, 3, 4, 5], ("1", "2", "3", "4", "5"), None),
        (["NA", "null"], ("NA", "null"), None),
        ([-1, 0, 1], ("-1", "0", "1"), None),
        (["Arts, Culture", "Trade, Money"], ("Arts, Culture", "Trade, Money"), None),
    ],
)
def test_labels_of_one_class(labels: list[Any], classes: tuple[str, ...], note: str | None, tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=labels * (ROWS // len(labels)))
    assert load(tmp_path).label_names == classes
    notes = notes_of(tmp_path)
    if note is not None:
        assert notes == [f"train.jsonl: {note}. --strict-labels keeps labels as they stand"]
        kept = tuple(sorted(set(labels)))
        assert load(tmp_path, strict_labels=True).label_names == kept
    elif isinstance(labels[0], list):
        assert notes == ["train.jsonl: label 'label' holds lists of one class each, read as that class"]
    else:
        assert notes == []


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ([0, 1], ["0", "1"]),
        ([0, 1], [0.0, 1.0]),
        ([0, 1], ["0.0", "1.0"]),
        ([0, 1], [False, True]),
        ([False, True], ["False", "True"]),
        (["False", "True"], [False, True]),
        ([False, True], [0, 1]),
        (["bad", "good"], [" bad", "GOOD "]),
        (["bad", "good"], [["bad"], ["good"]]),
    ],
)
def test_a_class_is_the_same_in_every_split(train: list[Any], test: list[Any], tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=train * 30)
    put(tmp_path, "test", text=OTHER, label=test * 30)
    data = load(tmp_path)
    assert data.splits["test"].labels == (0, 1) * 30
    problems: list[str] = []
    again = load_file(tmp_path / "test.jsonl", data, problems)
    assert (again, problems) == (data.splits["test"], []), "evaluate --data reads them the same way"


def test_columns_of_a_split_may_be_spelled_otherwise(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=LABEL)
    put(tmp_path, "test", Text=OTHER, LABEL=LABEL)
    assert set(load(tmp_path).splits["test"].texts[0]) == set(OTHER)
    assert "test.jsonl: column 'Text' is read as 'text'" in notes_of(tmp_path)


def test_a_strict_label_of_another_spelling_is_unknown(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=WORD)
    put(tmp_path, "test", text=OTHER, label=["bad", "Good"] * 30)
    assert refusals(tmp_path, strict_labels=True)[0].startswith("test.jsonl, line 2: label 'Good' does not occur in")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([[0, 1], [1]], f"label 'label' holds lists such as [0, 1]: {MULTI_LABEL}"),
        ([[], [0, 1], [1]], f"label 'label' holds lists such as [0, 1]: {MULTI_LABEL}"),
        (["a|b", "a", "b"], f"labels such as 'a|b' name several classes: {MULTI_LABEL}"),
        (["a;b", "a", "b"], f"labels such as 'a;b' name several classes: {MULTI_LABEL}"),
        (["a, b", "a", "b"], f"labels such as 'a, b' name several classes: {MULTI_LABEL}"),
        ([0.5, 1.0], f"label 'label' holds numbers such as 0.5: {REGRESSION}"),
        (list(range(60)), f"60 classes in 60 rows, all of them numbers: {REGRESSION}; is the label column the "
         "right one?"),
        (["good", "nan", "bad"], "20 rows have the label 'nan', which looks like a mark for rows without a label; "
         "--skip-labels=nan leaves them out, --strict-labels makes a class of them"),
        (["good", "-", "bad"], "20 rows have the label '-', which looks like a mark for rows without a label; "
         "--skip-labels=- leaves them out, --strict-labels makes a class of them"),
    ],
)  # fmt: skip
def test_labels_that_are_none(labels: list[Any], told: str, tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=(labels * ROWS)[:ROWS])
    assert refusals(tmp_path) == [f"train.jsonl: {told}"]


def test_rows_with_a_label_are_left_out_where_asked(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=["good", "-", "bad"] * 20)
    data = load(tmp_path, skip_labels=("-",))
    assert (data.label_names, sum(map(len, data.splits.values()))) == (("bad", "good"), 40)
    assert "20 of 60 rows have the label - and were left out" in data.notes[0]
    assert load(tmp_path, strict_labels=True).label_names == ("-", "bad", "good")


def test_rows_with_a_blank_are_told_and_left_out_where_asked(tmp_path: Path) -> None:
    second = [*OTHER[:10], "", *OTHER[11:]]
    put(tmp_path, id=list(range(ROWS)), question1=TEXT, question2=second, is_duplicate=LABEL)
    assert refusals(tmp_path) == [
        "train.jsonl, line 11: column 'question2' is empty; --skip-blank-rows leaves such rows out"
    ]
    data = load(tmp_path, skip_blank_rows=True)
    assert data.text_columns == ("question1", "question2")
    assert sum(map(len, data.splits.values())) == 59
    assert "1 of 60 rows have a blank text or label and were left out" in data.notes[0]


@pytest.mark.parametrize("missing", ["no column", None, "", -1, "?"])
def test_a_test_split_without_labels_is_replaced_by_a_cut(missing: Any, tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=LABEL)
    put(tmp_path, "test", text=OTHER, **({} if missing == "no column" else {"label": [missing] * ROWS}))
    data = load(tmp_path)
    assert set(data.splits["test"].texts[0]) < set(TEXT)
    assert any("so the test split is not scored on" in note or "are hidden (-1)" in note for note in data.notes)
    assert any("no test split to use" in note for note in data.notes)


def test_a_test_split_of_nulls_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXT, "label": LABEL}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"text": OTHER, "label": pa.nulls(ROWS)}), tmp_path / "test.parquet")
    assert any("has no label in column 'label'" in note for note in load(tmp_path).notes)


def test_a_column_that_names_splits_is_told(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=LABEL, part=["train", "Train", "dev"] * (ROWS // 3))
    (note,) = notes_of(tmp_path)
    assert note.startswith("train.jsonl: column 'part' says dev, train, and is not used")
    put(tmp_path, "test", text=OTHER, label=LABEL)
    assert notes_of(tmp_path) == [], "the files are the splits"


def test_a_row_whose_list_is_empty_has_no_label(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=[["a"], ["b"], []] * (ROWS // 3))
    assert (
        refusals(tmp_path)[0] == "train.jsonl, line 3: label 'label' is missing; --skip-blank-rows leaves such rows out"
    )
    assert sum(map(len, load(tmp_path, skip_blank_rows=True).splits.values())) == 40


def test_a_class_of_one_row_stays_in_train(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=["odd", *WORD[1:]])
    data = load(tmp_path)
    odd = data.label_names.index("odd")
    assert [name for name, split in data.splits.items() if odd in split.labels] == ["train"]
    told = "validation and test have no row of class odd (1 row in train): no score says anything of it"
    assert notes_of(tmp_path) == [told]


def test_validation_is_cut_to_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    put(tmp_path, text=TEXT, label=LABEL)
    put(tmp_path, "validation", text=OTHER, label=LABEL)
    data = load(tmp_path, validation_rows=20)
    assert len(data.splits["validation"]) == 20
    assert data == replace(load(tmp_path, validation_rows=20))
    assert Counter(data.splits["validation"].labels) == {0: 10, 1: 10}, "each class has its share"
    assert set(data.splits["validation"].texts[0]) < set(OTHER)


def test_class_names_of_a_file_count_in_evaluate_too(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["awful", "fine"])})
    Dataset.from_dict({"text": TEXT, "label": LABEL}, features=features).to_parquet(str(tmp_path / "train.parquet"))
    data = load(tmp_path)
    problems: list[str] = []
    again = load_file(tmp_path / "train.parquet", data, problems)
    assert problems == []
    assert again is not None
    assert (data.label_names, again.labels) == (("awful", "fine"), tuple(LABEL))
    (told,) = refusals(tmp_path, skip_labels=("fin",))
    assert told == "--skip-labels fin: no row has this label; did you mean 'fine'?"
    (told,) = refusals(tmp_path, skip_labels=("fine",))
    assert told == "train.parquet: all labels are 'awful'; a classifier needs two classes or more"
