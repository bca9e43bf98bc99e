"""Rules for every file for `ray up`, whatever the provider. Each rule finds sentences that say what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tune.cluster.file_reading import ClusterConfig, mapping_at, ray_starts, texts_in

TO_FILL_IN = "FILL IN"
NODE_TOKEN = "~/.ray/auth_token"
MAKE_TOKEN = (
    """(umask 077; mkdir -p ~/.ray; python -c "import secrets; print(secrets.token_hex(32))" > ~/.ray/auth_token)"""
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECRETS = {
    "an AWS key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{20,}",
    "what looks like a token": r"\b[0-9a-fA-F]{64}\b",
}

Problems = Iterator[str]
FileRule = Callable[[ClusterConfig], Problems]


def _filled_in(config: ClusterConfig) -> Problems:
    # A text that a YAML alias repeats is told once, where it stands first.
    first = {text: where for where, text in reversed([*texts_in(config)]) if TO_FILL_IN in text}
    for text, where in reversed(first.items()):
        yield f"{where} is to be filled in: {text.partition(TO_FILL_IN)[2].strip(':, ')}"


def _no_secrets(config: ClusterConfig) -> Problems:
    for where, text in texts_in(config):
        for what, pattern in SECRETS.items():
            if re.search(pattern, text):
                yield f"{where} holds {what}; leave it in a file of its own, this one is copied and logged"
    if mapping_at(config, "provider", "aws_credentials"):
        yield "provider.aws_credentials: leave out keys; `aws configure` keeps them here, nodes have a role"


def _token_is_asked_for(config: ClusterConfig) -> Problems:
    for name, command in ray_starts(config):
        before = command.partition("ray start")[0]
        if "RAY_AUTH_MODE=token" not in before or "RAY_AUTH_TOKEN_PATH=" not in before:
            yield (
                f"{name}: starts a Ray that lets in anybody; before `ray start` say "
                f"`export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={NODE_TOKEN};`"
            )


def _token_is_a_private_file(config: ClusterConfig) -> Problems:
    if NODE_TOKEN not in mapping_at(config, "file_mounts"):
        yield f"file_mounts: copies no token to the nodes; add `{NODE_TOKEN}: {NODE_TOKEN}`, after {MAKE_TOKEN}"
    for name, command in ray_starts(config):
        if not re.search(r"stat -c %a.*600", command.partition("ray start")[0]):
            yield (
                f"{name}: starts Ray even if the token's file is not private; stop before `ray start` unless "
                f'`[ "$(stat -c %a {NODE_TOKEN})" = 600 ]`'
            )


def _token_is_shown_nowhere(config: ClusterConfig) -> Problems:
    for where, text in texts_in(config):
        if re.search(r"RAY_AUTH_TOKEN=|--[a-z-]*token[= ]|(\$\(|`)\s*(cat|<)[^)`]*token", text):
            yield f"{where}: others see a token in an argument or a variable, and logs keep it; name its file instead"


def _dashboard_is_on_loopback(config: ClusterConfig) -> Problems:
    for name, command in ray_starts(config):
        for host in re.findall(r"--dashboard-host[= ]+(\S+)", command):
            if host.strip("'\"") not in LOOPBACK:
                yield f"{name}: shows the dashboard on {host}; say --dashboard-host=127.0.0.1 and use `ray dashboard`"


def _head_runs_no_trials(config: ClusterConfig) -> Problems:
    for name, command in ray_starts(config):
        given = [flag for flag in ("--num-cpus=0", "--num-gpus=0") if flag not in command]
        if name.startswith("head") and given:
            yield f"{name}: trials would run on the driver's machine; add {' '.join(given)} to `ray start --head`"
    head = mapping_at(config, "available_node_types", str(config.get("head_node_type")))
    offered = mapping_at(head, "resources")
    if head and any(offered.get(kind) != 0 for kind in ("CPU", "GPU")):
        yield "the head's node type: trials would be planned on it; say `resources: {CPU: 0, GPU: 0}`"


def _versions_are_pinned(config: ClusterConfig) -> Problems:
    for where, text in texts_in({name: part for name, part in config.items() if name.endswith("_commands")}):
        if re.search(r"\b(pip|uv)\b.*\binstall\b", text):
            pinned = re.search(r"\s(-c|--constraint)[= ]\s*\S*constraints\.txt", text)
            if not pinned or re.search(r"\s(-U|--upgrade)\b", text):
                yield f"{where}: installs whatever is newest that day; say `pip install -c constraints.txt`, without -U"
    if mapping_at(config, "provider").get("type") == "aws" and "setup_commands" not in config:
        yield "setup_commands: else Ray installs a nightly build; say `pip install -c constraints.txt -e .`, or []"


RULES: dict[str, FileRule] = {
    "Everything is filled in": _filled_in,
    "No key, password or token stands in the file": _no_secrets,
    "Every Ray is started with a token": _token_is_asked_for,
    "The token is a file of mode 0600 on every node, or Ray is not started": _token_is_a_private_file,
    "The token stands in no argument and no variable": _token_is_shown_nowhere,
    "The dashboard listens on loopback": _dashboard_is_on_loopback,
    "The head runs no trials": _head_runs_no_trials,
    "Versions are pinned": _versions_are_pinned,
}


def files_missing(config: ClusterConfig) -> list[str]:
    """Files on this machine that `ray up` would miss: the SSH key, and the files that are copied to the nodes."""
    problems = []
    named = [("file_mounts", path) for path in mapping_at(config, "file_mounts").values()]
    named += [("auth.ssh_private_key", path) for path in [mapping_at(config, "auth").get("ssh_private_key")] if path]
    for where, path in named:
        here = Path(os.path.expanduser(str(path)))
        if TO_FILL_IN in str(path):
            continue
        if not here.exists():
            todo = f"make it: {MAKE_TOKEN}" if path == NODE_TOKEN else "run this from the project's folder"
            problems.append(f"{where}: there is no {path} here; {todo}")
        elif (path == NODE_TOKEN or where.startswith("auth")) and here.stat().st_mode & 0o077:
            problems.append(f"{where}: others may read {path}; `chmod 600 {path}`")
    return problems
