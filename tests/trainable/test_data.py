"""Laws of the data: one frozen label map, cuts that are stratified, seeded and disjoint, problems told at once."""

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

from trainable.data.formats import KNOWN
from trainable.data.load import TextData, load_data, load_file
from trainable.data.request import DataRequest
from trainable.data.sources import hub_name
from trainable.data.splits import Split, stratified_cut, stratified_rows
from trainable.errors import UserError
from trainable.hub import download as hub


def write_csv(folder: Path, **splits: list[tuple[Any, ...]]) -> DataRequest:
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        lines = ["text,label", *(",".join(map(str, row)) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return DataRequest(str(folder))


def rows(count: int, classes: tuple[Any, ...] = (0, 1), word: str = "text") -> list[tuple[Any, ...]]:
    return [(f"{word} {i}", classes[i % len(classes)]) for i in range(count)]


def problems_of(request: DataRequest) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_data(request)
    return [problem.removeprefix(f"{request.dataset}/") for problem in caught.value.problems]


def facts(data: TextData) -> tuple[Any, ...]:
    return data.label_names, {name: (split.texts, split.labels) for name, split in data.splits.items()}


# Labels


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ((1, 0), ("0", "1")),
        ((10, 9, 2), ("2", "9", "10")),
        ((-1, 3), ("-1", "3")),
        (("yes", "no"), ("no", "yes")),
        (("b", "10", "9"), ("10", "9", "b")),
        (("NA", "null"), ("NA", "null")),
        (("9" * 5000, "1"), ("1", "9" * 5000)),
    ],
)
def test_classes_are_ordered_by_value_or_alphabet(
    classes: tuple[Any, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    data = load_data(
        write_csv(tmp_path / "d", train=rows(24, classes), validation=rows(3, classes), test=rows(3, classes))
    )
    assert data.label_names == names
    assert [names[i] for i in data.splits["train"].labels] == [str(classes[i % len(classes)]) for i in range(24)]


def test_the_same_rows_in_any_format_are_the_same_data(tmp_path: Path) -> None:
    columns = {"text": [f'NA, "{i}"' for i in range(12)], "label": [i % 2 for i in range(12)]}
    records = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    contents = {
        "csv": "text,label\n" + "".join('"{}",{}\n'.format(r["text"].replace('"', '""'), r["label"]) for r in records),
        "tsv": "text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in records),
        "jsonl": "".join(json.dumps(r) + "\n" for r in records),
    }
    fingerprints = set()
    for suffix in (*contents, "parquet"):
        folder = tmp_path / suffix
        folder.mkdir()
        for split in ("train", "validation", "test"):
            if suffix == "parquet":
                pq.write_table(pa.table(columns), folder / f"{split}.parquet")
            else:
                (folder / f"{split}.{suffix}").write_text(contents[suffix])
        fingerprints.add(load_data(DataRequest(str(folder))).fingerprint)
    assert len(fingerprints) == 1


def test_labels_of_true_and_false(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        "".join(f'{{"text": "t {i}", "label": {["true", "false"][i % 2]}}}\n' for i in range(20))
    )
    assert load_data(DataRequest(str(tmp_path))).label_names == ("false", "true")


def test_the_positive_class_is_the_last(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=rows(24, ("a", "b")))
    assert load_data(replace(request, positive_label="a")).label_names == ("b", "a")
    assert load_data(replace(request, positive_label="b")).label_names == ("a", "b")
    assert problems_of(replace(request, positive_label="c")) == ["positive_label: no class 'c'; known: a, b"]


def test_a_label_that_train_has_not_is_named_at_its_own_line(tmp_path: Path) -> None:
    request = write_csv(
        tmp_path / "d", train=rows(8), validation=[("a", ""), ("b", 7), ("c", " "), ("d", "01")], test=rows(2)
    )
    assert problems_of(request) == [
        "validation.csv, line 2: label 'label' is blank; --skip-blank-rows leaves such rows out",
        "validation.csv, line 4: label 'label' is blank",
        "validation.csv, line 3: label '7' does not occur in train; known: 0, 1",
        "validation.csv, line 5: label '01' does not occur in train; did you mean '1'?",
    ]


def test_labels_of_train_that_are_all_wrong_spare_the_other_files(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=[("a", ""), ("b", "")], validation=rows(4), test=rows(4))
    assert problems_of(request) == [
        "train.csv, line 2: label 'label' is blank; --skip-blank-rows leaves such rows out",
        "train.csv, line 3: label 'label' is blank",
    ]


def test_hidden_test_labels_are_replaced_by_a_cut(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=rows(40), validation=rows(4, word="v"), test=rows(4, (-1,), word="t"))
    data = load_data(request)
    assert data.notes[0] == "the labels of the test split are hidden (-1)"
    assert data.notes[1] == "no test split to use: 6 rows were cut from train, stratified, seed 0"
    assert data.label_names == ("0", "1")
    assert {text.split()[0] for text in data.splits["test"].texts[0]} == {"text"}


# Columns


@pytest.mark.parametrize(
    ("row", "text", "label"),
    [
        ({"sentence": "a b", "label": 1}, ("sentence",), "label"),
        ({"idx": "7 x", "premise": "a", "hypothesis": "b", "label": 1, "n": 3}, ("premise", "hypothesis"), "label"),
        ({"Text": "a", "Label": "x"}, ("Text",), "Label"),
        ({"text": "a", "score": 1.5, "target": 0}, ("text",), "target"),
        ({"text": "a", "number": "12", "y": 0}, ("text",), "y"),
    ],
)
def test_guessed_columns(row: dict[str, Any], text: tuple[str, ...], label: str, tmp_path: Path) -> None:
    lines = []
    for i in range(20):
        record = {key: f"{value} {i}" if key in text else value for key, value in row.items()}
        lines.append(json.dumps({**record, label: f"{row[label]}{i % 2}" if isinstance(row[label], str) else i % 2}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    data = load_data(DataRequest(str(tmp_path)))
    assert (data.text_columns, data.label_column) == (text, label)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "a", "label": 1, "target": 0}, "which column is the label? Name it with --label-column; there are"),
        (
            {"a": "x", "b": "y", "c": "z", "label": 1},
            "which columns are the texts? Name one, or the two of a pair, with --text-columns A[,B]; there are\n",
        ),
        (
            {"number": 12, "label": 1},
            "which columns are the texts? Name one, or the two of a pair, with --text-columns A[,B]; there are number",
        ),
        ({}, "which column is the label? Name it with --label-column; there are none"),
    ],
)
def test_columns_that_are_not_guessed(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 4)
    (problem,) = problems_of(DataRequest(str(tmp_path)))
    assert problem.startswith(f"train.jsonl: {told}")


