"""Text from data, names and errors shows as text: on a terminal, in HTML, in Markdown, in YAML; secrets do not."""

from __future__ import annotations

import io
import json
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from trainable.config import TrialConfig
from trainable.errors import SweepFailed, UserError
from trainable.metrics import METRICS
from trainable.redaction import one_line, plain
from tune.report.html_page import html_page
from tune.report.model_card import model_card
from tune.report.progress import Progress
from tune.report.results import Intervals, Majority, SplitScores, SweepReport, TrialRow, Winner
from tune.report.words import conclusion, summary
from tune.run_dir.integrity import entry_problems
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec

HOSTILE = [
    "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "&lt;b&gt;",
    "[click](javascript:alert(1)) ![x](http://e.example/x.png)",
    "a | b\n---\nmalicious: yes\n---\n# heading\n\n<b>x</b>",
    "`code` ``more`` <i>x</i> `",
    "[red]rich[/red] [/nope]",
    "\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\r\x08",
    "=cmd|'/C calc'!A0",
]
CONFIG: dict[str, Any] = {"learning_rate": 1e-4, "batch_size": 8, "epochs": 2}


def report_of(text: str, **fields: Any) -> SweepReport:
    """A report in which everything that somebody else may choose is `text`."""
    scores = dict.fromkeys(METRICS, 0.5)
    guess = {name: 0.5 for name, metric in METRICS.items() if metric.majority == "scored"}
    bad = TrialConfig.model_construct(**CONFIG, optimizer=text)
    row = TrialRow(
        number=0, state="FAIL", config=bad, epochs_run=1, best_epoch=1, value=0.5, collapsed=False, seconds=1.0, seed=1,
        failure=text,
    )  # fmt: skip
    whole: dict[str, Any] = {
        "name": text, "model": text, "dataset": text, "metric": "f1", "mode": "max", "f1_average": text,
        "label_names": [text, "other"], "precision": "fp32", "warnings": [text], "notes": [text], "trials": [row],
        "best": Winner(
            trial=0, config=TrialConfig(**CONFIG), epoch=1, seed=1, validation=scores, collapsed=False
        ),
        "test": SplitScores(scores=scores, rows=5), "majority": Majority(validation=guess, test=guess), "wall_s": 1.0,
        "train_s": 1.0, "rows": {"train": 7, "test": 5}, "versions": {"python": text}, "seed": 1, "sweep_id": None,
    }  # fmt: skip
    return SweepReport(**{**whole, **fields})


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Any]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data

    @property
    def charts(self) -> Any:
        return json.loads(self.scripts[0])["charts"]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_html_report_has_no_tag_that_a_harmless_one_has_not(text: str) -> None:
    page, harmless = Page(html_page(report_of(text))), Page(html_page(report_of("harmless")))
    assert page.tags == harmless.tags
    assert page.text.count(one_line(text)) >= 8
    assert page.text.replace(one_line(text), "harmless") == harmless.text
    assert page.scripts[1:] == harmless.scripts[1:]
    assert page.charts.keys() == harmless.charts.keys()


@pytest.mark.parametrize("text", HOSTILE)
def test_the_model_card_has_no_markup_that_a_harmless_one_has_not(text: str) -> None:
    card, other = (model_card(report_of(name, warnings=[], f1_average="binary")) for name in (text, "harmless"))
    assert card.startswith("---\n")
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    fields = yaml.safe_load(front)
    (index,) = fields.pop("model-index")
    assert fields == {"library_name": "transformers", "pipeline_tag": "text-classification"}
    assert index["name"] == one_line(text)
    parser = MarkdownIt("commonmark").enable("table")
    rendered = Page(parser.render(body))
    expected = Page(parser.render(other.removeprefix("---\n").partition("\n---\n")[2]))
    assert rendered.tags == expected.tags
    assert rendered.text.replace(one_line(text), "harmless") == expected.text


