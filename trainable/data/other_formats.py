"""Recognise formats that people have and we don't read, so that a refusal can name them."""

from __future__ import annotations

from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/"
_BY_ENDING = {
    (".xlsx", ".xls", ".ods"): (
        "is a spreadsheet; save it as CSV: pandas.read_excel({name!r}).to_csv({stem_csv!r}, index=False)"
    ),
    (".pkl", ".pickle", ".joblib", ".pt", ".npy", ".npz"): (
        "may run code when it is opened, and is not; save the table as CSV or parquet"
    ),
    (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar"): "is an archive; unpack it first",
    (".feather",): "is a feather file; make parquet of it: pandas.read_feather({name!r}).to_parquet({stem_parquet!r})",
    (".xml", ".html", ".htm"): "is markup, which holds no table that could be read",
}
_PLAIN = (".txt", ".text", ".data", ".dat", "")  # endings that say nothing of the format


def other_format(path: Path) -> str:
    """What a file is instead of a table that we read, as a predicate; empty if nothing is recognised.

    Raises:
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        start = file.read(2000)
    if start.startswith(_LFS):
        return "is a pointer of git LFS, not the file itself; fetch the files with: git lfs pull"
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a table; the download may have asked for a login"
    suffix = path.suffix.lower()
    if start.startswith(b"__label__") or (suffix in _PLAIN and b"\n__label__" in start):
        return (
            "is in fastText's format (__label__CLASS TEXT); write it as TSV: a first line `label`, a tab, `text`, then "
            "in each row the class, a tab and the text"
        )
    for endings, words in _BY_ENDING.items():
        if suffix in endings:
            stem = path.name[: -len(suffix)]
            return words.format(name=path.name, stem_csv=f"{stem}.csv", stem_parquet=f"{stem}.parquet")
    if suffix in _PLAIN:
        return _as_a_table(start.decode("utf-8", errors="replace"), suffix)
    return ""


def _as_a_table(start: str, suffix: str) -> str:
    """What to do with a file of plain text that looks like a table; empty if it does not."""
    first = start.splitlines()[0] if start.strip() else ""
    for delimiter, words, ending in (("\t", "tabs", ".tsv"), (",", "commas", ".csv"), (";", "semicolons", ".csv")):
        if 0 < first.count(delimiter) < 20:
            what = suffix or "a file without an ending"
            return f"can't read {what}; if {words} separate its cells, let its name end in {ending}"
    return ""