def test_a_text_column_with_gaps_is_named_line_by_line(tmp_path: Path) -> None:
    texts = ["a", None, "b", " ", "c", ""]
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"t": t, "label": i % 2}) + "\n" for i, t in enumerate(texts))
    )
    assert problems_of(DataRequest(str(tmp_path))) == [
        "train.jsonl, line 2: column 't' holds None, not text; --skip-blank-rows leaves such rows out",
        "train.jsonl, line 4: column 't' is blank",
        "train.jsonl, line 6: column 't' is empty",
    ]


def test_an_optional_column_does_not_join_the_texts(tmp_path: Path) -> None:
    lines = [json.dumps({"t": f"a {i}", "remark": None if i else "odd", "label": i % 2}) for i in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert load_data(DataRequest(str(tmp_path))).text_columns == ("t",)


def test_every_file_is_checked_whatever_is_wrong_with_another(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=[*rows(4), ("a", 1, 2)], validation=[*rows(4), ("v", "")], test=[("", 1)])
    assert problems_of(request) == [
        "train.csv, line 6: has 3 columns where the header has 2; a text with a comma in it must stand in quotes",
        "validation.csv, line 6: label 'label' is blank; --skip-blank-rows leaves such rows out",
        "test.csv, line 2: column 'text' is empty; --skip-blank-rows leaves such rows out",
    ]
    (tmp_path / "d" / "train.csv").unlink()
    told = problems_of(request)
    held = "it holds test.csv, validation.csv; name one with --train FILE"
    assert told[0].endswith(f"d: no file train ({KNOWN}); {held}")
    assert [problem.partition(";")[0] for problem in told[1:]] == [
        "validation.csv, line 6: label 'label' is blank",
        "test.csv, line 2: column 'text' is empty",
    ]


def test_a_folder_that_can_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert problems_of(DataRequest(str(tmp_path))) == [f"--dataset {tmp_path}: can't be read: Permission denied"]


# Cuts


def made_up(seed: int) -> Split:
    """Rows of 2 to 5 classes of unlike sizes; some texts stand several times, with one class or with two."""
    rng = random.Random(seed)
    count, classes = rng.randrange(6, 300), rng.randrange(2, 6)
    labels = [min(rng.randrange(classes), rng.randrange(classes)) for _ in range(count)]
    pool = count if rng.random() < 0.3 else max(3, count // rng.randrange(1, 4))
    texts = tuple(tuple(f"{column} {rng.randrange(pool)}" for _ in range(count)) for column in range(1 + seed % 2))
    return Split(texts, tuple(labels))


@pytest.mark.parametrize("seed", range(40))
def test_laws_of_a_cut(seed: int) -> None:
    split = made_up(seed)
    fraction = random.Random(seed).choice([0.01, 0.1, 0.15, 0.33, 0.5])
    cut = stratified_cut(split, fraction, seed)
    assert cut == stratified_cut(split, fraction, seed)
    assert cut == sorted(set(cut))
    assert set(cut) <= set(range(len(split)))
    rest = [i for i in range(len(split)) if i not in set(cut)]
    texts = list(zip(*split.texts, strict=True))
    assert not {texts[i] for i in cut} & {texts[i] for i in rest}, "identical texts stay together"
    sizes, taken = Counter(split.labels), Counter(split.labels[i] for i in cut)
    for label, size in sizes.items():
        assert taken[label] <= max(1, int(size * fraction + 0.5))
        assert taken[label] < size, "a class's last row is never cut"
    assert set(split.labels) == {split.labels[i] for i in rest}


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_the_one_of_rows_as_tuples(seed: int) -> None:
    """Sweeps that were begun go on with the same splits: rows are only held in another way than they once were."""
    split = made_up(seed)
    generator = random.Random(seed)
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, texts in enumerate(zip(*split.texts, strict=True)):
        groups.setdefault(texts, []).append(i)
    shuffled = list(groups.values())
    generator.shuffle(shuffled)
    sizes = Counter(split.labels)
    wanted = {label: min(size - 1, max(1, int(size * 0.3 + 0.5))) for label, size in sizes.items()}
    cut: list[int] = []
    for members in shuffled:
        counts = Counter(split.labels[i] for i in members)
        if all(wanted[label] >= count for label, count in counts.items()):
            cut += members
            wanted = {label: left - counts[label] for label, left in wanted.items()}
    assert stratified_cut(split, 0.3, seed) == sorted(cut)


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.3, 0.5])
def test_a_cut_of_unlike_texts_is_stratified_to_the_row(fraction: float) -> None:
    labels = (0,) * 101 + (1,) * 40 + (2,) * 3 + (3,)
    split = Split((tuple(map(str, range(len(labels)))),), labels)
    taken = Counter(labels[i] for i in stratified_cut(split, fraction, 5))
    for label, size in Counter(labels).items():
        assert taken[label] == min(size - 1, max(1, int(size * fraction + 0.5)))


