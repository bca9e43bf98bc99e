"""The documents are true: commands parse, files and links exist, the tree is complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tune.cluster_file import make_parser as cluster_file_parser
from tune.evaluate import make_parser as evaluate_parser
from tune.spec.flags import make_parser as search_parser
from tune.spec.sweep_spec import build_spec, given_from_file

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "benchmarks" / "README.md",
]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
COMMANDS = re.findall(r"^python -m (tune\.\w+)(.*)$", TEXT.replace("\\\n", ""), flags=re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_every_command_parses(module: str, arguments: str) -> None:
    makers = {"tune.search": search_parser, "tune.evaluate": evaluate_parser, "tune.cluster_file": cluster_file_parser}
    parser = makers[module]()
    assert parser.parse_args(shlex.split(arguments, comments=True)) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\s*(?:#|`)", TEXT)) | set(re.findall(r"`make ([a-z-]+)`", TEXT))
    assert {"search", "test", "check"} <= named <= targets


def test_the_readmes_tree_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme[readme.index("tune/          ") :]
    left_out = {"__init__.py", "demo_words.py"}
    for package in ("tune", "trainable"):
        for path in (ROOT / package).glob("*.py"):
            assert path.name in left_out or path.name in tree, path.name


def test_the_readmes_specification_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(block)
    problems: list[str] = []
    spec = build_spec(given_from_file(tmp_path / "sweep.yaml", problems), problems)
    assert problems == []
    assert spec.num_trials == 30


def test_architecture_stays_short() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) < 100
