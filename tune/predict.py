"""Label new texts with a finished sweep's best model.

python -m tune.predict RUN --text "..."                         one text, or several --text
python -m tune.predict RUN --text "..." --pair "..."            where the sweep's rows are pairs
python -m tune.predict RUN --file in.csv --output out.parquet   a file of any size
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.data.row_streams import STREAMED, Row, RowStream, pieces, row_stream, row_writer, suffix_of_stream
from trainable.data.unpacking import UTF_8
from trainable.errors import UserError, listed, nearest, shown
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready
from tune.run_dir.finished_run import AGAIN, open_finished
from tune.run_dir.layout import RunDir

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainable.train.labelling import Labeller

PIECE_ROWS = 1024
SHOW_EVERY_S = 0.5
PREDICTED = "predicted_label"


class Predictor:
    """The best model of a finished sweep, loaded once."""

    def __init__(self, run: str | Path) -> None:
        """Load RUN/best.

        Args:
            run: The run directory, or its URL.

        Raises:
            UserError: It holds no result, or a damaged one.
        """
        run_dir = open_finished(run)
        resolved: Mapping[str, Any] = run_dir.read_spec()["resolved"]
        self.label_names = tuple(resolved["label_names"])
        self.text_columns = tuple(resolved["text_columns"])
        self.probability_columns = tuple(f"probability {name}" for name in self.label_names)
        self._labeller = _load(run_dir, self.label_names, int(resolved["max_length"]))

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Label texts.

        Args:
            texts: The texts, or the first text of each pair.
            pairs: The second text of each pair, as many; None where the sweep's rows are single texts.

        Returns:
            For each text its `label`, and `probabilities` by class, which add up to 1.

        Raises:
            UserError: The sweep's rows are pairs and these are none, or the other way round.
        """
        if (pairs is not None) != (len(self.text_columns) == 2):
            raise UserError([self._pair_problem()])
        if pairs is not None and len(pairs) != len(texts):
            raise UserError([f"{len(texts)} text{'' if len(texts) == 1 else 's'}, but {len(pairs)} second ones"])
        if not texts:
            return []
        columns = [texts] if pairs is None else [texts, pairs]
        return [
            {
                "label": self.label_names[row.argmax()],
                "probabilities": dict(zip(self.label_names, row.tolist(), strict=True)),
            }
            for row in self.probabilities(columns)
        ]

    def _pair_problem(self) -> str:
        first = self.text_columns[0]
        if len(self.text_columns) == 2:
            return f"this model was trained on pairs: give {first} as --text and {self.text_columns[1]} as --pair"
        return "this model was trained on single texts: leave out --pair"

    def probabilities(self, columns: Sequence[Sequence[str]]) -> npt.NDArray[Any]:
        """The probability of each class for each row, float64 [rows, classes]."""
        return self._labeller.probabilities(columns)


def _load(run_dir: RunDir, label_names: tuple[str, ...], max_length: int) -> Labeller:
    from trainable.data.tokens import load_tokenizer
    from trainable.train.labelling import Labeller
    from tune.cluster.machine import usable_cores

    try:
        tokenizer = load_tokenizer(str(run_dir.best))
    except Exception as error:  # transformers raises many kinds here; each means that the folder is unusable
        raise UserError([f"{run_dir.best}: its tokenizer is damaged; {AGAIN} makes it again"]) from error
    return Labeller(str(run_dir.best), label_names, tokenizer, max_length, usable_cores())


def predict_file(
    run: str | Path,
    file: Path,
    output: Path,
    text_columns: Sequence[str] | None = None,
    encoding: str = UTF_8,
    progress: RowCounter | None = None,
) -> int:
    """Label the rows of a file, in memory that does not grow with it.

    Args:
        run: The run directory, or its URL.
        file: A .csv, .tsv, .jsonl or .parquet.
        output: A file of one of these kinds, which appears once it is whole. It has the columns of `file`, then
            `predicted_label`, then `probability CLASS` for each class.
        text_columns: The columns of the texts; None means those of the sweep.
        encoding: Of `file`.
        progress: Is told how many rows are done.

    Returns:
        How many rows there are.

    Raises:
        UserError: The run directory or one of the files has a problem. `output` is as it was before.
    """
    suffix_of_stream(output, "--output")
    if not output.absolute().parent.is_dir():
        raise UserError([f"--output {output}: there is no folder {output.absolute().parent}"])
    if output.exists() and file.exists() and output.samefile(file):
        raise UserError([f"--output {output}: is the file that is read"])
    with row_stream(file, "--file", encoding) as stream:
        predictor = Predictor(run)
        texts = tuple(text_columns or predictor.text_columns)
        if problems := _column_problems(file, stream, predictor, texts):
            raise UserError(problems)
        aside = output.with_name(f".{output.stem}.part{output.suffix}")
        added = [(PREDICTED, str), *((name, float) for name in predictor.probability_columns)]
        writer, rows = row_writer(aside, stream, added), 0
        try:
            for piece in pieces(stream.rows, PIECE_ROWS):
                writer.write(_labelled(piece, predictor, texts, file))
                rows += len(piece)
                if progress is not None:
                    progress.show(rows)
            writer.close()
            if not rows:
                raise UserError([f"--file {file}: has no rows"])
            aside.replace(output)
        finally:
            writer.close()
            aside.unlink(missing_ok=True)
    return rows


