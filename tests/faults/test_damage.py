"""A run directory that lost something is repaired, or refused in a sentence: nothing is begun anew in silence."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import mounted_for_reading
from tests.faults.run_directories import (
    LEADER,
    OPEN,
    Sweeps,
    begin_trial,
    make_real_sweeps,
    make_sweeps,
    without_ray,
)
from tests.tune.checked import checked
from tests.tune.test_end_to_end import command
from trainable.errors import UserError
from trainable.storage.folders import MANIFEST, is_whole, write_folder
from tune.run_dir import integrity as damage
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.search import main
from tune.sweep.trial_book import TrialBook

pytestmark = pytest.mark.timeout(400)  # the first test that uses a sweep pays for it
WHAT_TO_DO = "; restore it from a copy, or start over with --fresh"
STATE = f"trials/{OPEN}/state/epoch-10"
NEEDED = {"spec.yaml", "study.db"}  # what no other file can give back


@pytest.fixture(scope="session")
def in_process(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Sweeps:
    return make_sweeps(tmp_path_factory.mktemp("a folder with spaces"), tiny_model)


@pytest.fixture(scope="session")
def on_ray(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Sweeps:
    return make_real_sweeps(tmp_path_factory.mktemp("a folder with spaces"), tiny_model)


@pytest.fixture(scope="session", params=["in_process", pytest.param("on_ray", marks=pytest.mark.faults)])
def sweeps(request: pytest.FixtureRequest) -> Sweeps:
    found: Sweeps = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def killed(sweeps: Sweeps, tmp_path: Path) -> Path:
    shutil.copytree(sweeps.killed, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def finished(sweeps: Sweeps, tmp_path: Path) -> Path:
    shutil.copytree(sweeps.finished, tmp_path / "run")
    return tmp_path / "run"


# What must hold


def search(sweeps: Sweeps, run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, bool]:
    """Run the command on a finished sweep: exit code, what was said on stderr, whether Ray would have started."""
    capsys.readouterr()
    with without_ray() as started:
        code = main(sweeps.flags_for(run))
    return code, capsys.readouterr().err, bool(started)


def refused(sweeps: Sweeps, run: Path, capsys: pytest.CaptureFixture[str], name: str) -> str:
    """That the command refuses, names the file, says what to do, and leaves every file as it is."""
    before = contents(run)
    code, said, started = search(sweeps, run, capsys)
    assert (code, started) == (2, False), said
    assert "Traceback" not in said
    assert str(run / name) in said
    assert "--fresh" in said or "another --out" in said
    assert contents(run) == before
    return said


def contents(run: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(run)): path.read_bytes() if path.is_file() else None
        for path in run.rglob("*")
        if path.name != ".lock"
    }


def facts(record: TrialRecord) -> tuple[Any, ...]:
    return record.number, record.state, record.seed, record.config.named(), record.value, len(record.epochs)


def book_of(sweeps: Sweeps, run: Path) -> TrialBook:
    """The study as the driver opens it before it issues trials. Raises UserError."""
    prepared = checked(sweeps.flags_for(run))
    with prepared.run_dir.locked():
        prepared.write_spec(prepared.stored.precision)
        return TrialBook(prepared.spec, prepared.run_dir)


def goes_on(sweeps: Sweeps, run: Path) -> None:
    """That a killed sweep goes on with every trial that it had, its leader's model, and the open trial's seed."""
    before = [facts(record) for record in book_of(sweeps, sweeps.killed).records()]
    book = book_of(sweeps, run)
    assert [facts(record) for record in book.records()] == before
    assert book.remaining == 2
    assert book.leader is not None
    assert book.leader.number == LEADER
    assert is_whole(book.run_dir.model(LEADER))
    assert book.issue().number == OPEN


def is_complete(sweeps: Sweeps, run: Path) -> None:
    """That a finished sweep has all that it had when it was finished."""
    whole = RunDir(sweeps.finished).read_report()
    report = RunDir(run).read_report()
    assert whole is not None
    assert report is not None
    for key in ("trials", "best", "test", "majority"):
        assert report[key] == whole[key]
    assert is_whole(run / "best")
    for name in ("model.safetensors", "config.json", "metrics.json"):
        assert (run / "best" / name).read_bytes() == (sweeps.finished / "best" / name).read_bytes()
    assert "<!DOCTYPE html>" in (run / "report.html").read_text()
    assert "</html>" in (run / "report.html").read_text()
    assert [facts(record) for record in book_of(sweeps, run).records()] == [
        facts(record) for record in book_of(sweeps, sweeps.finished).records()
    ]


def as_expected(sweeps: Sweeps, run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That damage to a file was mended or refused, whichever of the two that file allows."""
    is_finished = "best" in {path.name for path in run.iterdir()} or (run / "report.json").exists()
    of_a_model = "/model/" in name or (
        name.startswith("best/") and Path(name).name not in ("README.md", "metrics.json")
    )
    if name in NEEDED:
        refused(sweeps, run, capsys, name)
    elif of_a_model and copies(sweeps.finished if is_finished else sweeps.killed) == 1:
        refused(sweeps, run, capsys, f"trials/{leader(sweeps) if is_finished else LEADER}/model")
    elif is_finished:
        mended(sweeps, run, capsys)
    else:
        goes_on(sweeps, run)


