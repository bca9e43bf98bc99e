"""Tell what is missing, unsafe, unpinned or unlimited in a file for `ray up`. It asks nobody and starts nothing.

python -m tune.cluster_file cluster.yaml           on AWS
python -m tune.cluster_file cluster.local.yaml     on machines that you have
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainable.errors import UserError
from tune.cluster.file_reading import ClusterConfig, mapping_at
from tune.cluster.file_rules import RULES, files_missing
from tune.cluster.file_rules_aws import AWS_RULES
from tune.spec.yaml_file import read_yaml


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 if nothing was found, else 2."""
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


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.cluster_file",
        description="Tell what is missing, unsafe, unpinned or without a limit in a file for `ray up`.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="cluster.yaml, say")
    return parser


def rules_broken(config: ClusterConfig) -> dict[str, list[str]]:
    """What breaks each rule and what to do about it, by the rules' names; rules that hold are left out."""
    on_aws = mapping_at(config, "provider").get("type") == "aws"
    rules = {**RULES, **(AWS_RULES if on_aws else {})}
    found = {name: list(rule(config)) for name, rule in rules.items()}
    return {name: messages for name, messages in found.items() if messages}


if __name__ == "__main__":
    sys.exit(main())
