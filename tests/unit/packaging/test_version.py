"""The version is written down once: in pyproject.toml."""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STATED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DATE = "Tue, 24 Nov 2026 18:42:17 +0000"
made = runpy.run_path(str(ROOT / "scripts" / "deb_changelog.py"))


def test_what_is_installed_is_the_version_that_is_stated() -> None:
    """`kpf-ebpf --version` reads it from what was installed."""
    assert version("kpf-ebpf") == STATED


def test_the_newest_changes_are_this_versions() -> None:
    """CHANGELOG.md begins with the version of pyproject.toml: the package's changelog is made from both."""
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == STATED


def test_no_second_place_states_a_version() -> None:
    """debian/changelog is made for each build, since a copy would be forgotten at a release."""
    assert not (ROOT / "debian" / "changelog").exists()


def test_debians_changelog_is_one_that_its_tools_read() -> None:
    """A heading, points two columns in, at most 80 columns wide, and who and when after one blank and two hyphens."""
    lines = made["changelog"]("1.2.3", DATE).splitlines()
    assert lines[0] == "kpf-ebpf (1.2.3) unstable; urgency=medium"
    assert re.fullmatch(rf" -- \S.* <\S+@\S+>  {re.escape(DATE)}", lines[-1])
    assert lines[1] == lines[-2] == ""
    assert all(re.match(r"  \* \S|    \S", line) and len(line) <= 80 for line in lines[2:-2])


def test_every_change_of_the_newest_version_is_told_and_no_older_one() -> None:
    """A point of CHANGELOG.md may take several lines; it ends where the next one begins, or the version."""
    text = "# Changelog\n\n## 2.0\n\nWords.\n\n- One\n  point.\n- Two.\n\n## 1.0\n\n- Old.\n"
    assert made["newest_changes"](text) == ["One point.", "Two."]
