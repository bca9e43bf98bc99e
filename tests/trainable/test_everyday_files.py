"""Files and folders as people have them: read right, or refused in a few lines that say what they look like."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.data.folders import ALIASES, NO_SPLIT
from trainable.data.load import TextData, load_data
from trainable.data.parquet import SPARE_BYTES
from trainable.data.request import DataRequest
from trainable.errors import UserError

WORDS = (
    "river", "lamp", "window", "ticket", "pencil", "kettle", "drawer", "basket", "curtain", "bicycle", "table", "spoon",
)  # fmt: skip
Rows = list[tuple[str, str]]


def made_up(count: int = 40, seed: int = 0, quotes: bool = False) -> Rows:
    """Texts, each another, and labels good and bad."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        text = f"{' '.join(rng.choices(WORDS, k=6))} number {seed}/{i}"
        if quotes and i % 3 == 0:
            text = f'"{WORDS[i % 12]}" {text}'
        rows.append((text, ("bad", "good")[i % 2]))
    return rows


def delimited(rows: Rows, delimiter: str = ",", **options: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="\n", **options).writerows([("text", "label"), *rows])
    return buffer.getvalue()


def unquoted(rows: Rows) -> str:
    """Cells with tabs between them, whose quotes are letters."""
    return "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def load(path: Path, **request: Any) -> TextData:
    return load_data(DataRequest(str(path), **request))


def refusal(path: Path, **request: Any) -> str:
    """The one problem of a data set, without its folder."""
    with pytest.raises(UserError) as caught:
        load(path, **request)
    (problem,) = caught.value.problems
    return problem.replace(f"{path}/", "").replace(f"{path}", "data")


def notes_of(path: Path, **request: Any) -> list[str]:
    """The notes on files, without those on cuts."""
    notes = [note.replace(f"{path}/", "").replace(f"{path}", "data") for note in load(path, **request).notes]
    return [note for note in notes if "were cut from train" not in note]


def all_rows(data: TextData) -> Rows:
    return sorted(
        (text, data.label_names[label])
        for split in data.splits.values()
        for text, label in zip(split.texts[0], split.labels, strict=True)
        if isinstance(label, int)
    )


def as_json(rows: Rows, **more: Any) -> list[dict[str, Any]]:
    return [{"text": text, "label": label, **more} for text, label in rows]


def parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [y for _, y in rows]}), buffer)
    return buffer.getvalue()


# One table in many ways

