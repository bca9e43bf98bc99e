"""A stand-in for the Hugging Face hub: local folders served over HTTP, and small repositories to serve.

    write_tiny_model(tmp_path / "bert"), write_tiny_glue(tmp_path / "glue")
    with Hub({("model", "google-bert/bert-base-uncased"): tmp_path / "bert"}) as hub:
        subprocess.run(command, env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")})
    assert not any(path.endswith(".bin") for path in hub.paths("GET"))

huggingface_hub and datasets read HF_ENDPOINT when they are imported, hence the subprocess.

It also takes uploads, from whoever sends the token TOKEN and has HF_HUB_DISABLE_XET set: `hub.uploaded` holds them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

LEGACY = {"bert-base-uncased": "google-bert/bert-base-uncased", "glue": "nyu-mll/glue"}
API = re.compile(r"/api/(models|datasets)/(.+?)(?:/(revision|tree|paths-info)/([^/]+)/?(.*))?")
TOKEN, ACCOUNT, ORGANIZATION = "hf_loopback", "ann", "lab"
UPLOAD = re.compile(r"/api/models/(.+)/(preupload|commit)/main")
LFS_BATCH = re.compile(r"/(.+)\.git/info/lfs/objects/batch")
LFS_OBJECT = re.compile(r"/lfs/([0-9a-f]{64})")
RESOLVE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")


class Request(NamedTuple):
    """A request as it was answered; `path` carries no query."""

    method: str
    path: str
    status: int


class Repo:
    """The files of a folder as one commit: ids are hashes of the contents, read once."""

    def __init__(self, name: str, folder: Path, gated: bool) -> None:
        self.name, self.gated = name, gated
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
        self.ids = {path: hashlib.sha1(content).hexdigest() for path, content in self.files.items()}
        self.commit = hashlib.sha1(json.dumps(self.ids).encode()).hexdigest()

    def about(self) -> dict[str, object]:
        """What the hub says of the repository itself."""
        siblings = [{"rfilename": file} for file in self.files]
        about = {"_id": "0", "id": self.name, "sha": self.commit, "private": False, "disabled": False}
        return about | {"gated": "auto" if self.gated else False, "tags": [], "siblings": siblings}

    def entry(self, path: str) -> dict[str, object]:
        """A file or folder as the tree endpoint describes it."""
        if path in self.files:
            return {"type": "file", "oid": self.ids[path], "size": len(self.files[path]), "path": path}
        return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}

    def below(self, top: str, recursive: bool) -> list[dict[str, object]]:
        """The entries under the folder `top` ("" is the root); empty where there is no such folder."""
        prefix, found = f"{top}/" if top else "", set()
        for path in self.files:
            parts = path.removeprefix(prefix).split("/") if path.startswith(prefix) else []
            found |= {prefix + "/".join(parts[: depth + 1]) for depth in range(len(parts))}
        chosen = [path for path in found if recursive or "/" not in path.removeprefix(prefix)]
        return [self.entry(path) for path in sorted(chosen)]


class Hub:
    """Serves `{("model" or "dataset", "namespace/name"): folder}` on a free port of 127.0.0.1.

    Files of a repository whose name is in `gated` are refused, as to a visitor without a token.
    """

    def __init__(self, repos: Mapping[tuple[str, str], Path], gated: Collection[str] = ()) -> None:
        self.repos = {key: Repo(key[1], folder, key[1] in gated) for key, folder in repos.items()}
        self.requests: list[Request] = []
        self.uploaded: dict[str, dict[str, bytes]] = {}
        """The files of each repository that was made here, by names."""
        self.private: dict[str, bool] = {}
        self.large_files: dict[str, bytes] = {}
        """What was sent as LFS objects, by SHA-256."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def paths(self, method: str) -> list[str]:
        """The paths of the requests made with a method, in order."""
        return [request.path for request in self.requests if request.method == method]


