"""House rules that no linter knows: short files, tests that say their rule, tests that never sleep."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 450
FOLDERS = ("kpf_ebpf", "bpf", "cli", "tests", "scripts", "docs", "debian", ".ci")
SUFFIXES = frozenset({".py", ".c", ".h", ".toml", ".md", ".service", ""})
SLEEP = re.compile(r"\bsleep\s*\(")


def our_files() -> list[Path]:
    """Give every source and page of the project, relative to its root."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found += [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile", ROOT / "Vagrantfile"]
    ours = (path for path in found if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts)
    return sorted(path.relative_to(ROOT) for path in ours)


FILES = our_files()
TESTS = [path for path in FILES if path.parts[0] == "tests" and path.suffix == ".py"]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_too_long_to_read(path: Path) -> None:
    """A file is read in one sitting: 450 lines at most."""
    assert len((ROOT / path).read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_every_test_states_its_rule(path: Path) -> None:
    """A test's docstring says what must be true, so that a failure tells what broke."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    tests = [node for node in nodes if isinstance(node, functions) and node.name.startswith("test")]
    assert not [f"{test.name}, line {test.lineno}" for test in tests if not ast.get_docstring(test)]


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_no_test_sleeps(path: Path) -> None:
    """A test waits for a condition with a deadline; sleeping is slow on good days and wrong on bad ones."""
    lines = (ROOT / path).read_text().splitlines()
    assert not [number for number, line in enumerate(lines, 1) if SLEEP.search(line)]
