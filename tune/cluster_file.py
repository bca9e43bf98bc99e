"""What is still missing, unsafe, unpinned or without a limit in a file for `ray up`; asks nobody, starts nothing.

python -m tune.cluster_file cluster.yaml           on AWS
python -m tune.cluster_file cluster.local.yaml     on machines that you have
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from tune.spec.sweep_spec import read_yaml

TO_FILL_IN = "FILL IN"
LONGEST_IDLE_MIN = 60
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

Config = Mapping[str, Any]
Found = Iterator[str]


# Every provider


def _filled_in(config: Config) -> Found:
    first = {text: where for where, text in reversed([*_texts(config)]) if TO_FILL_IN in text}  # aliases repeat it
    for text, where in reversed(first.items()):
        yield f"{where} is to be filled in: {text.partition(TO_FILL_IN)[2].strip(':, ')}"


def _no_secrets(config: Config) -> Found:
    for where, text in _texts(config):
        for what, pattern in SECRETS.items():
            if re.search(pattern, text):
                yield f"{where} holds {what}; leave it in a file of its own, this one is copied and logged"
    if _mapping(config, "provider", "aws_credentials"):
        yield "provider.aws_credentials: leave out keys; `aws configure` keeps them here, nodes have a role"


def _token_is_asked_for(config: Config) -> Found:
    for name, command in _starts(config):
        before = command.partition("ray start")[0]
        if "RAY_AUTH_MODE=token" not in before or "RAY_AUTH_TOKEN_PATH=" not in before:
            yield (
                f"{name}: starts a Ray that lets in anybody; before `ray start` say "
                f"`export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={NODE_TOKEN};`"
            )


def _token_is_a_private_file(config: Config) -> Found:
    if NODE_TOKEN not in _mapping(config, "file_mounts"):
        yield f"file_mounts: copies no token to the nodes; add `{NODE_TOKEN}: {NODE_TOKEN}`, after {MAKE_TOKEN}"
    for name, command in _starts(config):
        if not re.search(r"stat -c %a.*600", command.partition("ray start")[0]):
            yield (
                f"{name}: starts Ray whatever the token's file is; stop before `ray start` unless "
                f'`[ "$(stat -c %a {NODE_TOKEN})" = 600 ]`'
            )


def _token_is_shown_nowhere(config: Config) -> Found:
    for where, text in _texts(config):
        if re.search(r"RAY_AUTH_TOKEN=|--[a-z-]*token[= ]|(\$\(|`)\s*(cat|<)[^)`]*token", text):
            yield f"{where}: a token in an argument or a variable is seen by others and logged; name its file instead"


def _dashboard_is_on_loopback(config: Config) -> Found:
    for name, command in _starts(config):
        for host in re.findall(r"--dashboard-host[= ]+(\S+)", command):
            if host.strip("'\"") not in LOOPBACK:
                yield f"{name}: shows the dashboard on {host}; say --dashboard-host=127.0.0.1 and use `ray dashboard`"


def _head_runs_no_trials(config: Config) -> Found:
    for name, command in _starts(config):
        given = [flag for flag in ("--num-cpus=0", "--num-gpus=0") if flag not in command]
        if name.startswith("head") and given:
            yield f"{name}: trials would run beside the driver; add {' '.join(given)} to `ray start --head`"
    head = _mapping(config, "available_node_types", str(config.get("head_node_type")))
    offered = _mapping(head, "resources")
    if head and any(offered.get(kind) != 0 for kind in ("CPU", "GPU")):
        yield "the head's node type: trials would be planned on it; say `resources: {CPU: 0, GPU: 0}`"


def _versions_are_pinned(config: Config) -> Found:
    for where, text in _texts({name: part for name, part in config.items() if name.endswith("_commands")}):
        if re.search(r"\b(pip|uv)\b.*\binstall\b", text):
            pinned = re.search(r"\s(-c|--constraint)[= ]\s*\S*constraints\.txt", text)
            if not pinned or re.search(r"\s(-U|--upgrade)\b", text):
                yield f"{where}: installs whatever is newest that day; say `pip install -c constraints.txt`, without -U"
    if _mapping(config, "provider").get("type") == "aws" and "setup_commands" not in config:
        yield "setup_commands: Ray's own install a nightly build; say `pip install -c constraints.txt -e .`, or []"


# AWS


def _images_are_pinned(config: Config) -> Found:
    for name, node in _nodes(config):
        image = str(node.get("ImageId", ""))
        if not re.fullmatch(r"ami-[0-9a-f]{8,17}", image) and TO_FILL_IN not in image:
            yield f"{name}: ImageId must be one image, like ami-0123456789abcdef0, but got {image or 'none'!r}"
    for key, image in _mapping(config, "docker").items():
        if key.endswith("image") and "@sha256:" not in str(image):
            yield f"docker.{key}: pin the image by its digest, NAME@sha256:DIGEST, but got {image!r}"


def _workers_are_limited(config: Config) -> Found:
    limited = {"max_workers": config, **{f"{name}.max_workers": kind for name, kind in _worker_types(config)}}
    for name, holder in limited.items():
        if not isinstance(holder.get("max_workers"), int):
            yield f"{name}: say how many workers there may be at most; nothing else limits what they cost"


def _idle_workers_go(config: Config) -> Found:
    minutes = config.get("idle_timeout_minutes")
    if not isinstance(minutes, int | float) or not 0 < minutes <= LONGEST_IDLE_MIN:
        yield (
            f"idle_timeout_minutes: say after how many minutes without work a worker goes, at most {LONGEST_IDLE_MIN}, "
            f"but got {minutes}"
        )
    for name, kind in _worker_types(config):
        if kind.get("min_workers", 0) != 0:
            yield f"{name}.min_workers: {kind['min_workers']} workers would cost without work; say 0 or leave it out"


def _spot_has_a_price(config: Config) -> Found:
    for name, node in _nodes(config):
        price = str(_mapping(node, "InstanceMarketOptions", "SpotOptions").get("MaxPrice", ""))
        if "InstanceMarketOptions" in node and not re.fullmatch(r"\d+(\.\d+)?|FILL IN.*", price):
            yield (
                f"{name}: say in InstanceMarketOptions.SpotOptions.MaxPrice what an hour may cost at most, in dollars, "
                f"like '0.50', but got {price or 'nothing'}"
            )


def _head_is_not_spot(config: Config) -> Found:
    for name, node in _nodes(config):
        if name == config.get("head_node_type") and "InstanceMarketOptions" in node:
            yield f"{name}: AWS takes spot machines away, and the sweep's driver with this one; leave the option out"


def _nothing_is_left_to_pay(config: Config) -> Found:
    if _mapping(config, "provider").get("cache_stopped_nodes") is not False:
        yield "provider: `ray down` would keep stopped machines, whose disks cost; say `cache_stopped_nodes: false`"
    for name, disk in _disks(config):
        if disk.get("DeleteOnTermination") is not True:
            yield f"{name}: its disk would outlive it and cost; say `DeleteOnTermination: true`"


def _disks_are_encrypted(config: Config) -> Found:
    for name, disk in _disks(config):
        if disk.get("Encrypted") is not True:
            yield f"{name}: its disk is not encrypted; say `Encrypted: true` in BlockDeviceMappings"


def _nodes_are_in_a_group(config: Config) -> Found:
    for name, node in _nodes(config):
        if not node.get("SecurityGroupIds"):
            yield f"{name}: without SecurityGroupIds Ray makes a group that lets SSH in from everywhere; name one"


def _one_address_may_log_in(config: Config) -> Found:
    if _mapping(config, "provider", "security_group"):
        yield "provider.security_group: Ray adds SSH from everywhere to it; leave it out and name SecurityGroupIds"
    for where, text in _texts(config):
        if where.rpartition(".")[2] in ("CidrIp", "CidrIpv6") and _addresses(text) != 1:
            yield f"{where}: lets in {text}; say one address, like 203.0.113.7/32"


def _roles_are_least(config: Config) -> Found:
    for name, node in _nodes(config):
        role = _role(node)
        if not role:
            yield f"{name}: without IamInstanceProfile Ray gives the head all of EC2 and S3; name the stack's profile"
        elif re.search(r"ray-autoscaler|admin|full", role, re.IGNORECASE):
            yield f"{name}: IamInstanceProfile {role} may do far more than a node needs; name the stack's profile"


def _workers_start_no_machines(config: Config) -> Found:
    roles = {name: _role(node) for name, node in _nodes(config)}
    head = roles.pop(str(config.get("head_node_type")), "")
    for name, role in roles.items():
        if role and role == head:
            yield f"{name}: has the head's profile {role}, which may start machines; name one that may not"


def _metadata_needs_a_session(config: Config) -> Found:
    for name, node in _nodes(config):
        if _mapping(node, "MetadataOptions").get("HttpTokens") != "required":
            yield f"{name}: IMDSv1 hands its role to any request; say `MetadataOptions: {{HttpTokens: required}}`"


EVERYWHERE: dict[str, Callable[[Config], Found]] = {
    "Everything is filled in": _filled_in,
    "No key, password or token stands in the file": _no_secrets,
    "Every Ray is started with a token": _token_is_asked_for,
    "The token is a file of mode 0600 on every node, or Ray is not started": _token_is_a_private_file,
    "The token stands in no argument and no variable": _token_is_shown_nowhere,
    "The dashboard listens on loopback": _dashboard_is_on_loopback,
    "The head runs no trials": _head_runs_no_trials,
    "Versions are pinned": _versions_are_pinned,
}
ON_AWS: dict[str, Callable[[Config], Found]] = {
    "Images are pinned": _images_are_pinned,
    "The number of workers is limited": _workers_are_limited,
    "Idle workers go": _idle_workers_go,
    "A spot worker has a highest price": _spot_has_a_price,
    "The head is not a spot machine": _head_is_not_spot,
    "Nothing is left to pay for after `ray down`": _nothing_is_left_to_pay,
    "Disks are encrypted": _disks_are_encrypted,
    "Every node is in a security group of yours": _nodes_are_in_a_group,
    "One address at most may log in": _one_address_may_log_in,
    "Roles are not Ray's, and not an administrator's": _roles_are_least,
    "Workers can't start machines": _workers_start_no_machines,
    "IMDSv2 is required": _metadata_needs_a_session,
}


def rules_broken(config: Config) -> dict[str, list[str]]:
    """By rule, what breaks it in a file for `ray up`, and what to do."""
    on_aws = _mapping(config, "provider").get("type") == "aws"
    found = {name: list(rule(config)) for name, rule in {**EVERYWHERE, **(ON_AWS if on_aws else {})}.items()}
    return {name: messages for name, messages in found.items() if messages}


def files_missing(config: Config) -> list[str]:
    """What the file names here and `ray up` would miss: what is copied to the nodes, and the key."""
    problems = []
    named = [("file_mounts", path) for path in _mapping(config, "file_mounts").values()]
    named += [("auth.ssh_private_key", path) for path in [_mapping(config, "auth").get("ssh_private_key")] if path]
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


# Reading what may be anything


def _mapping(config: Config, *keys: str) -> Config:
    found: Any = config
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in it, with where it stands, like provider.worker_ips.0."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping | list):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            yield from _texts(part, f"{where}.{key}".lstrip("."))


def _starts(config: Config) -> Iterator[tuple[str, str]]:
    """The commands that start Ray, by name; Ray's own defaults, which know no token, where there are none."""
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = config.get(name)
        starting = [str(text) for text in commands if "ray start" in str(text)] if isinstance(commands, list) else []
        yield from ((name, text) for text in starting or ["ray start"])