def test_another_seed_another_cut() -> None:
    split = Split((tuple(map(str, range(100))),), (0, 1) * 50)
    assert len({tuple(stratified_cut(split, 0.15, seed)) for seed in range(20)}) == 20


def test_missing_splits_are_cut_from_train_and_noted(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=rows(100))
    data = load_data(replace(request, seed=3))
    assert data.notes == (
        "no test split to use: 16 rows were cut from train, stratified, seed 3",
        "no validation split to use: 12 rows were cut from train, stratified, seed 3",
    )
    parts = [set(split.texts[0]) for split in data.splits.values()]
    assert list(data.splits) == ["train", "validation", "test"]
    assert set.union(*parts) == {f"text {i}" for i in range(100)}
    assert sum(map(len, parts)) == 100
    assert facts(load_data(replace(request, seed=3))) == facts(data)
    assert load_data(replace(request, seed=4)).fingerprint != data.fingerprint


def test_a_test_split_that_is_there_is_kept_whole(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=rows(40), test=rows(10, word="t"))
    data = load_data(request)
    assert data.splits["test"].texts == (tuple(f"t {i}" for i in range(10)),)
    assert len(data.notes) == 1
    assert {text.split()[0] for text in data.splits["validation"].texts[0]} == {"text"}


def test_train_rows_are_a_seeded_part_of_train(tmp_path: Path) -> None:
    request = write_csv(tmp_path / "d", train=rows(60), validation=rows(4, word="v"), test=rows(4, word="t"))
    whole, some = load_data(request), load_data(replace(request, train_rows=20))
    assert len(some.splits["train"]) == 20
    assert set(some.splits["train"].texts[0]) < set(whole.splits["train"].texts[0])
    assert {n: some.splits[n] for n in ("validation", "test")} == {n: whole.splits[n] for n in ("validation", "test")}
    assert facts(load_data(replace(request, train_rows=20))) == facts(some)
    assert facts(load_data(replace(request, train_rows=60))) == facts(load_data(replace(request, train_rows=999)))


def test_every_class_that_train_rows_would_lose_is_named(tmp_path: Path) -> None:
    train = [*rows(40), ("rare", "2"), ("rarer", "3")]
    request = write_csv(tmp_path / "d", train=train, validation=rows(4), test=rows(4))
    (problem,) = problems_of(replace(request, train_rows=2, seed=1))
    assert problem == "--train-rows 2 leaves no row of class '2', '3'; use more rows"


