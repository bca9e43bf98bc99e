"""cluster.yaml and cluster.local.yaml are valid for Ray, break no rule, and are refused until they are filled in."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from botocore.exceptions import InvalidRegionError
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import hash_launch_conf, prepare_config, validate_config

from tune.cluster.file_rules import NODE_TOKEN, RULES, files_missing
from tune.cluster.file_rules_aws import AWS_RULES
from tune.cluster_file import main, rules_broken

ROOT = Path(__file__).parent.parent.parent
AWS, LOCAL = "cluster.yaml", "cluster.local.yaml"
FILLED_IN = {
    AWS: {
        "output Region": "eu-central-1",
        "output HeadImage": "ami-0123456789abcdef0",
        "output WorkerImage": "ami-0123456789abcdef1",
        "output SecurityGroup": "sg-0123456789abcdef0",
        "the most that": "0.50",
    },
    LOCAL: {
        "address of": "192.168.0.10",
        "addresses of": "192.168.0.11",
        "name of": "sweeps",
        "path of the private": "~/.ssh/finetune-search",
        "path of the folder": "/srv/sweeps",
    },
}
# For each rule: the file, the smallest change that breaks the rule, and what the message tells the user to do.
BAD = {
    "Everything is filled in": [(AWS, "eu-central-1", "FILL IN", "is to be filled in")],
    "No key, password or token stands in the file": [
        (AWS, "ssh_user: ubuntu", "ssh_user: ubuntu  \nmetadata: {key: AKIAABCDEFGHIJKLMNOP}", "leave it in a file"),
        (AWS, "type: aws", "type: aws\n  aws_credentials: {aws_access_key_id: x}", "`aws configure` keeps them"),
        (LOCAL, "- chmod 600", f"- echo {'ab' * 32} > x; chmod 600", "leave it in a file"),
    ],
    "Every Ray is started with a token": [
        (AWS, "RAY_AUTH_MODE=token ", "", "`export RAY_AUTH_MODE=token"),
        (LOCAL, " RAY_AUTH_TOKEN_PATH=~/.ray/auth_token", "", "RAY_AUTH_TOKEN_PATH="),
        (LOCAL, "worker_start_ray_commands:", "cluster_synced_files:", "worker_start_ray_commands: starts a Ray"),
    ],
    "The token is a file of mode 0600 on every node, or Ray is not started": [
        (AWS, "  ~/.ray/auth_token: ~/.ray/auth_token\n", "", "add `~/.ray/auth_token: ~/.ray/auth_token`"),
        (LOCAL, '[ "$(stat -c %a ~/.ray/auth_token)" = 600 ] ||', "true ||", "stop before `ray start` unless"),
    ],
    "The token stands in no argument and no variable": [
        (AWS, "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=$(cat x) RAY_AUTH_MODE=token", "name its file instead"),
        (LOCAL, "ray start --head", "ray start --head --redis-token=x", "name its file instead"),
    ],
    "The dashboard listens on loopback": [
        (AWS, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "say --dashboard-host=127.0.0.1"),
        (LOCAL, "--dashboard-host=127.0.0.1", "--dashboard-host '::'", "say --dashboard-host=127.0.0.1"),
    ],
    "The head runs no trials": [
        (AWS, "--num-gpus=0", "", "add --num-gpus=0"),
        (AWS, "{CPU: 0, GPU: 0}", "{GPU: 0}", "say `resources: {CPU: 0, GPU: 0}`"),
        (LOCAL, "--num-cpus=0", "--num-cpus=8", "add --num-cpus=0"),
    ],
    "Versions are pinned": [
        (AWS, "-c constraints.txt ", "", "say `pip install -c constraints.txt`"),
        (LOCAL, "install -q", "install -U -q", "without -U"),
        (AWS, "\nsetup_commands:", "\ncluster_synced_files:", "say `pip install -c constraints.txt -e .`"),
    ],
    "Images are pinned": [
        (AWS, "ami-0123456789abcdef0", "latest_dlami", "ImageId must be one image, like ami-"),
        (AWS, "auth:", "docker: {image: 'rayproject/ray:latest'}\nauth:", "NAME@sha256:DIGEST"),
    ],
    "The number of workers is limited": [
        (AWS, "\nmax_workers: 4", "", "say how many workers"),
        (AWS, "    max_workers: 2", "", "on_demand.max_workers: say how many"),
    ],
    "Idle workers go": [
        (AWS, "idle_timeout_minutes: 5", "", "at most 60, but got None"),
        (AWS, "idle_timeout_minutes: 5", "idle_timeout_minutes: 600", "at most 60, but got 600"),
        (AWS, "    max_workers: 2", "    max_workers: 2\n    min_workers: 1", "say 0 or leave it out"),
    ],
    "A spot worker has a highest price": [(AWS, 'MaxPrice: "0.50"', "ValidUntil: x", "MaxPrice what an hour may cost")],
    "The head is not a spot machine": [
        (AWS, "InstanceType: m7i.xlarge", "InstanceMarketOptions: {MarketType: spot}", "leave the option out")
    ],
    "Nothing is left to pay for after `ray down`": [
        (AWS, "  cache_stopped_nodes: false", "", "say `cache_stopped_nodes: false`"),
        (AWS, "DeleteOnTermination: true", "DeleteOnTermination: false", "say `DeleteOnTermination: true`"),
    ],
    "Disks are encrypted": [
        (AWS, "Encrypted: true, ", "", "say `Encrypted: true`"),
        (AWS, "      BlockDeviceMappings:", "      Ignored:", "say `Encrypted: true`"),
    ],
    "Every node is in a security group of yours": [
        (AWS, "SecurityGroupIds:", "Ignored:", "without SecurityGroupIds Ray makes a group")
    ],
    "One address at most may log in": [
        (
            AWS,
            "type: aws",
            "type: aws\n  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 203.0.113.7/32}]}]}",
            "leave it out",
        ),
        (
            AWS,
            "type: aws",
            "type: aws\n  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
            "lets in 0.0.0.0/0; say one address",
        ),
    ],
    "Roles are not Ray's, and not an administrator's": [
        (AWS, "IamInstanceProfile: {Name: finetune-search-head}", "", "name the stack's profile"),
        (AWS, "finetune-search-head}", "ray-autoscaler-v1}", "name the stack's profile"),
    ],
    "Workers can't start machines": [
        (AWS, "Name: finetune-search-worker", "Name: finetune-search-head", "name one that may not")
    ],
    "IMDSv2 is required": [
        (AWS, "HttpTokens: required", "HttpTokens: optional", "say `MetadataOptions: {HttpTokens: required}`")
    ],
}


def filled_in(name: str) -> str:
    """The text of a file after a user has filled it in."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for asked, value in FILLED_IN[name].items():
        text, found = re.subn(rf'"FILL IN[:,] {asked} [^"]*"', f'"{value}"', text)
        assert found == 1, asked
    return text