def _node_types(config: Config) -> Iterator[tuple[str, Config]]:
    kinds = _mapping(config, "available_node_types")
    return ((str(name), _mapping(kinds, name)) for name in kinds)


def _worker_types(config: Config) -> Iterator[tuple[str, Config]]:
    return ((name, kind) for name, kind in _node_types(config) if name != config.get("head_node_type"))


def _nodes(config: Config) -> Iterator[tuple[str, Config]]:
    return ((name, _mapping(kind, "node_config")) for name, kind in _node_types(config))


def _disks(config: Config) -> Iterator[tuple[str, Config]]:
    """Every disk, by node type; one that nothing is said of where a type has none."""
    for name, node in _nodes(config):
        mapped = node.get("BlockDeviceMappings")
        for disk in mapped if isinstance(mapped, list) and mapped else [{}]:
            yield name, _mapping({"disk": disk}, "disk", "Ebs")


def _role(node: Config) -> str:
    profile = _mapping(node, "IamInstanceProfile")
    return str(profile.get("Name") or profile.get("Arn") or "")


def _addresses(text: str) -> int:
    try:
        return ipaddress.ip_network(text, strict=False).num_addresses
    except ValueError:
        return 0


# The command line


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.cluster_file",
        description="Tell what is missing, unsafe, unpinned or without a limit in a file for `ray up`.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="cluster.yaml, say")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 where nothing was found, else 2."""
    path = Path(make_parser().parse_args(argv).file)
    problems: list[str] = []
    config = read_yaml(path, problems)
    if config is not None:
        problems += [message for messages in rules_broken(config).values() for message in messages]
        problems += files_missing(config)
    if problems:
        error = UserError(problems)
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{path}: filled in, safe and limited as far as a file can tell; next: ray up {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