def test_the_fingerprint_tells_any_change(tmp_path: Path) -> None:
    base = {"train": rows(8), "validation": rows(4, word="v"), "test": rows(4, word="t")}
    seen = {load_data(write_csv(tmp_path / "d", **base)).fingerprint}
    for split in base:
        for row in (("another", 0), (base[split][0][0], 1)):
            seen.add(load_data(write_csv(tmp_path / "d", **{**base, split: [row, *base[split][1:]]})).fingerprint)
    assert len(seen) == 7
    assert load_data(write_csv(tmp_path / "d", **base)).fingerprint in seen
    assert load_data(write_csv(tmp_path / "e", **base)).fingerprint in seen, "the folder's name is no part of it"


# One more file


def test_a_file_in_the_classes_of_a_model(tmp_path: Path) -> None:
    data = load_data(write_csv(tmp_path / "d", train=rows(8), validation=rows(4), test=rows(4)))
    problems: list[str] = []
    assert load_file(tmp_path / "d" / "train.csv", data, problems) == data.splits["train"]
    assert problems == []
    write_csv(tmp_path / "d", more=[("a", ""), ("b", "1"), ("", 5)])
    path = tmp_path / "d" / "more.csv"
    assert load_file(path, data, problems) is None
    assert problems == [
        f"{path}, line 4: column 'text' is empty",
        f"{path}, line 2: label 'label' is blank",
        f"{path}, line 4: label '5' is none of the model's classes; known: 0, 1",
    ]


# The hub


def serve(monkeypatch: pytest.MonkeyPatch, **splits: pa.Table) -> None:
    monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: splits)


def named(labels: list[int], names: list[str] | None = None) -> pa.Table:
    from datasets import ClassLabel, Features, Value

    table = pa.table({"text": [f"a {i}" for i in range(len(labels))], "label": labels})
    features = Features({"text": Value("string"), "label": ClassLabel(names=names or ["no", "yes"])})
    return table.cast(features.arrow_schema)


def test_the_hubs_class_names_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, train=named([1, 0] * 10), validation=named([1, 0]), test=named([-1, -1]))
    data = load_data(DataRequest("glue/sst2"))
    assert data.label_names == ("no", "yes")
    assert data.notes[0] == "the labels of the test split are hidden (-1)"


def test_a_label_that_the_hub_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, train=named([1, 0, -1]), validation=named([1, 0]), test=named([1, 0]))
    (problem,) = problems_of(DataRequest("some/set"))
    told = "some/set (train), row 3: label '-1' is no class of the data set; did you mean '1'?"
    assert problem == f"{told}; --skip-labels=-1 leaves such rows out"


def test_a_class_of_the_hub_without_rows_is_not_lost_by_train_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["no", "yes", "never used"]
    serve(monkeypatch, **{name: named([1, 0] * 10, names) for name in ("train", "validation", "test")})
    assert len(load_data(DataRequest("some/set", train_rows=15)).splits["train"]) == 15


def test_a_split_of_the_hub_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, train=named([]), validation=named([1, 0]), test=named([]))
    assert problems_of(DataRequest("some/set", text_columns=("text",))) == [
        "some/set (train): has no rows",
        "some/set (test): has no rows",
    ]


def test_a_split_that_the_hub_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, train=named([1, 0]), validation_matched=named([1, 0]))
    request = DataRequest("some/set", split_names=("train", "validation_matchd", "tests"))
    assert problems_of(request) == [
        "some/set: no split 'validation_matchd'; did you mean 'validation_matched'?",
        "some/set: no split 'tests'; known: train, validation_matched",
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("glue/mrpc", ("nyu-mll/glue", "mrpc")),
        ("imdb", ("imdb", None)),
        ("a/b", ("a/b", None)),
        ("a/b/c", ("a/b", "c")),
    ],
)
def test_hub_names(name: str, parts: tuple[str, str | None]) -> None:
    assert hub_name(name) == parts


@pytest.mark.parametrize("rows", [2, 7, 20, 59, 60])
def test_stratified_rows_give_each_class_its_share(rows: int) -> None:
    labels = (0,) * 30 + (1,) * 20 + (2,) * 10
    split = Split((tuple(f"text {i}" for i in range(60)),), labels)
    chosen = stratified_rows(split, rows, seed=3)
    assert len(chosen) == rows
    assert len(set(chosen.texts[0])) == rows
    counts = Counter(chosen.labels)
    for label, size in Counter(labels).items():
        assert abs(counts[label] - size * rows / 60) < 1
    assert chosen == stratified_rows(split, rows, seed=3)
