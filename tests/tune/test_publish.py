"""`python -m tune.publish`: what goes out is listed, asked for, and uploaded by the hub's own client to loopback."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.hub import ACCOUNT, ORGANIZATION, TOKEN, Hub
from tests.trainable.test_hub import child_environment
from tests.tune.test_end_to_end import command

ROOT = Path(__file__).parents[2]
REPO = f"{ACCOUNT}/same-or-not"
OUT = ("README.md", "config.json", "metrics.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished sweep whose data, model and specification lie in folders of this machine."""
    folder = tmp_path_factory.mktemp("publish")
    data = write_pairs(folder / "our secret customers" / "pairs", {"train": 96, "validation": 48, "test": 48})
    flags = ("--num-trials", 1, "--space", "epochs=1", "--precision", "fp32", "--max-length", 48)
    done = command("tune.search", "--dataset", data, "--model", tiny_model, "--out", "run", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def publish(
    run: Path, endpoint: str, *flags: str, repo: str = REPO, stdin: int = subprocess.DEVNULL, **more: str
) -> subprocess.CompletedProcess[str]:
    own = {"HF_HOME": str(run.parent / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": endpoint}
    own["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return subprocess.run(
        [sys.executable, "-m", "tune.publish", str(run), repo, *flags],
        env=child_environment(**{**own, "PYTHONPATH": str(ROOT), **more}),
        stdin=stdin, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_what_was_shown_is_what_is_on_the_hub_and_it_holds_no_path_of_this_machine(run: Path) -> None:
    assert (run / "best" / "test_predictions.npy").exists()  # of rows that may be nobody else's business
    with Hub({}) as hub:
        shown = publish(run, hub.url, "--dry-run")
        assert (shown.returncode, shown.stderr, hub.requests) == (0, "", [])
        done = publish(run, hub.url, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"account {ACCOUNT}; a new repository, private" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{REPO}"
    files = hub.uploaded[REPO]
    assert hub.private[REPO]
    assert {*OUT} <= files.keys()
    for name, content in files.items():
        assert f"{len(content):,} bytes  {name}\n" in shown.stdout
        assert f"{len(content):,} bytes  {name}\n" in done.stdout
    listed = set(re.findall(r"bytes  (.+)", shown.stdout))
    assert listed == files.keys()
    assert not {"manifest.json", "test_predictions.npy"} & listed
    assert {name: (run / "best" / name).read_bytes() for name in files if name != "README.md"} == {
        name: content for name, content in files.items() if name != "README.md"
    }
    card = files["README.md"].decode()
    assert "# `same-or-not`: `model` fine-tuned on `pairs`\n" in card
    assert f'pipeline("text-classification", "{REPO}", truncation=True)' in card
    small = b"".join(content for name, content in files.items() if name != "model.safetensors").decode()
    for private in (str(run.parent), "our secret customers", str(Path.home()), os.sep + "tmp"):
        assert private not in small


def test_a_second_upload_is_a_commit_in_the_repository_that_exists(run: Path) -> None:
    with Hub({}) as hub:
        assert publish(run, hub.url, "--yes", "--public").returncode == 0
        again = publish(run, hub.url, "--yes")
    assert again.returncode == 0
    assert "a new commit in the repository that exists, public" in again.stdout


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_on_a_terminal_it_asks(run: Path, answer: str) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    try:
        with Hub({}) as hub:
            done = publish(run, hub.url, repo=f"{ORGANIZATION}/same", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Upload? [y/N]" in done.stdout + done.stderr
    assert done.returncode == (0 if answer == "y" else 1)
    assert list(hub.uploaded) == ([f"{ORGANIZATION}/same"] if answer == "y" else [])


def test_mistakes_upload_nothing(run: Path) -> None:
    with Hub({}) as hub:
        unasked = publish(run, hub.url)
        assert hub.requests == []
        other = publish(run, hub.url, "--yes", repo="somebody/model")
        stranger = publish(run, hub.url, "--yes", HF_TOKEN="hf_wrong")
        unnamed = publish(run / "nothing", hub.url, "--dry-run", repo="no name")
    assert "there is no terminal on which to ask; --yes uploads without asking" in unasked.stderr
    assert "somebody/model: the account ann has no right to it; it has: ann, lab" in other.stderr
    assert "the hub does not tell whose token this is" in stranger.stderr
    assert "2 problems" in unnamed.stderr
    assert [each.returncode for each in (unasked, other, stranger, unnamed)] == [2] * 4
    assert hub.uploaded == {}