def _column_problems(file: Path, stream: RowStream, predictor: Predictor, texts: Sequence[str]) -> list[str]:
    """Say which columns the file lacks, and which it has that the answers need."""
    problems = [
        f"--file {file}: no column {shown(name)}; {nearest(name, stream.columns)}; name it with --text-columns"
        for name in texts
        if name not in stream.columns
    ]
    trained_on = len(predictor.text_columns)
    if len(texts) != trained_on:
        problems.append(f"--text-columns: the model was trained on {trained_on} columns, not {len(texts)}")
    if there := [name for name in (PREDICTED, *predictor.probability_columns) if name in stream.columns]:
        problems.append(f"--file {file}: has {listed(there)} already, which the answers would be written into")
    return problems


def _labelled(piece: Sequence[tuple[str, Row]], predictor: Predictor, texts: Sequence[str], file: Path) -> list[Row]:
    """The rows with their answers behind their own columns."""
    answers = predictor.probabilities([[_text(row, name, place, file) for place, row in piece] for name in texts])
    labelled = []
    for (_, row), of_row in zip(piece, answers, strict=True):
        by_class = dict(zip(predictor.probability_columns, of_row.tolist(), strict=True))
        labelled.append({**row, PREDICTED: predictor.label_names[of_row.argmax()], **by_class})
    return labelled


def _text(row: Row, name: str, place: str, file: Path) -> str:
    text = row.get(name)
    if not isinstance(text, str):
        raise UserError([f"{file}, {place}: {name} is {'missing' if text is None else shown(text)}; it must be a text"])
    return text


class RowCounter:
    """Shows on a terminal how many rows are done."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()

    def show(self, rows: int) -> None:
        """So many rows are done."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown > SHOW_EVERY_S:
            self._shown = now
            print(f"\r{self._told(rows)}", end="", file=sys.stderr, flush=True)

    def end(self, rows: int, output: Path) -> None:
        """All rows are done."""
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{self._told(rows)}: {output}", file=sys.stderr)

    def _told(self, rows: int) -> str:
        took_s = max(time.monotonic() - self._began, 1e-9)
        return f"{rows:,} row{'' if rows == 1 else 's'}, {rows / took_s:,.0f} rows/s"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    kinds = ", ".join(STREAMED)
    parser = argparse.ArgumentParser(
        prog="python -m tune.predict", description="Label new texts with a finished sweep's best model.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="the run directory, or its URL")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", metavar="TEXT", action="append", help="a text to label; it may be given several times")
    what.add_argument("--file", metavar="FILE", help=f"or the rows of a file: {kinds}; it may be of any size")
    parser.add_argument("--pair", metavar="TEXT", action="append", help="the second text, one for each --text")
    parser.add_argument("--output", metavar="FILE", help=f"where the labelled rows of --file go: {kinds}")
    parser.add_argument("--text-columns", metavar="A[,B]", help="the file's columns of texts (default: the sweep's)")
    parser.add_argument("--encoding", metavar="E", default=UTF_8, help=f"of --file (default: {UTF_8})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; texts' labels are printed as JSON, one a line; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    parser = make_parser()
    given = parser.parse_args(argv)
    if given.file is not None and (given.output is None or given.pair is not None):
        parser.error("--file needs --output, and takes no --pair")
    if given.file is None and (given.output is not None or given.text_columns is not None):
        parser.error("--output and --text-columns belong to --file")
    return exit_code_of(lambda: _predict(given))


def _predict(given: argparse.Namespace) -> int:
    if given.file is None:
        for answer in Predictor(given.run).predict(given.text, given.pair):
            print(json.dumps(answer, ensure_ascii=False))
        return 0
    progress, output = RowCounter(), Path(given.output)
    names = given.text_columns.split(",") if given.text_columns is not None else None
    rows = predict_file(given.run, Path(given.file), output, names, given.encoding, progress)
    progress.end(rows, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
