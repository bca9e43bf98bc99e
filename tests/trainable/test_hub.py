"""Models and data sets of the hub, from a server on loopback that answers as the hub does, and with it gone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, write_tiny_glue, write_tiny_model
from trainable.data.sources import hub_name

# Prints a line of JSON for each (what, name, configuration): the result, or the error and its words.
CHILD = """
import json, sys
from trainable.hub import download as hub
deadline, asked = json.loads(sys.argv[1])
hub.DEADLINE_S = deadline or hub.DEADLINE_S
for what, *names in asked:
    try:
        if what == "model":
            told = str(hub.resolve_model(*names))
        else:
            told = {split: table.to_pydict() for split, table in hub.load_hub_dataset(*names).items()}
        print(json.dumps(told))
    except hub.HubError as error:
        print(json.dumps(f"HubError: {error}"))
"""
OFFLINE = "Without a network these work: --preset demo, local folders, and names used before on this machine"


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment without its settings for the hub, which children are to have their own of."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | variables


def ask(
    questions: Sequence[Sequence[str | None]], home: Path, endpoint: str, deadline_s: float | None = None, **more: str
) -> list[Any]:
    """The answers of a fresh process; HF_ENDPOINT and HF_HOME are read at import."""
    env = child_environment(HF_HOME=str(home), HF_ENDPOINT=endpoint, **more)
    command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps([deadline_s, questions])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("repos")
    write_tiny_model(folder / "bert")
    for extra in ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json"):
        (folder / "bert" / extra).parent.mkdir(exist_ok=True)
        (folder / "bert" / extra).write_bytes(b"not wanted")
    write_tiny_glue(folder / "glue")
    shutil.copytree(folder / "bert", folder / "pickled")
    (folder / "pickled" / "model.safetensors").unlink()
    (folder / "scripted").mkdir()
    (folder / "scripted" / "scripted.py").write_text(f"open({str(folder / 'marker')!r}, 'w')\n")
    (folder / "bare").mkdir()
    shutil.copy(folder / "bert" / "config.json", folder / "bare" / "config.json")
    return {
        ("model", "google-bert/bert-base-uncased"): folder / "bert",
        ("model", "some/gated"): folder / "bert",
        ("model", "some/bare"): folder / "bare",
        ("model", "some/pickled"): folder / "pickled",
        ("dataset", "some/scripted"): folder / "scripted",
        ("dataset", "nyu-mll/glue"): folder / "glue",
        ("dataset", "some/gated"): folder / "glue",
        ("dataset", "some/bare"): folder / "bare",
    }


@pytest.fixture(scope="module")
def filled(repos: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[Any]]:
    """HF_HOME after a model and a data set were fetched; the address of a hub that is gone; what was answered."""
    home = tmp_path_factory.mktemp("hub") / "home"
    with Hub(repos) as hub:
        told = ask([("model", "bert-base-uncased"), ("data", "nyu-mll/glue", "mrpc")], home, hub.url)
        fetched = hub.paths("GET")
    assert sorted(path.name for path in Path(told[0]).iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"
    ]  # fmt: skip
    assert not [path for path in fetched if path.endswith((".bin", ".h5", ".onnx")) or "onnx" in path]
    assert not [path for path in fetched if path.endswith(".parquet") and "/mrpc/" not in path]
    return home, hub.url, told


def test_a_name_of_glue_is_a_configuration_of_its_repository() -> None:
    assert hub_name("glue/mrpc") == ("nyu-mll/glue", "mrpc")
    assert hub_name("nyu-mll/glue/mrpc") == ("nyu-mll/glue", "mrpc")
    assert hub_name("stanfordnlp/imdb") == ("stanfordnlp/imdb", None)
    assert hub_name("imdb") == ("imdb", None)


def test_the_rows_are_those_of_the_hub(filled: tuple[Path, str, list[Any]]) -> None:
    _, _, (_, splits) = filled
    assert {name: len(columns["label"]) for name, columns in splits.items()} == {
        "train": 64, "validation": 20, "test": 26
    }  # fmt: skip
    assert list(splits["train"]) == ["sentence1", "sentence2", "label", "idx"]
    assert set(splits["test"]["label"]) == {0, 1}


def test_the_cache_answers_when_the_hub_is_gone(filled: tuple[Path, str, list[Any]]) -> None:
    home, gone, told = filled
    names = [("model", "bert-base-uncased"), ("data", "nyu-mll/glue", "mrpc"), ("data", "glue", "mrpc")]
    names += [("data", "nyu-mll/glue", "sst2"), ("model", "some/other")]
    model, data, legacy, *missing = ask(names, home, gone)
    assert [model, data] == told
    assert legacy == data  # a name without its namespace is the same data set
    error = f"HubError: is not in the local cache, and the hub at {gone} cannot be reached ([Errno 111] "
    assert missing == [f"{error}Connection refused). {OFFLINE}"] * 2


def test_offline_mode_is_a_hub_that_is_gone(filled: tuple[Path, str, list[Any]]) -> None:
    home, _, told = filled
    names = [("model", "bert-base-uncased"), ("data", "nyu-mll/glue", "mrpc"), ("model", "some/other")]
    *found, missing = ask(names, home, "https://huggingface.co", HF_HUB_OFFLINE="1")
    assert found == told
    assert missing == (
        "HubError: is not in the local cache, and the hub at https://huggingface.co cannot be reached "
        f"(HF_HUB_OFFLINE is set). {OFFLINE}"
    )


def test_half_a_cached_model_is_none(filled: tuple[Path, str, list[Any]], tmp_path: Path) -> None:
    home, gone, told = filled
    shutil.copytree(home, tmp_path / "home", symlinks=True)
    (tmp_path / "home" / Path(told[0]).relative_to(home) / "model.safetensors").unlink()
    (answer,) = ask([("model", "bert-base-uncased")], tmp_path / "home", gone)
    assert answer.startswith("HubError: is not in the local cache")


def test_a_hub_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answers = ask([("model", "bert-base-uncased"), ("data", "nyu-mll/glue", "mrpc")], tmp_path, url, 0.3)
    assert answers == [
        f"HubError: is not in the local cache, and the hub at {url} cannot be reached (no answer within 0.3 s). "
        f"{OFFLINE}"
    ] * 2  # fmt: skip


def test_an_endpoint_that_is_no_hub_leaves_the_cache(filled: tuple[Path, str, list[Any]]) -> None:
    home, _, told = filled
    with Hub({}) as hub:
        *found, missing = ask(
            [("model", "bert-base-uncased"), ("data", "nyu-mll/glue", "mrpc"), ("model", "some/other")],
            home,
            f"{hub.url}/elsewhere",
        )
    assert found == told
    assert f"the hub at {hub.url}/elsewhere answers with an error (" in missing
    assert "404" in missing


def test_what_the_hub_refuses_is_said_in_words(repos: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    with Hub(repos, gated=["some/gated"]) as hub:
        login = "check the name or run 'hf auth login'"
        known = "cola, mnli, mrpc, qnli, qqp, rte, sst2, wnli"
        expected = {
            ("model", "no/such"): f"the hub at {hub.url} has no such model, or it is private: {login}",
            ("data", "no/such"): f"the hub at {hub.url} has no such dataset, or it is private: {login}",
            ("model", "a b"): "is neither a local folder nor a name that the hub could have",
            ("data", "a/b/c/d"): "is neither a local folder nor a name that the hub could have",
            ("model", "some/gated"): f"is gated: ask for access at {hub.url}, then run 'hf auth login'",
            ("data", "some/gated", "mrpc"): f"is gated: ask for access at {hub.url}, then run 'hf auth login'",
            ("data", "nyu-mll/glue", "nope"): f"nyu-mll/glue has no configuration 'nope'; known: {known}",
            ("data", "nyu-mll/glue", "mrcp"): "nyu-mll/glue has no configuration 'mrcp'; did you mean 'mrpc'?",
            ("data", "glue"): f"has several configurations: write nyu-mll/glue/NAME; known: {known}",
            ("model", "some/bare"): "has no weights (model.safetensors)",
        }
        more = [("model", "some/pickled"), ("data", "some/scripted"), ("data", "some/bare")]
        *answers, pickled, scripted, bare = ask([*expected, *more], tmp_path, hub.url)
        assert not [path for path in hub.paths("GET") if path.endswith(".bin")], "fetched what is never opened"
    assert dict(zip(expected, answers, strict=True)) == {name: f"HubError: {text}" for name, text in expected.items()}
    assert pickled.startswith(
        "HubError: has only pickled weights (pytorch_model.bin), which may run code and are never "
    )
    assert "use --model ./pickled:\n    python -m tune.convert some/pickled ./pickled" in pickled
    assert scripted == (
        f"HubError: could not be loaded from the hub at {hub.url}: Dataset scripts are no longer supported, but found "
        "scripted.py"
    )
    assert not (repos["model", "some/pickled"].parent / "marker").exists()
    assert bare.startswith(f"HubError: could not be loaded from the hub at {hub.url}: ")
    assert "\n" not in bare