class _Handler(BaseHTTPRequestHandler):
    """One connection per request (HTTP/1.0), so that nothing is answered once the hub is closed."""

    hub: Hub

    def do_GET(self) -> None:
        """Answer any of the methods; `_send` leaves the body out for HEAD."""
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._upload(path, sent):
            return
        body = parse_qs(sent.decode())
        if match := API.fullmatch(path):
            kind, name, endpoint, revision, rest = match.groups()
            if repo := self._find(kind[:-1], name, revision):
                self._api(repo, endpoint, rest or "", query | body)
        elif match := RESOLVE.fullmatch(path):
            prefix, name, revision, file = match.groups()
            repo = self._find("dataset" if prefix else "model", name, revision)
            if repo and repo.gated:
                self._error(401, "GatedRepo", f"Access to {name} is restricted.", repo.commit)
            elif repo and file not in repo.files:
                self._error(404, "EntryNotFound", "Entry not found", repo.commit)
            elif repo:
                self._file(repo, file)
        else:
            self._error(404, "", "Not found")

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - http.server's names

    def _upload(self, path: str, sent: bytes) -> bool:
        """Answer a request of those that an upload consists of; False if it is none."""
        hub = self.hub
        about = re.fullmatch(r"/api/models/(.+)", path)
        if match := LFS_OBJECT.fullmatch(path):  # the address that the batch gave; it needs no token
            assert hashlib.sha256(sent).hexdigest() == match[1]
            hub.large_files[match[1]] = sent
            self._json(200, {})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return False
        elif path == "/api/whoami-v2":
            self._json(200, {"type": "user", "name": ACCOUNT, "orgs": [{"name": ORGANIZATION}]})
        elif path == "/api/repos/create":
            wanted = json.loads(sent)
            name = f"{wanted['organization'] or ACCOUNT}/{wanted['name']}"
            status = 409 if name in hub.uploaded else 200
            if status == 200:
                hub.uploaded[name], hub.private[name] = {}, wanted.get("visibility") == "private"
            self._json(status, {"url": f"{hub.url}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif match := UPLOAD.fullmatch(path):
            (self._upload_modes if match[2] == "preupload" else self._commit)(match[1], sent)
        elif match := LFS_BATCH.fullmatch(path):
            objects = [
                {**each, "actions": {"upload": self._place(each["oid"])}} for each in json.loads(sent)["objects"]
            ]
            self._json(200, {"transfer": "basic", "objects": objects})
        elif about and about[1] in hub.uploaded:
            self._json(200, {"_id": "0", "id": about[1], "private": hub.private[about[1]], "tags": [], "siblings": []})
        else:
            return False
        return True

    def _upload_modes(self, repo: str, sent: bytes) -> None:
        files = [
            {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            for file in json.loads(sent)["files"]
            for mode in ["lfs" if file["path"].endswith(".safetensors") else "regular"]
        ]
        self._json(200, {"files": files})

    def _commit(self, repo: str, sent: bytes) -> None:
        for line in sent.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                self.hub.uploaded[repo][value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.hub.uploaded[repo][value["path"]] = self.hub.large_files[value["oid"]]
        url = f"{self.hub.url}/{repo}/commit/{'0' * 40}"
        self._json(200, {"success": True, "commitOid": "0" * 40, "commitUrl": url})

    def _place(self, sha256: str) -> dict[str, object]:
        return {"href": f"{self.hub.url}/lfs/{sha256}"}

    def _json(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _find(self, kind: str, name: str, revision: str | None) -> Repo | None:
        """The repository asked for; None once a redirect or an error has been sent instead."""
        repo = self.hub.repos.get((kind, name))
        if repo is None and (kind, LEGACY.get(name, "")) in self.hub.repos:
            self._send(307, b"", {"Location": self.path.replace(f"/{name}", f"/{LEGACY[name]}", 1)})
        elif repo is None and "Authorization" in self.headers:
            self._error(404, "RepoNotFound", "Repository not found")
        elif repo is None:  # the hub does not tell strangers whether a repository is missing or private
            self._error(401, "RepoNotFound", "Invalid username or password.")
        elif revision not in (None, "main", repo.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def _api(self, repo: Repo, endpoint: str | None, folder: str, query: dict[str, list[str]]) -> None:
        value: object = repo.about()
        if endpoint == "tree":
            value = repo.below(folder, recursive=query.get("recursive") in (["true"], ["True"], ["1"]))
        elif endpoint == "paths-info":
            paths = query.get("paths", [])
            value = [repo.entry(path) for path in paths if path in repo.files or repo.below(path, False)]
        if value:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})
        else:
            self._error(404, "EntryNotFound", "Entry not found", repo.commit)

    def _file(self, repo: Repo, file: str) -> None:
        content, last = repo.files[file], len(repo.files[file]) - 1
        headers = {"ETag": f'"{repo.ids[file]}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or last), last)
            headers["Content-Range"] = f"bytes {start}-{end}/{last + 1}" if start <= end else f"bytes */{last + 1}"
            self._send(206 if start <= end else 416, content[start : end + 1], headers)
        else:
            self._send(200, content, headers)

    def _error(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {key: value for key, value in headers.items() if value})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.hub.requests.append(Request(self.command, unquote(urlsplit(self.path).path), status))
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing on stderr: `Hub.requests` is the log."""


THINGS, PLACES = ["bank", "dog", "market", "team"], ["city", "house", "river"]
SHOWS, VERBS = ["film", "story", "cast", "scene"], ["rose", "fell", "won", "lost"]
TONES = [["bad", "dull", "cold", "poor"], ["good", "great", "bright", "warm"]]
ENDINGS = ["never {} , it sold shares instead .", "also {} again .", "is in it today ."]
HALVES = ["matched", "mismatched"]
OTHERS = ["the", "in", "is", "it", "today", "never", "sold", "shares", "instead", "also", "again", ".", ","]
WORDS = [*THINGS, *PLACES, *SHOWS, *VERBS, *TONES[0], *TONES[1], *OTHERS]


def write_tiny_model(folder: Path, seed: int = 0) -> None:
    """Write a BERT of 2 layers as bert-base-uncased lies on the hub: pretraining heads, no classifier."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForPreTraining

    letters = "abcdefghijklmnopqrstuvwxyz0123456789'-"
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = [*specials, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {word: number for number, word in enumerate(vocab)}
    BertWordPieceTokenizer(vocab=ids, lowercase=True).save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 128}\n')
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocab), hidden_size=32, max_position_embeddings=128, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForPreTraining(config)
    model.save_pretrained(folder)
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text.replace("BertForPreTraining", "BertForMaskedLM"), encoding="utf-8")


PAIR = ["sentence1", "sentence2"]
GLUE = {  # text columns and classes of its classification tasks, as the data set's card has them
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "mrpc": (PAIR, ["not_equivalent", "equivalent"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "rte": (PAIR, ["entailment", "not_entailment"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "wnli": (PAIR, ["not_entailment", "entailment"]),
}


def write_tiny_glue(folder: Path, rows: tuple[int, int, int] = (64, 20, 26)) -> None:
    """Write nyu-mll/glue as on the hub, with its card. Test labels are hidden (-1), but for mrpc's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    infos, configs = [], []
    for config, (names, classes) in GLUE.items():
        splits, files, first = [], [], 0
        for split, size in _splits(config, rows).items():
            labels = [min(row % 3, len(classes) - 1) for row in range(size)]
            columns: dict[str, Any] = dict(zip(names, _texts(len(names), labels, first), strict=True))
            if (config, split) == ("qqp", "train"):
                columns["question2"][-1] = ""  # the hub has two such rows
            columns["label"] = [-1] * size if split.startswith("test") and config != "mrpc" else labels
            columns["idx"] = pa.array(range(size), pa.int32())
            (folder / config).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), folder / config / f"{split}-00000-of-00001.parquet")
            splits.append({"name": split, "num_bytes": 1, "num_examples": size})
            files.append({"split": split, "path": f"{config}/{split}-*"})
            first += size
        features: list[dict[str, object]] = [{"name": name, "dtype": "string"} for name in names]
        features += [{"name": "label", "dtype": {"class_label": {"names": dict(enumerate(classes))}}}]
        features += [{"name": "idx", "dtype": "int32"}]
        infos.append({"config_name": config, "features": features, "splits": splits})
        configs.append({"config_name": config, "data_files": sorted(files, key=str)})
    card = json.dumps({"dataset_info": infos, "configs": configs}, indent=1)  # which is YAML too
    (folder / "README.md").write_text(f"---\n{card}\n---\n\n# GLUE\n", encoding="utf-8")


def _splits(config: str, rows: tuple[int, int, int]) -> dict[str, int]:
    """Rows by split; mnli has two halves of validation and test, from the training genres and from others."""
    train, validation, test = rows
    if config != "mnli":
        return {"train": train, "validation": validation, "test": test}
    halves = {f"{name}_{half}": size for name, size in (("validation", validation), ("test", test)) for half in HALVES}
    return {"train": train, **halves}


def _texts(columns: int, labels: list[int], first: int) -> list[list[str]]:
    """One text column or a pair, no two rows alike; words occur with one label only, so that it can be learnt."""
    rng = random.Random(first)
    rows = []
    for number, label in enumerate(labels, first):
        place, thing, verb = rng.choice(PLACES), rng.choice(THINGS), rng.choice(VERBS)
        if columns == 1:
            rows.append([f"the {rng.choice(SHOWS)} {number} in the {place} is {rng.choice(TONES[label])}"])
        else:
            ending = ENDINGS[label].format(verb)
            rows.append([f"the {thing} {number} in the {place} {verb} .", f"the {thing} {number} {ending}"])
    return [list(column) for column in zip(*rows, strict=True)]
