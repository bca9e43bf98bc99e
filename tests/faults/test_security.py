"""Nothing in a run directory, a model or a data set is run; secrets stay where they are. See docs/security.md."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_pairs
from tests.hub import Hub
from tests.tune.test_end_to_end import ROOT, command
from tests.tune.test_failures import LEARNS, flags, wait_for
from tests.tune.test_shown import HOSTILE, Page
from trainable.data.tokens import load_tokenizer
from trainable.errors import SweepFailed
from trainable.hub.model_checks import model_problems
from trainable.model.classifier import Classifier
from trainable.redaction import one_line
from trainable.storage.folders import MANIFEST
from tune.cluster.nodes import Node
from tune.evaluate import main as evaluate
from tune.run_dir.layout import OF_BEST
from tune.search import main as search

pytestmark = pytest.mark.faults


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


def plain_pickle(marker: Path) -> bytes:
    return pickle.dumps(Trap(marker))


def text_pickle(marker: Path) -> bytes:
    return pickle.dumps(Trap(marker), protocol=0)


def torch_file(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"a": Trap(marker), "b": torch.zeros(2)}, file)
    return file.getvalue()


def old_torch_file(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"a": Trap(marker)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


FORMS = [plain_pickle, text_pickle, torch_file, old_torch_file]


@pytest.mark.parametrize("form", FORMS)
def test_the_trap_works(form: Callable[[Path], bytes], tmp_path: Path) -> None:
    content = form(tmp_path / "marker")
    (tmp_path / "file").write_bytes(content)
    if zipfile.is_zipfile(tmp_path / "file") or form is old_torch_file:
        torch.load(tmp_path / "file", weights_only=False)
    else:
        pickle.loads(content)
    assert (tmp_path / "marker").exists()


# A run directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, list[str]]:
    """A finished sweep and its flags; one trial won, one failed, one never ended and left a state."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_pairs(folder / "pairs", {"train": 48, "validation": 24, "test": 24})
    points = [{**LEARNS, "epochs": 2}, {**LEARNS, "learning_rate": 1e30}]
    (folder / "points.json").write_text(json.dumps(points))
    arguments = [
        "--dataset", data, "--model", tiny_model, "--points", folder / "points.json", "--precision", "fp32",
        "--space", "max_grad_norm=none", "--scheduler", "none", "--out", folder / "run",
    ]  # fmt: skip
    done = command("tune.search", *arguments, "--confirm", "none", "--num-trials", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", [str(argument) for argument in arguments]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep as it is up to the first trial that it would start."""
    import tune.cluster.connect
    import tune.sweep.run_trials

    @contextlib.contextmanager
    def connected(spec: object) -> Iterator[list[Node]]:
        yield [Node(2, 0, here=True)]

    def run_trials(spec: Any, plan: Any, job: Any, run_dir: Any, book: Any, *rest: Any, **more: Any) -> None:
        if book.remaining:
            raise SweepFailed("here trials would start")

    monkeypatch.setattr(tune.cluster.connect, "connected", connected)
    monkeypatch.setattr(tune.sweep.run_trials, "run_trials", run_trials)


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def copy_of(finished: tuple[Path, list[str]], folder: Path) -> tuple[Path, list[str]]:
    """A run directory that may be spoilt, and the flags that go on with it."""
    run, arguments = finished
    shutil.copytree(run, folder / "run", dirs_exist_ok=True)
    return folder / "run", [*arguments[:-1], str(folder / "run")]


def renew_manifests(run: Path) -> None:
    """As somebody would who knows of them."""
    for manifest in run.rglob(MANIFEST):
        with contextlib.suppress(ValueError):
            entries = json.loads(manifest.read_text())
            for name in entries:
                content = (manifest.parent / name).read_bytes()
                entries[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest.write_text(json.dumps(entries))


def open_with_everything(run: Path, arguments: list[str]) -> list[int]:
    """Exit codes of every command on a run directory that exists."""
    return [
        search([*arguments, "--confirm", "none", "--num-trials", "2"]),
        search([*arguments, "--confirm", "none", "--num-trials", "3"]),
        evaluate([str(run)]),
        evaluate([str(run), "--split", "validation"]),
        evaluate([str(run), "--data", str(run.parent.parent / "none.csv")]),
    ]


@pytest.mark.usefixtures("without_ray")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("consistent", [False, True])
def test_a_pickle_in_any_file_of_a_run_directory_is_never_opened(
    consistent: bool, finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    names = files_of(finished[0])
    assert {"study.db", "spec.yaml", "report.json", "incumbent.json", "best/model.safetensors", ".lock"} <= {*names}
    assert any("events" in name for name in names)
    for at, name in enumerate(names):
        if consistent and "/" not in name:
            continue
        run, arguments = copy_of(finished, tmp_path / str(at))
        path = run / name
        path.unlink()  # best/ shares files with the winner's folder
        path.write_bytes(FORMS[at % len(FORMS)](marker))
        if consistent and path.name != MANIFEST:
            renew_manifests(run)
        codes = open_with_everything(run, arguments)
        said = capsys.readouterr().err
        assert not marker.exists(), name
        assert "Traceback" not in said, (name, said)
        assert set(codes) <= {0, 1, 2}, name
        shutil.rmtree(tmp_path / str(at))


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_in_every_file_at_once(
    form: Callable[[Path], bytes], finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, arguments = copy_of(finished, tmp_path)
    for name in files_of(run):
        (run / name).unlink()
        (run / name).write_bytes(form(tmp_path / "marker"))
    assert open_with_everything(run, arguments) == [2] * 5
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


@pytest.mark.timeout(300)
def test_a_sweep_over_pickles_for_real(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, arguments = copy_of(finished, tmp_path)
    kept = {"spec.yaml", "study.db"}  # and the winner's only model
    for at, name in enumerate(files_of(run)):
        if name not in kept and (not name.startswith("best/") or name.removeprefix("best/") in OF_BEST):
            (run / name).unlink()
            (run / name).write_bytes(FORMS[at % len(FORMS)](tmp_path / "marker"))
    done = command("tune.search", *arguments, "--confirm", "none", "--num-trials", 4, cwd=tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0
    scored = command("tune.evaluate", run, cwd=tmp_path)
    assert (scored.returncode, scored.stderr.strip()) == (0, "agrees with report.json")
    assert not (tmp_path / "marker").exists()


@pytest.mark.usefixtures("without_ray")
def test_yaml_makes_no_objects(
    finished: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, arguments = copy_of(finished, tmp_path)
    evil = f"name: !!python/object/apply:os.system ['touch {tmp_path / 'marker'}']\n"
    (run / "spec.yaml").write_text(evil + (run / "spec.yaml").read_text())
    (tmp_path / "sweep.yaml").write_text(evil)
    assert open_with_everything(run, arguments) == [2] * 5
    assert search([str(tmp_path / "sweep.yaml")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


# A model's folder


def change_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def trap_code(folder: Path, marker: Path) -> None:
    """Python beside the model that its configuration and its tokenizer ask for, and an attention from the hub."""
    code = f"open({str(marker)!r}, 'w')\n"
    for name in ("evil.py", "modeling_bert.py", "tokenization_bert.py", "configuration_bert.py", "__init__.py"):
        (folder / name).write_text(code)
    classes = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    change_json(
        folder / "config.json",
        auto_map=dict.fromkeys(classes, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
        attn_implementation="somebody/kernel",
        _attn_implementation="somebody/kernel",
        custom_pipelines={"text-classification": {"impl": "evil.Evil"}},
    )
    change_json(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
        chat_template="{{ cycler.__init__.__globals__.os.system('touch " + str(marker) + "') }}",
    )
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin", "vocab.pkl"):
        (folder / name).write_bytes(torch_file(marker))


def test_code_beside_a_model_is_not_run(tiny_model: Path, tmp_path: Path) -> None:
    folder, marker = Path(shutil.copytree(tiny_model, tmp_path / "model")), tmp_path / "marker"
    trap_code(folder, marker)
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    done = command(
        "tune.search", "--dataset", data, "--model", folder,
        "--confirm", "none", "--num-trials", 1, "--space", "epochs=1",
        "--precision", "fp32", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert command("tune.evaluate", "run", cwd=tmp_path).returncode == 0
    assert not marker.exists()
    assert not list((tmp_path / "run").rglob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        written = json.loads((tmp_path / "run" / "best" / name).read_text())
        assert not {"auto_map", "custom_pipelines"} & set(written), name


def test_a_type_and_a_tokenizer_of_their_own_are_refused(
    tiny_model: Path, tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    for at, change in enumerate(({"model_type": "evil"}, {"model_type": "bert"})):
        folder = Path(shutil.copytree(tiny_model, tmp_path / f"model {at}"))
        trap_code(folder, marker)
        change_json(folder / "config.json", **change)
        change_json(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer")
        search(["--dataset", str(tiny_data), "--model", str(folder), "--out", str(tmp_path / "run"), "--num-trials=0"])
        assert "Traceback" not in capsys.readouterr().err
        with contextlib.suppress(ValueError, OSError):
            load_tokenizer(str(folder))
        with contextlib.suppress(ValueError, OSError):
            Classifier(str(folder), ("a", "b"), torch.device("cpu"))
    assert not marker.exists()


@pytest.mark.parametrize("form", [torch_file, old_torch_file])
def test_pickled_weights_are_opened_by_nothing_that_loads_a_model(
    form: Callable[[Path], bytes], tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(form(tmp_path / "marker"))
    with pytest.raises(OSError, match=r"model\.safetensors"):
        Classifier(str(folder), ("a", "b"), torch.device("cpu"))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("shards", [False, True])
def test_the_command_that_we_print_converts_a_model(shards: bool, tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(tiny_model, tmp_path / "it's a model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards:
        halves = {f"pytorch_model-0000{i}-of-00002.bin": sorted(weights)[i - 1 :: 2] for i in (1, 2)}
        for name, keys in halves.items():
            torch.save({key: weights[key] for key in keys}, folder / name)
        places = {key: name for name, keys in halves.items() for key in keys}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    (problem,) = model_problems(folder)
    words = [sys.executable, *shlex.split(problem.splitlines()[1])[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert model_problems(folder) == []
    converted = load_file(folder / "model.safetensors")
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], weights[name]) for name in weights)
    made, original = (Classifier(str(f), ("a", "b"), torch.device("cpu")) for f in (folder, tiny_model))
    made.reset(1, None)
    original.reset(1, None)
    assert all(torch.equal(tensor, original.weights()[name]) for name, tensor in made.weights().items())

    # The same file with a trap in it is refused by the command too.
    (folder / "model.safetensors").unlink()
    for name in [path.name for path in folder.glob("pytorch_model*.bin")]:
        (folder / name).write_bytes(torch_file(tmp_path / "marker"))
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "weights_only" in done.stderr.lower()
    assert not (folder / "model.safetensors").exists()
    assert not (tmp_path / "marker").exists()


def test_the_command_for_a_model_of_the_hub(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with Hub({("model", "some/pickled"): folder}) as hub:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
        words = [sys.executable, "-m", "tune.search", "--dataset", str(data), "--model", "some/pickled"]
        refused = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2
        assert "use --model ./pickled:" in refused.stderr
        line = next(line for line in refused.stderr.splitlines() if line.startswith("    python -c "))
        words = [sys.executable, *shlex.split(line)[1:]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert model_problems(tmp_path / "pickled") == []
    made = load_file(tmp_path / "pickled" / "model.safetensors")
    assert made.keys() == weights.keys()
    assert all(torch.equal(made[name], weights[name]) for name in weights)


# A data set


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_data_that_is_a_pickle(
    suffix: str, form: Callable[[Path], bytes], tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "data" / f"{name}{suffix}").write_bytes(form(tmp_path / "marker"))
    (tmp_path / "data" / "data.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    assert search(["--dataset", str(tmp_path / "data"), "--model", str(tiny_model), "--out", str(tmp_path / "r")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "r").exists()


def test_a_parquet_column_of_a_pickled_type(tmp_path: Path, tiny_model: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    column = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": plain_pickle(tmp_path / "marker"),
    }
    fields = [pa.field("text", pa.string(), metadata=column), pa.field("label", pa.int64())]
    table = pa.table({"text": [f"row {i}" for i in range(60)], "label": [0, 1] * 30}, schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    code = search([
        "--dataset", str(tmp_path / "data"), "--model", str(tiny_model), "--out", str(tmp_path / "r"),
        "--space", "batch_size=1000",
    ])  # fmt: skip
    assert code == 2
    assert not (tmp_path / "marker").exists()


def test_a_whole_sweep_on_hostile_labels_shows_them_as_text(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "data").mkdir()
    labels = [text for text in HOSTILE if text.strip() == text]
    rows = [json.dumps({"text": f"the bank rose {i}", "label": labels[i % len(labels)]}) for i in range(120)]
    for name, cut in {"train": rows[:60], "validation": rows[60:90], "test": rows[90:]}.items():
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(cut) + "\n")
    name = "name <b>\x1b[31m`"
    done = command(
        "tune.search", "--dataset", "data", "--model", tiny_model,
        "--confirm", "none", "--num-trials", 1, "--space", "epochs=1",
        "--precision", "fp32", "--out", "run", "--set", f"name={name}", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    run = tmp_path / "run"
    for shown in (done.stdout, (run / "log.txt").read_text(), (run / "best" / "README.md").read_text()):
        assert not set(shown) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))
    page = Page((run / "report.html").read_text())
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "table", "tr", "th", "td"
    }  # fmt: skip
    assert one_line(name) in page.text
    assert json.loads((run / "report.json").read_text())["label_names"] == sorted(labels)
    events = b"".join(path.read_bytes() for path in run.glob("trials/*/events*"))
    assert events
    assert not [label for label in labels if label.encode() in events]


# Secrets

SECRETS = {
    "HF_TOKEN": "hf_planted0secret1one",
    "HUGGING_FACE_HUB_TOKEN": "hf_planted0secret1two",
    "AWS_SECRET_ACCESS_KEY": "planted0secret1three/+x",
    "RAY_AUTH_TOKEN": "planted0secret1four" + "4" * 45,
    "MADE_UP_API_KEY": "planted0secret1five",
    "WANDB_API_KEY": "planted0secret1six",
    "DATABASE_PASSWORD": "planted0secret1seven",
}
COMMON = "planted0secret1"


def found_in(folder: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and COMMON.encode() in (content := path.read_bytes()):
                at = content.index(COMMON.encode())
                found.append(f"{path.relative_to(folder)}: {content[max(0, at - 700) : at + 30]!r}")
    return found


@pytest.mark.parametrize("module", ["tests.tune.faulty", "tests.faults.leaky"])
def test_secrets_of_the_environment_are_written_nowhere(module: str, tmp_path: Path, tiny_model: Path) -> None:
    arguments = [*flags(tmp_path, tiny_model, [{**LEARNS, "epochs": 60}, LEARNS, LEARNS]), "--max-concurrent", 2]
    driver = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=tmp_path, env={**os.environ, **SECRETS, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: log.exists() and "trial 1 FAILED" in log.read_text(), driver)
    (folder,) = [
        path.parent for path in Path("/tmp").glob("ft-*/r/session_*")
        if path.name.endswith(f"_{driver.pid}")
    ]  # fmt: skip
    assert list(folder.glob("session_*/logs/*.log"))
    while_it_ran = found_in(folder)
    out, error = driver.communicate(timeout=100)
    assert driver.returncode == 0, error
    assert COMMON not in out
    assert error == ""
    assert found_in(tmp_path) == []
    assert "***" in log.read_text() or module == "tests.tune.faulty"
    if module == "tests.tune.faulty":  # an error's own words stand in the private folder, until it goes
        assert while_it_ran == []
    assert not folder.exists()


@pytest.mark.parametrize("name", ["some/model", "glue/mrpc"])
def test_a_hub_error_tells_no_secret(name: str, tmp_path: Path, tiny_model: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= SECRETS | {
        "HF_ENDPOINT": f"http://me:{SECRETS['HF_TOKEN']}@127.0.0.1:1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    data, model = (write_pairs(tmp_path / "pairs", {"train": 48}), name) if "model" in name else (name, tiny_model)
    done = subprocess.run(
        [sys.executable, "-m", "tune.search", "--dataset", str(data), "--model", str(model), "--out", "run"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "the hub at http://***@127.0.0.1:1 cannot be reached" in done.stderr
    assert COMMON not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
    assert found_in(tmp_path) == []


# Tokens

TWICE = """
import json, os, sys
import ray
import tune.search
from tune.cluster.auth import TOKEN_VARIABLES
from tune.cluster.connect import connected
from tune.spec.sweep_spec import SweepSpec
answers = []
fields = {"dataset": sys.argv[1], "model": sys.argv[2], "num_trials": 1, "space": {"epochs": "1"}, "precision": "fp32"}
for turn in range(2):
    report = tune.search.run(fields, out=f"{sys.argv[3]}/run-{turn}")
    print(report["trials"][0]["state"], file=sys.stderr)
for turn in range(2):
    with connected(SweepSpec(name="s", model="m", dataset="d", num_cpus=1)):
        path = os.environ["RAY_AUTH_TOKEN_PATH"]
        answers.append([ray.get(ray.remote(lambda: 6 * 7).remote()), open(path).read()])
    answers[-1].append({name: os.environ.get(name) for name in TOKEN_VARIABLES})
ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False)  # a notebook's own, with the token of its user
answers.append([ray.get(ray.remote(lambda: 6 * 7).remote()), os.environ.get("RAY_AUTH_MODE")])
with connected(SweepSpec(name="s", model="m", dataset="d", num_cpus=1)) as nodes:
    answers.append(len(nodes))
assert ray.is_initialized()
ray.shutdown()
os.environ["RAY_AUTH_MODE"] = "disabled"
ray._raylet.Config.initialize("")
ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False)
try:
    with connected(SweepSpec(name="s", model="m", dataset="d", num_cpus=1)):
        answers.append("used")
except Exception as error:
    answers.append([type(error).__name__, str(error), ray.is_initialized()])
print(json.dumps(answers))
"""


def test_two_sweeps_in_one_process_then_a_notebooks_own_ray(tmp_path: Path, tiny_model: Path, tiny_data: Path) -> None:
    token = tmp_path / "token"
    token.write_text("d" * 64)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(token), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", TWICE, str(tiny_data), str(tiny_model), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("COMPLETE\nCOMPLETE\n")
    first, second, own, used, refused = json.loads(done.stdout.splitlines()[-1])
    before = dict.fromkeys(["RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_K8S_TOKEN_AUTH"])
    for answer_, _, after in (first, second):
        assert answer_ == 42
        assert after == {**before, "RAY_AUTH_TOKEN_PATH": str(token)}
    assert first[1] != second[1]
    assert own == [42, "token"]
    assert used == 1
    kind, said, still_there = refused
    assert kind == "UserError"
    assert said == (
        "the Ray that this process uses: lets in anybody without a token, to run any code as its user; start it with "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, a file of mode 0600 with a random token"
    )
    assert still_there