PLAIN, QUOTED = made_up(), made_up(quotes=True)
WAYS: dict[str, tuple[str, str | bytes, Rows]] = {
    "semicolons": ("train.csv", delimited(QUOTED, ";"), QUOTED),
    "pipes": ("train.csv", delimited(QUOTED, "|"), QUOTED),
    "tabs in .csv, quoted": ("train.csv", delimited(QUOTED, "\t"), QUOTED),
    "commas in .tsv": ("train.tsv", delimited(QUOTED), QUOTED),
    "sep=; before the header": ("train.csv", "sep=;\n" + delimited(PLAIN, ";"), PLAIN),
    "semicolons with commas in the texts": (
        "train.csv",
        delimited([(f"{t}, and more", y) for t, y in PLAIN], ";"),
        [(f"{t}, and more", y) for t, y in PLAIN],
    ),
    "all cells in quotes": ("train.csv", delimited(QUOTED, quoting=csv.QUOTE_ALL), QUOTED),
    "a tsv with all cells in quotes": ("train.tsv", delimited(QUOTED, "\t", quoting=csv.QUOTE_ALL), QUOTED),
    "a tsv with quoted texts": ("train.tsv", delimited(QUOTED, "\t"), QUOTED),
    "a tsv whose quotes are letters": ("train.tsv", unquoted(QUOTED), QUOTED),
    "a tsv with a text that is one quotation": (
        "train.tsv",
        unquoted([('"all of it"', "bad"), *PLAIN]),
        [('"all of it"', "bad"), *PLAIN],
    ),
    "a tsv with one open quote": (
        "train.tsv",
        unquoted([('6" of snow', "bad"), ('"so', "good"), *PLAIN]),
        [('6" of snow', "bad"), ('"so', "good"), *PLAIN],
    ),
    "a blank behind each comma": ("train.csv", delimited(PLAIN).replace(",", ", "), PLAIN),
    "a comma at the end of each line": ("train.csv", delimited(PLAIN).replace("\n", ",\n"), PLAIN),
    "a comma at the end of each row": (
        "train.csv",
        delimited(PLAIN).replace("\n", ",\n").replace("label,\n", "label\n"),
        PLAIN,
    ),
    "rows of nothing at the end": ("train.csv", delimited(PLAIN) + ",\n,\n  \n", PLAIN),
    "pandas' index": (
        "train.csv",
        "".join(f"{'' if i == 0 else i - 1},{line}\n" for i, line in enumerate(delimited(PLAIN).splitlines())),
        PLAIN,
    ),
    "a column of tails": (
        "train.csv",
        delimited(PLAIN).replace("\n", ",more\n").replace("label,more", "label,"),
        PLAIN,
    ),
    "old line ends": ("train.csv", delimited(PLAIN).replace("\n", "\r"), PLAIN),
    "line ends of Windows and a mark": ("train.csv", "\ufeff" + delimited(PLAIN).replace("\n", "\r\n"), PLAIN),
    "an array of objects": ("train.json", json.dumps(as_json(PLAIN), indent=2), PLAIN),
    "an array on one line": ("train.json", json.dumps(as_json(PLAIN)), PLAIN),
    "an array in .jsonl": ("train.jsonl", json.dumps(as_json(PLAIN)), PLAIN),
    "lines in .json": ("train.json", "\n".join(map(json.dumps, as_json(PLAIN))), PLAIN),
    "a key that few rows have": (
        "train.jsonl",
        "\n".join(map(json.dumps, [*as_json(PLAIN[:35]), *as_json(PLAIN[35:], remark="odd words")])),
        PLAIN,
    ),
    "nested fields beside the text": (
        "train.jsonl",
        "\n".join(map(json.dumps, as_json(PLAIN, meta={"by": "me"}, spans=[[1, 2]]))),
        PLAIN,
    ),
    "gzip": ("train.csv.gz", gzip.compress(delimited(PLAIN).encode()), PLAIN),
    "two gzip members": (
        "train.csv.gz",
        gzip.compress(delimited(PLAIN[:9]).encode())
        + gzip.compress(delimited(PLAIN[9:]).partition("\n")[2].encode()),
        PLAIN,
    ),
    "a clone of the hub": ("data/train-00000-of-00001.parquet", parquet(PLAIN), PLAIN),
    "a clone with a hash": ("data/train-00000-of-00001-0123456789abcdef.parquet", parquet(PLAIN), PLAIN),
    "the hub's converted branch": ("default/train/0000.parquet", parquet(PLAIN), PLAIN),
    "another name": ("Reviews Dataset.csv", delimited(PLAIN), PLAIN),
    "a name with the split in it": ("imdb_Train_v2.csv", delimited(PLAIN), PLAIN),
    "capitals": ("TRAIN.CSV", delimited(PLAIN), PLAIN),
    "capitals, compressed": ("TRAIN.CSV.GZ", gzip.compress(delimited(PLAIN).encode()), PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_read_whole_however_it_was_written(way: str, tmp_path: Path) -> None:
    name, content, rows = WAYS[way]
    data = load(put(tmp_path, {name: content}))
    assert all_rows(data) == sorted(rows)
    assert (data.text_columns, data.label_column) == (("text",), "label")


@pytest.mark.parametrize(
    ("way", "note"),
    [
        ("semicolons", "train.csv: cells are separated by semicolons, not by commas"),
        ("tabs in .csv, quoted", "train.csv: cells are separated by tabs, not by commas"),
        ("commas in .tsv", "train.tsv: cells are separated by commas, not by tabs"),
        ("rows of nothing at the end", "train.csv: rows that hold nothing are left out: 3"),
        ("sep=; before the header", "train.csv: cells are separated by semicolons, not by commas"),
        ("a blank behind each comma", "train.csv: the blank behind each comma is left out, in the header too"),
        ("a comma at the end of each line", "train.csv: column 3 has no name and is left out"),
        ("a comma at the end of each row", "train.csv: 40 lines end in a comma more, which is left out"),
        ("pandas' index", "train.csv: column 1 has no name and is left out"),
        ("another name", "data: Reviews Dataset.csv is read as train"),
        ("a name with the split in it", "data: imdb_Train_v2.csv is the train split"),
    ],
)
def test_what_was_guessed_or_left_out_is_said(way: str, note: str, tmp_path: Path) -> None:
    name, content, _ = WAYS[way]
    assert notes_of(put(tmp_path, {name: content})) == [note]


@pytest.mark.parametrize("seed", range(30))
def test_a_tsv_of_any_texts_is_read_as_it_was_written(seed: int, tmp_path: Path) -> None:
    """Written without quoting, quotes are letters; written by a CSV writer, they are not. Both are told apart."""
    rng = random.Random(seed)
    pieces = [*WORDS, '"', '"so"', '""', "'", '",', 'he said "no"', " "]
    texts = [" ".join(rng.choices(pieces, k=4)).strip() + f" {i}" for i in range(20)]
    rows = [(text, str(i % 2)) for i, text in enumerate(texts)]
    for content in (
        unquoted(rows),
        delimited(rows, "\t"),
        delimited(rows, "\t", quoting=csv.QUOTE_ALL),
    ):
        assert all_rows(load(put(tmp_path, {"train.tsv": content}))) == sorted(rows)


# Refused

REFUSED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "git LFS": (
        {"train.parquet": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"},
        "train.parquet: is a pointer of git LFS, not the file itself; fetch the files with: git lfs pull",
    ),
    "fastText": (
        {"train.txt": "__label__good a river\n__label__bad a lamp\n"},
        "train.txt: is in fastText's format (__label__CLASS TEXT); write it as TSV: a first line `label`, a tab, "
        "`text`, then in each row the class, a tab and the text",
    ),
    "pandas' to_json": (
        {"train.json": json.dumps({"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}})},
        "train.json: holds columns, not rows, as pandas' to_json writes them; make rows of them: "
        "pandas.read_json('train.json').to_json('train.rows.jsonl', orient='records', lines=True)",
    ),
    "pandas' to_json, split": (
        {"train.json": json.dumps({"columns": ["text", "label"], "index": [0], "data": [["a", 1]]}, indent=1)},
        "train.json: holds columns, not rows, as pandas' to_json writes them; make rows of them: pandas.read_json("
        "'train.json', orient='split').to_json('train.rows.jsonl', orient='records', lines=True)",
    ),
    "pandas' to_json, index": (
        {"train.json": json.dumps({f"r{i}": row for i, row in enumerate(as_json(PLAIN))})},
        "train.json: holds rows by their names as pandas' to_json writes them; make lines of them: pandas.read_json("
        "'train.json', orient='index').to_json('train.rows.jsonl', orient='records', lines=True)",
    ),
    "columns of lists": (
        {"train.json": json.dumps({"text": ["a", "b"], "label": [1, 0]})},
        "train.json: holds columns, not rows, as pandas' to_json writes them; make rows of them: "
        "pandas.read_json('train.json').to_json('train.rows.jsonl', orient='records', lines=True)",
    ),
    "rows under a key": (
        {"train.json": json.dumps({"version": "1.0", "data": as_json(PLAIN)}, indent=1)},
        "train.json: holds one object, whose rows stand under 'data'; make lines of them: pandas.DataFrame(json.load("
        "open('train.json'))['data']).to_json('train.rows.jsonl', orient='records', lines=True)",
    ),
    "tables of lists under keys": (
        {"train.json": json.dumps({"train": [["a b", "x"], ["c", "y"]], "val": [["d", "x"]]})},
        "train.json: holds one object, whose fields train, val are tables without column names; make a file of each, "
        "and name the columns with --column-names: [pandas.DataFrame(rows).to_csv(f'{name}.csv', index=False, "
        "header=False) for name, rows in json.load(open('train.json')).items()]",
    ),
    "splits under keys": (
        {"train.json": json.dumps({"train": as_json(PLAIN), "test": as_json(PLAIN)})},
        "train.json: holds one object, whose rows stand under train, test; make a file of each: "
        "[pandas.DataFrame(rows).to_json(f'{name}.jsonl', orient='records', lines=True) "
        "for name, rows in json.load(open('train.json')).items()]",
    ),
    "an array of arrays": (
        {"train.json": json.dumps([[text, label] for text, label in PLAIN])},
        "train.json: holds arrays, which name no columns; make a table of them, and name the columns with "
        "--column-names: pandas.DataFrame(json.load(open('train.json')))"
        ".to_csv('train.csv', index=False, header=False)",
    ),
    "Label Studio": (
        {"train.json": json.dumps([{"id": 1, "annotations": [{"result": []}], "data": {"text": "a"}}] * 4)},
        "train.json: is an export of Label Studio in JSON; export it as CSV or TSV instead",
    ),
    "a web page": (
        {"train.csv": "<!DOCTYPE html>\n<html><body>Sign in</body></html>"},
        "train.csv: is a web page, not a table; the download may have asked for a login",
    ),
    "a spreadsheet": (
        {"train.xlsx": b"PK\x03\x04"},
        "train.xlsx: is a spreadsheet; save it as CSV: "
        "pandas.read_excel('train.xlsx').to_csv('train.csv', index=False)",
    ),
    "a pickle": (
        {"train.pkl": b"\x80\x04"},
        "train.pkl: may run code when it is opened, and is not; save the table as CSV or parquet",
    ),
    "tabs in .txt": (
        {"train.txt": delimited(PLAIN, "\t")},
        "train.txt: can't read .txt; if tabs separate its cells, let its name end in .tsv",
    ),
    "no header": (
        {"train.csv": delimited(PLAIN).partition("\n")[2]},
        f"train.csv, line 1: was taken for the header, but looks like a row: '{PLAIN[0][0]},bad'; if the file has no "
        "header, say what its columns are: --column-names text,label",
    ),
    "commas that nobody quoted": (
        {"train.csv": "text,label\n" + "".join(f"{t}, too,{y}\n" for t, y in PLAIN)},
        "train.csv, lines 2, 3, 4, 5, 6, 7, 8, 9 and 32 more: have 3 columns where the header has 2; a text with a "
        "comma in it must stand in quotes",
    ),
    "no header, and a constant column before the label": (
        {"train.tsv": "".join(f"gj04\t{int(label == 'good')}\t{text}\n" for text, label in PLAIN)},
        f"train.tsv, line 1: was taken for the header, but looks like a row: 'gj04,0,{PLAIN[0][0]}'; if the file has "
        "no header, say what its columns are: --column-names column1,label,text",
    ),
    "a shard that is missing": (
        {"data/train-00000-of-00002.parquet": parquet(PLAIN)},
        "data: train-*.parquet: 1 of 2 shards are there; fetch all of them, or delete old ones",
    ),
    "two that may be train": (
        {"train.csv": delimited(PLAIN), "training.tsv": delimited(PLAIN, "\t")},
        "data: train.csv and training.tsv may both be the train split; say which with --train FILE, or keep one",
    ),
    "val and dev": (
        {"train.csv": delimited(PLAIN), "val.csv": delimited(PLAIN), "dev.csv": delimited(PLAIN)},
        "data: dev.csv and val.csv may both be the validation split; say which with --validation FILE, or keep one",
    ),
    "several of any name": (
        {"one.csv": delimited(PLAIN), "two.csv": delimited(PLAIN)},
        "data: one.csv, two.csv could be train; say which with --train FILE",
    ),
    "two folders of tables": (
        {"a/train.csv": delimited(PLAIN), "b/train.csv": delimited(PLAIN)},
        "--dataset data: holds no data files, but a, b do; give one of these folders",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_of_ours_is_told_by_name(name: str, tmp_path: Path) -> None:
    files, told = REFUSED[name]
    assert refusal(put(tmp_path, files)).replace("data/train-*", "data: train-*") == told


def test_a_small_archive_of_a_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"a" * (SPARE_BYTES + (20 << 20)), 1))
    assert "of memory, which is above" in refusal(tmp_path)


# Which file is which


@pytest.mark.parametrize("alias", [name for names in ALIASES.values() for name in names])
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_splits_are_found_by_the_names_that_people_give_them(alias: str, spelled: Any, tmp_path: Path) -> None:
    split = next(name for name, names in ALIASES.items() if alias in names)
    names = {"train": "train", "validation": "validation", "test": "test", split: spelled(alias)}
    put(tmp_path, {f"{name}.csv": delimited(made_up(20, seed)) for seed, name in enumerate(names.values())})
    data = load(tmp_path)
    for seed, name in enumerate(names):
        assert list(data.splits[name].texts[0]) == [text for text, _ in made_up(20, seed)]
    known = spelled(alias) == split
    assert notes_of(tmp_path) == ([] if known else [f"data: {spelled(alias)}.csv is the {split} split"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", delimited(QUOTED)),
        ("train.csv", delimited(QUOTED, ";")),
        ("train.tsv", unquoted(QUOTED)),
        ("train.csv.gz", gzip.compress(delimited(QUOTED).partition("\n")[2].encode())),
        ("train.jsonl", "\n".join(map(json.dumps, as_json(QUOTED)))),
    ],
)
def test_columns_of_a_file_without_a_header_are_named(name: str, content: str | bytes, tmp_path: Path) -> None:
    """A file that has these names in its header is read the same, so that splits may differ."""
    data = load(put(tmp_path, {name: content}), column_names=("text", "label"))
    assert all_rows(data) == sorted(QUOTED)
    if isinstance(content, str) and not name.endswith(".jsonl"):
        put(tmp_path, {name: content.partition("\n")[2]})
        assert load(tmp_path, column_names=("text", "label")) == data
        assert "where --column-names has 3" in refusal(tmp_path, column_names=("text", "label", "more"))


def test_a_label_column_that_is_called_like_a_class(tmp_path: Path) -> None:
    rows = [(text, "spam" if label == "bad" else "ham") for text, label in PLAIN]
    (tmp_path / "train.csv").write_text(delimited([("message", "spam"), *rows]).partition("\n")[2])
    data = load_data(DataRequest(str(tmp_path)))
    assert (data.text_columns, data.label_column) == (("message",), "spam")


def test_data_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    files = {name: delimited(PLAIN) for name in ("train.csv", "extra.csv", "lexicon.json.gz", "README.md")}
    put(tmp_path, {**files, "lexicon.json.gz": gzip.compress(b"[]"), "dataset_infos.json": "{}"})
    assert notes_of(tmp_path) == ["data: extra.csv, lexicon.json.gz are not used"]


def test_files_named_one_by_one(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.csv": delimited(made_up(20, seed)) for seed, name in enumerate("abc")})
    files = {"validation": str(tmp_path / "b.csv"), "test": str(tmp_path / "c.csv")}
    data = load(tmp_path / "a.csv", files=files)
    for seed, split in enumerate(data.splits.values()):
        assert list(split.texts[0]) == [text for text, _ in made_up(20, seed)]
    assert data.notes == ()
    alone = load(tmp_path / "a.csv")
    assert all_rows(alone) == sorted(made_up(20, 0))
    assert len(alone.notes) == 2, "validation and test are cut from it"


def test_a_named_file_goes_before_the_folder_s(tmp_path: Path) -> None:
    names = ("train", "validation", "dev", "other")
    put(tmp_path, {f"{name}.csv": delimited(made_up(20, seed)) for seed, name in enumerate(names)})
    data = load(tmp_path, files={"validation": str(tmp_path / "other.csv")})
    assert list(data.splits["validation"].texts[0]) == [text for text, _ in made_up(20, 3)]


def test_a_split_name_of_the_user_is_the_only_one_that_counts(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.csv": delimited(made_up(20, seed)) for seed, name in enumerate(("train", "val", "dev"))})
    data = load(tmp_path, split_names=("train", "dev", "test"))
    assert list(data.splits["validation"].texts[0]) == [text for text, _ in made_up(20, 2)]


def test_no_test_split_is_looked_for_where_none_is_wanted(tmp_path: Path) -> None:
    put(tmp_path, {"train.csv": delimited(PLAIN), "test.csv": "not,a table\nat all\n"})
    from trainable.data.sources import open_source

    problems: list[str] = []
    source = open_source(str(tmp_path), ("train", "validation", NO_SPLIT), problems)
    assert (problems, list(source.tables)) == ([], ["train"])


# Folders that libraries write


def test_shards_are_one_table_whose_rows_are_found_again(tmp_path: Path) -> None:
    rows = made_up(60)
    rows[45] = (rows[45][0], "")
    parts = {f"train-{i:05d}-of-00003.parquet": parquet(rows[20 * i : 20 * i + 20]) for i in range(3)}
    put(tmp_path / "data", parts)
    assert refusal(tmp_path).startswith("data, train-00002-of-00003.parquet, row 6: label")
    rows[45] = (rows[45][0], "good")
    put(tmp_path / "data", {"train-00002-of-00003.parquet": parquet(rows[40:])})
    assert all_rows(load(tmp_path)) == sorted(rows)


def test_shards_with_other_columns_are_told(tmp_path: Path) -> None:
    odd = delimited(PLAIN).replace("label", "class", 1)
    put(tmp_path, {"train-00000-of-00002.csv": delimited(PLAIN), "train-00001-of-00002.csv": odd})
    told = "train-00001-of-00002.csv: has not the columns of train-00000-of-00002.csv: class, label"
    assert refusal(tmp_path) == told


@pytest.mark.parametrize("names", [["train", "validation", "test"], ["train", "dev"], None])
def test_what_save_to_disk_writes(names: list[str] | None, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["awful", "fine"])})

    def made(seed: int) -> Dataset:
        rows = made_up(20, seed)
        labels = [("bad", "good").index(y) for _, y in rows]
        return Dataset.from_dict({"text": [t for t, _ in rows], "label": labels}, features=features)

    saved = made(0) if names is None else DatasetDict({name: made(i) for i, name in enumerate(names)})
    saved.save_to_disk(str(tmp_path / "saved"), **({} if names is None else {"num_shards": dict.fromkeys(names, 2)}))
    data = load(tmp_path / "saved")
    assert data.label_names == ("awful", "fine")
    count = 1 if names is None else len(names)
    assert len(all_rows(data)) == 20 * count
    if names == ["train", "dev"]:
        assert "'dev' is the validation split" in data.notes[0]


def test_class_names_in_parquet_are_used(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["awful", "fine"])})
    rows = {"text": [text for text, _ in PLAIN], "label": [i % 2 for i in range(40)]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    assert load(tmp_path).label_names == ("awful", "fine")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        for i, (text, label) in enumerate(made_up(20, seed)):
            put(tmp_path, {f"{split}/{label}/{i}_7.txt": text})
    put(tmp_path, {"train/unsup/0_0.txt": "nobody labelled this", "train/urls_pos.txt": "http://", "README": "so"})
    data = load(tmp_path)
    assert all_rows(data) == sorted([*made_up(20, 0), *made_up(20, 1)])
    assert notes_of(tmp_path) == [
        "train: 2 classes, a folder each: bad, good",
        "train: unsup holds texts without a label and is left out",
        "test: 2 classes, a folder each: bad, good",
    ]
    put(tmp_path, {"train/bad/0_7.txt": "\n"})
    assert refusal(tmp_path).startswith("train, bad/0_7.txt: column 'text' is blank")
    put(tmp_path, {"train/bad/0_7.txt": b"caf\xe9"})
    assert refusal(tmp_path).startswith("train/bad/0_7.txt, line 1: is not UTF-8 (byte 0xe9); save it as UTF-8, or")
    assert ("café", "bad") in all_rows(load(tmp_path, encoding="windows-1252"))


def test_class_folders_without_splits(tmp_path: Path) -> None:
    for i, (text, label) in enumerate(PLAIN):
        put(tmp_path, {f"{label}/{51000 + i}": text})
    assert all_rows(load(tmp_path)) == sorted(PLAIN)
