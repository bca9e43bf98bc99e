"""The documents are true: commands parse, files and links exist, the tree is complete."""

from __future__ import annotations

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from tune.cluster_file import make_parser as cluster_file_parser
from tune.dashboard import make_parser as dashboard_parser
from tune.evaluate import make_parser as evaluate_parser
from tune.predict import make_parser as predict_parser
from tune.publish import make_parser as publish_parser
from tune.report.__main__ import make_parser as report_parser
from tune.runs import make_parser as runs_parser
from tune.spec.flags import make_parser as search_parser
from tune.spec.sources import given_from_file
from tune.spec.sweep_spec import build_spec

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
    makers = {
        "tune.search": search_parser,
        "tune.evaluate": evaluate_parser,
        "tune.predict": predict_parser,
        "tune.publish": publish_parser,
        "tune.runs": runs_parser,
        "tune.report": report_parser,
        "tune.dashboard": dashboard_parser,
        "tune.cluster_file": cluster_file_parser,
    }
    parser = makers[module]()
    assert parser.parse_args(shlex.split(arguments, comments=True)) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


SOURCES = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document: Path) -> None:
    """Whole paths (`tune/spec/space.py`), and names alone where the sentence says in which folder."""
    named = re.findall(r"`([\w/]+\.py)`", document.read_text(encoding="utf-8"))
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in SOURCES)] == []


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\s*(?:#|`)", TEXT)) | set(re.findall(r"`make ([a-z-]+)`", TEXT))
    assert {"search", "test", "check"} <= named <= targets


def rooms(package: str) -> set[str]:
    """The rooms of a package: its folders ("spec/") and the modules beside them ("config.py")."""
    inside = [path.relative_to(ROOT / package).parts for path in (ROOT / package).rglob("*.py")]
    return {parts[0] + ("/" if len(parts) > 1 else "") for parts in inside} - {"__init__.py"}


def readmes_tree() -> dict[str, set[str]]:
    """The rooms that the README's tree names, by package."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```\n(tune/ .*?)```", readme, flags=re.DOTALL)
    named: dict[str, set[str]] = {}
    package = ""
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            named[package].add(name)
        else:
            package = name.removesuffix("/")
            named[package] = set()
    return named


@pytest.mark.parametrize("package", ["tune", "trainable"])
def test_the_readmes_tree_names_every_room(package: str) -> None:
    assert len(rooms(package)) > 5
    assert rooms(package) - readmes_tree()[package] == set()
    assert {name for name in readmes_tree()[package] if not (ROOT / package / name).exists()} == set()


def test_the_readmes_specification_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(block)
    problems: list[str] = []
    spec = build_spec(given_from_file(tmp_path / "sweep.yaml", problems), problems)
    assert problems == []
    assert spec.num_trials == 30


def test_architecture_stays_short() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) < 100


def strings_of_the_program() -> str:
    """Every string in the sources, in lower case; a gap stands where an f-string has a value."""
    found = []
    for path in [*ROOT.glob("tune/**/*.py"), *ROOT.glob("trainable/**/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                found.append(node.value)
    return " \n".join(found).lower()


MESSAGES = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_refusals_that_are_explained_are_the_program_s() -> None:
    """At least two thirds of the words of each message stand in the sources, in runs of two or more."""
    assert len(MESSAGES) > 40
    words_of_program = re.findall(r"[a-z'-]+|\0", strings_of_the_program())
    pairs = set(pairwise(words_of_program))
    unknown = []
    for message in [each for cell in MESSAGES for each in re.findall(r"`(.*?)`", cell)]:
        words = re.findall(r"[a-z'-]+", message.lower())
        known = {i + k for i, pair in enumerate(pairwise(words)) if pair in pairs for k in (0, 1)}
        if 3 * len(known) < 2 * len(words):
            unknown.append(message)
    assert unknown == []