def load(text: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text)
    return config


@pytest.mark.parametrize("name", [AWS, LOCAL])
def test_ray_takes_the_file(name: str) -> None:
    for text in ((ROOT / name).read_text(encoding="utf-8"), filled_in(name)):
        prepared = prepare_config(load(text))
        validate_config(prepared)  # raises where Ray would refuse it
        assert prepared["cluster_name"] == load(text)["cluster_name"]
        with pytest.raises(jsonschema.ValidationError):
            validate_config({**prepared, "no_such_field": 1})


@pytest.mark.parametrize("name", [AWS, LOCAL])
def test_the_file_breaks_no_rule_once_it_is_filled_in(name: str) -> None:
    assert rules_broken(load(filled_in(name))) == {}


@pytest.mark.parametrize(("name", "asked"), [(AWS, 5), (LOCAL, 5)])
def test_what_is_to_be_filled_in_is_told_once(
    name: str, asked: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([name]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "is to be filled in: " in line]
    assert len(told) == asked == len(FILLED_IN[name])
    for wanted in FILLED_IN[name]:
        assert any(f"is to be filled in: {wanted}" in line for line in told), wanted


def test_ray_itself_refuses_a_file_that_is_not_filled_in() -> None:
    with pytest.raises(InvalidRegionError, match="FILL IN: output Region of the stack"):
        bootstrap_aws(prepare_config(load((ROOT / AWS).read_text(encoding="utf-8"))))
    local = prepare_config(load((ROOT / LOCAL).read_text(encoding="utf-8")))
    with pytest.raises(FileNotFoundError, match="FILL IN: path of the private key here"):
        hash_launch_conf({}, local["auth"])


def test_there_is_a_bad_example_for_every_rule() -> None:
    assert BAD.keys() == {*RULES, *AWS_RULES}
    assert len(BAD) >= 12


@pytest.mark.parametrize(
    ("rule", "name", "good", "bad", "told"),
    [(rule, *example) for rule, examples in BAD.items() for example in examples],
)
def test_a_rule_catches_its_bad_example(rule: str, name: str, good: str, bad: str, told: str) -> None:
    text = filled_in(name)
    assert good in text
    broken = rules_broken(load(text.replace(good, bad)))
    assert told in "\n".join(broken[rule])


def test_the_rules_are_written_down() -> None:
    text = " ".join((ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").split())
    for rule in (*RULES, *AWS_RULES):
        assert rule in text, rule


def test_it_takes_ten_commands() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").replace("\\\n", "")
    on_aws, _, local, *_ = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    assert len(on_aws.splitlines()) == 10
    assert len(local.splitlines()) <= 10


def test_a_file_of_anything_is_told_not_a_traceback() -> None:
    strange: list[Any] = [None, 1, "x", [], [1], {"x": 1}, {"node_config": []}, {"head": {"node_config": 1}}]
    keys = ["provider", "auth", "available_node_types", "file_mounts", "docker", "head_start_ray_commands"]
    for value in strange:
        for key in keys:
            told = rules_broken({"provider": {"type": "aws"}, key: value})
            assert all(isinstance(problem, str) for problems in told.values() for problem in problems)
            assert told, f"{key}: {value!r} breaks no rule"
            assert all(isinstance(problem, str) for problem in files_missing({key: value}))


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    config = load(filled_in(LOCAL))
    no_token, no_key = files_missing(config)
    assert no_token.startswith(f"file_mounts: there is no {NODE_TOKEN} here; make it: (umask 077;")
    assert no_key.startswith("auth.ssh_private_key: there is no ~/.ssh/finetune-search here")
    subprocess.run(["bash", "-c", no_token.partition("make it: ")[2]], check=True)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "finetune-search").touch(mode=0o644)
    (readable,) = files_missing(config)
    assert (
        readable == "auth.ssh_private_key: others may read ~/.ssh/finetune-search; `chmod 600 ~/.ssh/finetune-search`"
    )
    (tmp_path / ".ssh" / "finetune-search").chmod(0o600)
    assert files_missing(config) == []
    assert re.fullmatch("[0-9a-f]{64}\n", (tmp_path / ".ray" / "auth_token").read_text())
    monkeypatch.chdir(tmp_path)
    assert len(files_missing(config)) == 6


# The start commands are run by bash, as `ray up` runs them, but without ssh


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's home folder, with programs that log how they are called."""
    programs = tmp_path / "finetune-search" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("ray", "python", "nvidia-cuda-mps-control"):
        noted = (
            f"{name} $* mode=$RAY_AUTH_MODE path=$RAY_AUTH_TOKEN_PATH v2=$RAY_enable_autoscaler_v2 $([ -t 0 ] || cat)"
        )
        (programs / name).write_text(
            f'#!/bin/bash\necho "{noted}" >> ~/calls\nexit "$(cat ~/{name}.rc 2>&- || echo 0)"\n'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def start(name: str, kind: str) -> tuple[int, str]:
    """Run the commands that start a head or a worker; returns their exit code and output."""
    for command in load(filled_in(name))[f"{kind}_start_ray_commands"]:
        done = subprocess.run(
            ["bash", "-c", f"export RAY_HEAD_IP=10.0.0.1; ({command})"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            break
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["head", "worker"])
@pytest.mark.parametrize("name", [AWS, LOCAL])
def test_ray_starts_with_a_private_token_only(name: str, kind: str, home: Path) -> None:
    sentence = "Ray is not started: ~/.ray/auth_token is missing, empty or not of mode 0600 on "
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    for make in (lambda: None, token.touch, lambda: token.write_text("x"), lambda: token.chmod(0o640)):
        make()
        code, told = start(name, kind)
        assert (code, sentence in told) == (1, True)
        assert "ray start" not in (home / "calls").read_text()
    token.chmod(0o600)
    assert start(name, kind) == (0, "")
    (started,) = [line for line in (home / "calls").read_text().splitlines() if line.startswith("ray start")]
    assert f" mode=token path={token} " in started
    assert f"v2={'0' if (name, kind) == (LOCAL, 'head') else ''}" in started
    if kind == "head":
        assert "--num-cpus=0 --num-gpus=0 --dashboard-host=127.0.0.1" in started
    else:
        assert "ray start --address=10.0.0.1:6379 mode" in started


@pytest.mark.parametrize("name", [AWS, LOCAL])
@pytest.mark.parametrize(("daemon", "gpus", "ended"), [(0, 0, False), (0, 1, True), (1, 0, False)])
def test_the_multi_process_service_stays_where_gpus_answer(
    name: str, daemon: int, gpus: int, ended: bool, home: Path
) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("x")
    (home / ".ray" / "auth_token").chmod(0o600)
    (home / "nvidia-cuda-mps-control.rc").write_text(str(daemon))
    (home / "python.rc").write_text(str(gpus))
    assert start(name, "worker")[0] == 0
    calls = (home / "calls").read_text()
    assert "nvidia-cuda-mps-control -d" in calls
    assert ("python -c" in calls) == (daemon == 0)
    assert (" quit\n" in calls) == ended
    assert "ray start --address" in calls.splitlines()[-1]


@pytest.mark.parametrize("name", [AWS, LOCAL])
def test_nodes_get_what_the_project_is_made_of(name: str) -> None:
    mounts = load(filled_in(name))["file_mounts"]
    assert {"tune", "trainable", "pyproject.toml", "constraints.txt"} <= set(mounts.values())
    for there, here in mounts.items():
        assert here == NODE_TOKEN or (ROOT / here).exists()
        assert there == (NODE_TOKEN if here == NODE_TOKEN else f"~/finetune-search/{here}")