def mended(sweeps: Sweeps, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That the command makes a finished sweep whole again, once."""
    code, said, _ = search(sweeps, run, capsys)
    assert code == 0, said
    is_complete(sweeps, run)
    assert search(sweeps, run, capsys) == (0, "", False)


def copies(run: Path) -> int:
    """How many names the best model has in a whole run directory."""
    return len(list(run.rglob("model.safetensors")))


def leader(sweeps: Sweeps) -> int:
    """The trial that won in the end."""
    report = RunDir(sweeps.finished).read_report()
    assert report is not None
    return int(report["best"]["trial"])


def files_of(run: Path) -> list[str]:
    """Every file of a run directory that means anything to the sweep."""
    names = [str(path.relative_to(run)) for path in sorted(run.rglob("*")) if path.is_file()]
    return [name for name in names if name != ".lock" and "tfevents" not in name]


def test_undamaged_copies_go_on_and_are_complete(
    sweeps: Sweeps, killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goes_on(sweeps, killed)
    copy = shutil.copytree(sweeps.finished, tmp_path / "finished")
    assert search(sweeps, copy, capsys) == (0, "", False)
    is_complete(sweeps, copy)


# Cut, missing, flipped


def damaged(source: Path, run: Path, name: str, data: bytes | None) -> Path:
    """A copy of a run directory in which a file holds this, or is not there."""
    shutil.copytree(source, run)
    (run / name).unlink()
    if data is not None:
        (run / name).write_bytes(data)
    return run


def half_or_none(source: Path, name: str, of: int) -> list[bytes | None]:
    """Every other file is missing, the rest are cut in half."""
    data = (source / name).read_bytes()
    return [data[: len(data) // 2] if of % 2 or name == "spec.yaml" else None]


def many_cuts(source: Path, name: str) -> list[bytes | None]:
    data = (source / name).read_bytes()
    end = len(data) - (name == "spec.yaml")  # without its last newline it says the same
    chance = random.Random(f"{source.name} {name}")
    near = {at + off for at in range(0, len(data), 4096) for off in (-1, 0, 1)} if name == "study.db" else set()
    near |= {chance.randrange(len(data)) for _ in range(30 if name in NEEDED else 2)}
    cut = [data[:at] for at in sorted({0, 1, len(data) // 2, len(data) - 1} | near) if 0 <= at < end]
    return [*cut, *([] if name == "spec.yaml" else [None])]


@pytest.mark.parametrize("which", ["killed", "finished"])
def test_every_file_cut_or_missing(
    sweeps: Sweeps, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Path = getattr(sweeps, which)
    assert set(NEEDED) < set(files_of(source))
    for i, name in enumerate(files_of(source)):
        cut_or_missing(sweeps, source, name, half_or_none(source, name, i), tmp_path, capsys)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["killed", "finished"])
def test_every_file_cut_in_many_places(
    in_process: Sweeps, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Path = getattr(in_process, which)
    assert set(NEEDED) < set(files_of(source))
    for name in files_of(source):
        cut_or_missing(in_process, source, name, many_cuts(source, name), tmp_path, capsys)


def cut_or_missing(
    sweeps: Sweeps,
    source: Path,
    name: str,
    damages: list[bytes | None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for data in damages:
        run = damaged(source, tmp_path / "run", name, data)
        as_expected(sweeps, run, name, capsys)
        shutil.rmtree(run)


def test_a_missing_spec_is_told(sweeps: Sweeps, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "spec.yaml").unlink()
    code, said, _ = search(sweeps, finished, capsys)
    assert (code, "spec.yaml is gone, but a sweep's other files are there" + WHAT_TO_DO in said) == (2, True)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << at % 8
    path.unlink()  # best/ and the trial's model are one file with two names
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["killed", "finished"])
def test_flipped_bits_in_models_and_states(
    sweeps: Sweeps, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Path = getattr(sweeps, which)
    weighty = [n for n in files_of(source) if "/state/" in n or n.endswith("model.safetensors")]
    assert weighty
    for name in [*weighty, *(["best/config.json"] if which == "finished" else [])]:
        flipped(sweeps, source, name, (source / name).stat().st_size // 2, tmp_path, capsys)


@pytest.mark.faults
@pytest.mark.parametrize("which", ["killed", "finished"])
def test_flipped_bits_in_many_places(
    in_process: Sweeps, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Path = getattr(in_process, which)
    names = [name for name in files_of(source) if "/state/" in name or "/model/" in name or "best/" in name]
    assert names
    for name in names:
        for at in (0, 9, (source / name).stat().st_size - 2):
            flipped(in_process, source, name, at, tmp_path, capsys)


def flipped(
    sweeps: Sweeps, source: Path, name: str, at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(source, tmp_path / "run")
    flip(run / name, at)
    as_expected(sweeps, run, name, capsys)
    shutil.rmtree(run)


def test_a_model_that_is_flipped_under_both_its_names_is_refused(
    sweeps: Sweeps, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights in finished.rglob("model.safetensors"):
        flip(weights, 5000)
    assert str(finished / "best") in refused(sweeps, finished, capsys, f"trials/{leader(sweeps)}/model")


# The worker


def resumed_epochs(sweeps: Sweeps, run: Path) -> int:
    """How many epochs the open trial has when a worker takes it."""
    prepared = checked(sweeps.flags_for(run))
    with prepared.run_dir.locked():
        config = TrialBook(prepared.spec, prepared.run_dir).issue()
    assert config.number == OPEN
    trial = begin_trial(prepared, config)
    epochs = len(trial.fine_tuning.history)
    assert trial.step()["epoch"] == epochs + 1
    assert [path.name for path in (run / f"trials/{OPEN}/state").iterdir() if is_whole(path)] == [f"epoch-{epochs + 1}"]
    return epochs


def state_of(run: Path) -> Path:
    (state,) = (run / f"trials/{OPEN}/state").glob("epoch-*")
    return state


def test_a_worker_goes_on_from_a_whole_state(sweeps: Sweeps, killed: Path) -> None:
    number = int(state_of(killed).name[6:])
    assert number >= 10
    assert resumed_epochs(sweeps, killed) == number


def test_a_worker_takes_the_newest_state_that_is_whole(sweeps: Sweeps, killed: Path) -> None:
    newest = state_of(killed)
    number = int(newest.name[6:])
    later = shutil.copytree(newest, newest.with_name(f"epoch-{number + 1}"))
    (later / "best.safetensors").write_bytes(b"")
    assert resumed_epochs(sweeps, killed) == number


def cut_state(state: Path) -> None:
    (state / "state.safetensors").write_bytes((state / "state.safetensors").read_bytes()[:-1])


def state_is_a_file(state: Path) -> None:
    shutil.rmtree(state)
    state.write_text("x")


def state_holds_a_model(state: Path) -> None:
    shutil.rmtree(state)
    shutil.copytree(state.parents[2] / str(LEADER) / "model", state)


def state_of_another_trial(state: Path) -> None:
    change_state(state, seed=7)


def state_of_another_sweep(state: Path) -> None:
    change_state(state, sweep="0" * 32)


def change_state(state: Path, **changes: Any) -> None:
    """What another sweep or trial would have left there, whole."""
    facts = json.loads((state / "state.json").read_text()) | changes

    def write(aside: Path) -> None:
        for path in state.iterdir():
            if path.name != MANIFEST:
                shutil.copy(path, aside)
        (aside / "state.json").write_text(json.dumps(facts))

    write_folder(state, write)


NO_STATES: list[Callable[[Path], None]] = [
    cut_state, state_is_a_file, state_holds_a_model, state_of_another_trial, state_of_another_sweep,
]  # fmt: skip


@pytest.mark.parametrize("spoil", NO_STATES)
def test_a_state_that_does_not_fit_means_starting_the_trial_over(
    sweeps: Sweeps, killed: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(state_of(killed))
    assert resumed_epochs(sweeps, killed) == 0


def test_foreign_entries_among_the_states_do_not_matter(sweeps: Sweeps, killed: Path) -> None:
    state = state_of(killed)
    number = int(state.name[6:])
    (state.parent / "epoch-old").mkdir()
    (state.parent / "epoch-3.bak").write_text("mine")
    (state.parent / f"epoch-{number + 1}").write_text("a file where the next state goes")
    (state / "notes.txt").write_text("mine")
    assert resumed_epochs(sweeps, killed) == number


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"trial": 0}', '{"trial": 0, "merit": "x"}', "\x00"])
def test_a_damaged_incumbent_kills_no_worker(sweeps: Sweeps, killed: Path, text: str) -> None:
    prepared = checked(sweeps.flags_for(killed))
    with prepared.run_dir.locked():
        book = TrialBook(prepared.spec, prepared.run_dir)
        book.issue()
        config = book.issue()
    prepared.run_dir.incumbent_file.write_text(text)
    trial = begin_trial(prepared, config)
    assert [trial.step()["done"], trial.step()["done"]] == [False, True]
    assert is_whole(prepared.run_dir.model(config.number)), "the driver decides whether it stays"


def test_an_incumbent_that_this_study_does_not_have_is_removed(sweeps: Sweeps, killed: Path, tmp_path: Path) -> None:
    """A trial that lost against it would leave no model, and then win."""
    prepared = checked(sweeps.flags_for(tmp_path / "new"))
    (tmp_path / "new").mkdir()
    shutil.copy(killed / "incumbent.json", tmp_path / "new")
    prepared.write_spec("fp32")
    TrialBook(prepared.spec, prepared.run_dir)
    assert not prepared.run_dir.incumbent_file.exists()


# Another kind, foreign files, no right to write


@pytest.mark.parametrize(
    "name", ["spec.yaml", "study.db", "log.txt", "incumbent.json", "report.json", "report.html", "study.db-journal"]
)
def test_a_folder_in_a_files_place(
    sweeps: Sweeps, finished: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / name).unlink(missing_ok=True)
    (finished / name).mkdir()
    assert "is a folder, not a file" in refused(sweeps, finished, capsys, name)


@pytest.mark.parametrize("name", ["best", "trials", f"trials/{OPEN}", f"trials/{OPEN}/state", f"trials/{LEADER}/model"])
def test_a_file_in_a_folders_place(sweeps: Sweeps, killed: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if (killed / name).exists():
        shutil.rmtree(killed / name)
    (killed / name).write_text("mine")
    assert "is a file, not a folder" in refused(sweeps, killed, capsys, name)


def test_links_instead_of_files(sweeps: Sweeps, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (killed / "study.db").rename(killed.parent / "elsewhere.db")
    (killed / "study.db").symlink_to(killed.parent / "nowhere.db")
    for target in ("nowhere.db", "elsewhere.db"):
        (killed / "study.db").unlink()
        (killed / "study.db").symlink_to(killed.parent / target)
        code, said, started = search(sweeps, killed, capsys)
        assert (code, started) == (2, False)
        assert "study.db is a symbolic link to" in said
    (killed.parent / "elsewhere.db").replace(killed / "study.db")
    goes_on(sweeps, killed)


@pytest.mark.parametrize("which", ["killed", "finished"])
def test_foreign_files_lie_about_untouched(
    sweeps: Sweeps, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(getattr(sweeps, which), tmp_path / "run")
    foreign = ["notes.txt", ".hidden", "best.old/x", "trials/abc/x", "trials/007/x", "trials/²/x", "trials/notes"]
    foreign += [f"trials/{LEADER}/x", "study.db.bak", "\udcff\udcfe", *(["best/x"] if which == "finished" else [])]
    for name in foreign:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("mine")
    (run / "study.db-journal").write_bytes(random.Random(3).randbytes(5000))  # SQLite takes no such journal
    if which == "killed":
        goes_on(sweeps, run)
    else:
        assert search(sweeps, run, capsys) == (0, "", False)
        is_complete(sweeps, run)
    assert [name for name in foreign if (run / name).read_text() != "mine"] == []


@pytest.fixture
def read_only(killed: Path) -> Iterator[Path]:
    """A run directory on a file system that is mounted for reading."""
    with mounted_for_reading(killed):
        yield killed


def test_a_directory_for_reading_only(sweeps: Sweeps, read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{read_only} can't be written to" in search(sweeps, read_only, capsys)[1]


def test_a_page_that_can_not_be_mended_is_told(
    sweeps: Sweeps, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(finished / "report.html"))

    (finished / "report.html").write_text("<!DOCTYPE")
    monkeypatch.setattr("tune.report.finished.write_text", full)
    code, said, started = search(sweeps, finished, capsys)
    assert (code, started) == (2, False)
    assert f"{finished / 'report.html'} is not whole and can't be written anew: [Errno 28] No space left" in said


def test_a_study_for_reading_only(sweeps: Sweeps, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = killed / "study.db"
    study.chmod(0o444)
    # Root may write to every file that is not mounted for reading.
    with mounted_for_reading(study) if os.geteuid() == 0 else nullcontext():
        assert "can't be read and written" in refused(sweeps, killed, capsys, "study.db")


# Another sweep's parts


@pytest.fixture
def twin(sweeps: Sweeps, tmp_path: Path) -> Path:
    """What the same command leaves in another place."""
    return make_sweeps_again(sweeps, tmp_path / "twin")


def make_sweeps_again(sweeps: Sweeps, folder: Path) -> Path:
    """A finished twin: the files of this sweep under another sweep's name, with other weights."""
    run = shutil.copytree(sweeps.finished, folder)
    ours, theirs = RunDir(run).sweep_id or "", "f" * 32
    for name in ("spec.yaml", "report.json", "best/metrics.json"):
        (run / name).write_text((run / name).read_text().replace(ours, theirs))
    with closing(sqlite3.connect(run / "study.db")) as study:
        study.execute("UPDATE study_user_attributes SET value_json = ?", (json.dumps(theirs),))
        study.commit()
    for place in (run / "best", *run.glob("trials/*/model")):

        def write(aside: Path, place: Path = place) -> None:
            for path in place.iterdir():
                if path.name != MANIFEST:
                    shutil.copy(path, aside)
            flip(aside / "model.safetensors", (aside / "model.safetensors").stat().st_size - 100)

        write_folder(place, write)
    return run


def test_another_sweeps_study_is_refused(
    sweeps: Sweeps, finished: Path, twin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(twin / "study.db", finished)
    assert "belongs to another sweep than" in refused(sweeps, finished, capsys, "study.db")


def test_another_sweeps_spec_is_refused(
    sweeps: Sweeps, finished: Path, twin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(twin / "spec.yaml", finished)
    assert "belongs to another sweep than" in refused(sweeps, finished, capsys, "study.db")


@pytest.mark.parametrize("name", ["best", "model", "report.json", "report.html"])
def test_another_sweeps_results_are_replaced(
    sweeps: Sweeps, finished: Path, twin: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "report.html":
        (twin / name).write_text("theirs")
    model = f"trials/{leader(sweeps)}/model"
    if name in ("best", "model"):
        place = finished / (model if name == "model" else name)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(twin / "best", place)
    else:
        shutil.copy(twin / name, finished / name)
    if name == "best" and copies(sweeps.finished) == 1:
        refused(sweeps, finished, capsys, model)
    else:
        mended(sweeps, finished, capsys)
        if name == "report.html":
            assert (finished / name).read_text() != "theirs"


def test_another_sweeps_model_is_refused_where_there_is_no_other(
    sweeps: Sweeps, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = killed / f"trials/{LEADER}/model"

    def write(aside: Path) -> None:
        for path in sweeps.finished.joinpath("best").iterdir():
            if path.name not in (MANIFEST, "README.md", "metrics.json"):
                shutil.copy(path, aside)
        flip(aside / "model.safetensors", 2000)

    write_folder(model, write)
    assert is_whole(model)
    refused(sweeps, killed, capsys, f"trials/{LEADER}/model")


def test_an_older_study_is_refused(
    sweeps: Sweeps, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last trial would run again, and what it gave would be lost."""
    shutil.copy(sweeps.killed / "study.db", finished)
    said = refused(sweeps, finished, capsys, "study.db")
    assert "has 2 trials and none of number 2, whose folders are in" in said
    assert f"has 1 finished trials where {finished / 'report.json'} tells of 3" in said
    shutil.rmtree(finished / "trials" / "2")
    (finished / "report.json").unlink()
    # The one thing that is left to tell: the model that its leader had is gone since.
    refused(sweeps, finished, capsys, f"trials/{LEADER}/model")


def test_the_protection_is_what_holds(
    sweeps: Sweeps, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the checks an empty study is begun anew, in silence."""
    (finished / "study.db").write_bytes(b"")
    refused(sweeps, finished, capsys, "study.db")
    monkeypatch.setattr("tune.prepare.identity.find_records", lambda *_: ())
    assert book_of(sweeps, finished).records() == ()


def test_all_damage_is_told_at_once(sweeps: Sweeps, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "log.txt").unlink()
    (finished / "log.txt").mkdir()
    (finished / "best" / MANIFEST).unlink()
    shutil.rmtree(finished / "trials" / "0")
    (finished / "trials" / "0").write_text("")
    flags = [*sweeps.flags_for(finished), "--num-trails", "3"]
    assert main(flags) == 2
    said = capsys.readouterr().err
    for part in (
        "3 problems",
        "did you mean '--num-trials'",
        str(finished / "log.txt"),
        str(finished / "trials" / "0"),
    ):
        assert part in said


def test_another_driver_at_work_is_told_before_anything_starts(
    sweeps: Sweeps, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunDir(killed).locked():
        (killed / "study.db").write_bytes(b"")  # what its owner does there is not ours to judge
        code, said, started = search(sweeps, killed, capsys)
    assert (code, started) == (2, False)
    assert f"another sweep is running here (process {os.getpid()} on " in said


def test_what_a_kill_in_the_first_moments_leaves_is_no_sweep_and_no_damage(sweeps: Sweeps, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").write_text("123")
    (run / ".spec.yaml.0123abcd").write_text("na")
    assert checked(sweeps.flags_for(run)).stored.records == ()
    (run / ".spec.yaml.0123abcd").unlink()
    checked(sweeps.flags_for(run)).write_spec(None)
    for made in (None, b""):  # the study not begun, and begun
        if made is not None:
            (run / "study.db").write_bytes(made)
        prepared = checked(sweeps.flags_for(run))
        assert prepared.stored.records == ()
    assert TrialBook(prepared.spec, prepared.run_dir).records() == ()
    prepared.write_spec("fp32")
    (run / "study.db").write_bytes(b"")
    with pytest.raises(UserError, match="it is empty"):
        checked(sweeps.flags_for(run))


def test_a_sweep_from_before_sweeps_had_names_goes_on(sweeps: Sweeps, killed: Path) -> None:
    spec = (killed / "spec.yaml").read_text()
    (killed / "spec.yaml").write_text(spec[: spec.index("  sweep: ")])
    with pytest.raises(UserError, match="belongs to another sweep than"):
        book_of(sweeps, killed)
    with closing(sqlite3.connect(killed / "study.db")) as study:
        study.execute("DELETE FROM study_user_attributes")
        study.commit()
    change_state(state_of(killed), sweep=None)
    number = int(state_of(killed).name[6:])
    goes_on(sweeps, killed)
    assert resumed_epochs(sweeps, killed) == number


def test_looking_costs_little(sweeps: Sweeps, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's model is read once to see that it is whole, and no other model or state at all."""
    import trainable.storage.folders as storage

    read: list[Path] = []
    real = storage._sha256
    monkeypatch.setattr(storage, "_sha256", lambda path: read.append(path) or real(path))
    problems: list[str] = []
    prepared = checked(sweeps.flags_for(finished))
    read.clear()
    assert damage.find_records(prepared.run_dir, prepared.spec, problems)
    assert problems == []
    assert len([path for path in read if path.name == "model.safetensors"]) == 1


# The best model


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "metrics.json", MANIFEST])
def test_evaluate_refuses_a_damaged_best_model(finished: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tune.evaluate import main as evaluate

    path = finished / "best" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert evaluate([str(finished)]) == 2
    assert f"{finished / 'best'} is damaged, or another sweep's; the same" in capsys.readouterr().err


def test_evaluate_refuses_another_sweeps_best_model(
    finished: Path, twin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tune.evaluate import main as evaluate

    shutil.rmtree(finished / "best")
    shutil.copytree(twin / "best", finished / "best")
    assert evaluate([str(finished)]) == 2
    assert "is damaged, or another sweep's" in capsys.readouterr().err


# The command line


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_the_command_refuses_goes_on_and_mends(on_ray: Sweeps, tmp_path: Path) -> None:
    killed = shutil.copytree(on_ray.killed, tmp_path / "run")
    data = (killed / "study.db").read_bytes()
    (killed / "study.db").write_bytes(b"")
    no = command("tune.search", *on_ray.flags_for(killed), cwd=tmp_path)
    assert (no.returncode, no.stdout) == (2, "")
    assert (
        no.stderr == f"{killed / 'study.db'} is damaged (it is empty){WHAT_TO_DO}\nNothing was started. See --help.\n"
    )
    (killed / "study.db").write_bytes(data)
    flip(state_of(killed) / "state.safetensors", 4000)
    done = command("tune.search", *on_ray.flags_for(killed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((killed / "report.json").read_text())
    whole = json.loads((on_ray.finished / "report.json").read_text())
    assert [(row["number"], row["state"], row["value"]) for row in report["trials"]] == [
        (row["number"], row["state"], row["value"]) for row in whole["trials"]
    ]
    (killed / "best" / "metrics.json").unlink()
    again = command("tune.search", *on_ray.flags_for(killed), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert command("tune.evaluate", killed, cwd=tmp_path).stderr == "agrees with report.json\n"