@pytest.mark.parametrize(
    ("model", "is_named"),
    [
        ("bert-base-uncased", True),
        ("a/b-c.d", True),
        ("builtin:minilm", False),
        ("./m", False),
        ("/m", False),
        ("~/m", False),
    ],
)
def test_the_card_names_a_base_model_of_the_hub_alone(model: str, is_named: bool) -> None:
    front = model_card(report_of("harmless").model_copy(update={"model": model})).split("---\n")[1]
    assert yaml.safe_load(front).get("base_model") == (model if is_named else None)


def test_the_card_says_how_often_the_test_split_was_read_and_on_how_many_rows_was_trained() -> None:
    report = report_of("harmless")
    assert f"| test ({report.test.rows} rows, read once) |" in model_card(report)
    twice = model_card(report.model_copy(update={"test_reads": 2}))
    assert f"| test ({report.test.rows} rows, read 2 times) |" in twice
    assert f"Rows: {report.rows['train']} train" in twice


def test_a_report_without_a_test_split_says_so_everywhere() -> None:
    whole = report_of("harmless", trials=[])
    report = whole.model_copy(update={"test": None, "majority": whole.majority.model_copy(update={"test": {}})})
    assert SweepReport.from_json(report.as_json()) == report
    assert "no test split" in "\n".join(summary(report))
    for page in (model_card(report), html_page(report)):
        assert "There was no test split" in page
        assert "test, always" not in page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_no_command_of_theirs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    bad = TrialConfig.model_construct(**CONFIG, optimizer=text)
    record = TrialRecord(1, "FAIL", bad, 1, (), None, None, failure=text)
    with Progress(SweepSpec(name="s", model="m", dataset="d"), tmp_path / "log.txt", out=out) as progress:
        progress.say(f"label {text}")
        progress.started(0, bad)
        progress.failed(1, bad, text, str(tmp_path))
        progress.finished(record, None)
    shown, logged = out.getvalue(), (tmp_path / "log.txt").read_text()
    for command in ("\x1b[31mred", "\x1b]", "\x9b", "\x07", "\x08", "\u202e"):
        assert command not in shown
    assert not set(logged) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))
    assert f"label {plain(text)}" in logged
    assert one_line(text) in shown.replace("\n", "\\n")


def test_errors_say_nothing_that_a_terminal_obeys() -> None:
    assert str(UserError(["label '\x1b[2J'"])) == "label '\\x1b[2J'"
    assert str(UserError(["a\x07", "b\tc\nd"])) == "2 problems:\n  1. a\\x07\n  2. b\tc\nd"
    assert str(SweepFailed("trial 0: \x9b31m\r")) == "trial 0: \\x9b31m\\r"
    assert str(UserError(["Grüße, 你好, שלום \N{GRINNING FACE}"])) == "Grüße, 你好, שלום \N{GRINNING FACE}"


def test_secrets_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    for name, value in {
        "HF_TOKEN": "hf_abcdefgh", "MY_API_KEY": "hf_abcdefgh-longer", "DB_PASSWORD": "pass word", "PIN_KEY": "1234",
        "RAY_TLS_SERVER_KEY": str(tmp_path / "key.pem"), "RAY_AUTH_TOKEN_PATH": "/a/token/file",
        "KEYBOARD": "de-latin1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert plain("hf_abcdefgh hf_abcdefgh-longer pass word") == "*** *** ***"
    kept = f"1234 {tmp_path / 'key.pem'} /a/token/file de-latin1 somebody@example.org http://host:80/a@b"
    assert plain(kept) == kept
    assert plain("http://user:pw@host/x, https://tok@host") == "http://***@host/x, https://***@host"
    assert str(UserError(["the hub at http://u:secret@host is gone"])) == "the hub at http://***@host is gone"


LINKS = {
    "a trial's folder": "trials", "a link for the best model": "best", "the study": "study.db",
    "the specification": "spec.yaml", "the log": "log.txt", "the lock": ".lock", "a report": "report.html",
    "deeper": "trials/0/state", "what a killed writer left": ".best.0123abcd",
}  # fmt: skip


@pytest.mark.parametrize("name", LINKS.values(), ids=LINKS)
def test_a_link_in_a_run_directory_is_refused_and_not_followed(
    name: str, tmp_path: Path, tiny_data: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tune.evaluate import main as evaluate
    from tune.search import main as search

    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / name).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("name: theirs")
    if name != "spec.yaml":
        (run / "spec.yaml").write_text("name: x\n")
    (run / name).symlink_to(elsewhere / "kept" if "." in name[1:] else elsewhere)
    said = f"{run}: a run directory holds plain files and folders only, but {name} is a symbolic link to {elsewhere}"
    assert search(["--dataset", str(tiny_data), "--model", str(tiny_model), "--out", str(run)]) == 2
    assert f"--out {said}" in capsys.readouterr().err
    assert evaluate([str(run)]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]
    assert (elsewhere / "kept").read_text() == "name: theirs"


def test_a_pipe_would_block_and_a_run_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "trials").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert entry_problems(tmp_path / "run") == []
    assert entry_problems(tmp_path / "none") == []
    for number in range(5):
        os.mkfifo(tmp_path / "disk" / f"{number}.json")
    assert stat.S_ISFIFO((tmp_path / "disk" / "0.json").stat().st_mode)
    assert entry_problems(tmp_path / "run") == [
        f"{tmp_path}/run: a run directory holds plain files and folders only, but 0.json is no plain file; "
        "1.json is no plain file; 2.json is no plain file; and 2 more"
    ]


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", ".", "a/../../x", "a\0b", ""])
def test_a_name_never_leads_out_of_runs(
    name: str, tmp_path: Path, tiny_data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from tune.search import main

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    assert main(["--dataset", str(tiny_data), "--model", str(tiny_model), "--set", f"name={name}"]) == 2
    (tmp_path / "s.yaml").write_text(json.dumps({"name": name, "dataset": str(tiny_data), "model": str(tiny_model)}))
    assert main([str(tmp_path / "s.yaml")]) == 2
    assert "name must be" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "s.yaml"])


def test_the_interval_stands_beside_the_test_scores_everywhere() -> None:
    interval = Intervals(accuracy=[0.4123, 0.6234], f1=[0.3345, 0.6456], level=0.95)
    test = SplitScores(scores=dict.fromkeys(METRICS, 0.5), rows=5, interval=interval)
    report = report_of("a", test=test, trials=[])
    again = SweepReport.from_json(json.loads(json.dumps(report.as_json())))
    assert again.test == test
    assert SplitScores.model_validate(report.best_as_json()["test"]) == test
    assert report.as_json()["test"]["interval"] == {"accuracy": [0.4123, 0.6234], "f1": [0.3345, 0.6456], "level": 0.95}
    for shown in ("\n".join(conclusion(report, "run")), html_page(report), model_card(report)):
        for end in ("0.4123", "0.6234", "0.3345", "0.6456"):
            assert end in shown
        assert "on new texts such as these" in shown
    before = report_of("a", trials=[])  # of a version that computed none
    assert before.test is not None
    assert "interval" not in before.as_json()["test"]
    assert "on new texts" not in "\n".join(conclusion(before, "run")) + html_page(before) + model_card(before)


@pytest.mark.parametrize("has_test", [True, False])
def test_the_card_has_its_scores_in_the_hubs_format(has_test: bool) -> None:
    report = report_of("harmless", f1_average="binary", dataset="/home/somebody/secret/reviews", trials=[])
    if not has_test:
        report = report.model_copy(update={"test": None})
    card = ModelCard(model_card(report))
    results = card.data.eval_results
    assert results is not None
    assert [result.metric_type for result in results] == list(METRICS)
    assert {result.dataset_split for result in results} == {"test" if has_test else "validation"}
    assert {result.dataset_name for result in results} == {"reviews"}
    assert {result.metric_value for result in results} == {0.5}
    assert card.data.model_name == "harmless"
    assert "somebody" not in card.content.split("---\n")[1], "the path tells of the machine"
