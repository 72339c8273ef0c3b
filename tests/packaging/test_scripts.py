"""The shell scripts: that they can be read and run, and that the provisioner does no more than is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROVISION = ROOT / "scripts/provision"
SHELL = re.compile(r"#!\S*/(?:bash|busybox sh|sh)\n")


def is_script(path: Path) -> bool:
    """Tell whether a file is a shell script, by its first line."""
    return path.is_file() and SHELL.match(path.read_text()) is not None


FOLDERS = (".ci", "scripts", "tests/vm/guest")
SCRIPTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).iterdir() if is_script(path))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_can_be_parsed(path: Path) -> None:
    """A slip in a branch that is seldom taken is found before it is taken."""
    done = subprocess.run(("bash", "-n", path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["demo", "provision"])
def test_a_script_can_be_executed(name: str) -> None:
    """Make and the guests of tests/vm run them by their path."""
    assert os.access(ROOT / "scripts" / name, os.X_OK)


class Bench:
    """A PATH of stand-ins that write down how they were called, so that the provisioner changes nothing here."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.calls, self.checkout = folder / "bin", folder / "calls", folder / "checkout"
        self.bin.mkdir()
        self.checkout.mkdir()
        (self.checkout / "Makefile").touch()
        self.put("id", "echo 0")
        # apt-get brings a make, as the real one does.
        self.note("apt-get", 'case "$*" in *install*make) /bin/cp "$0.make" "${0%/*}/make" ;; esac')
        self.note("apt-get.make", "", name="make")

    def put(self, file: str, body: str) -> None:
        """Lay a stand-in into the PATH."""
        path = self.bin / file
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def note(self, file: str, body: str, name: str = "") -> None:
        """Lay a stand-in that writes down its arguments before it does anything else."""
        self.put(file, f'echo "{name or file} $*" >>{self.calls}\n{body}')

    def provision(self, *arguments: str | Path) -> tuple[int, list[str]]:
        """Run the provisioner; give its exit status and what it called."""
        self.calls.write_text("")
        bash = shutil.which("bash")
        assert bash
        command = (bash, PROVISION, *arguments)
        done = subprocess.run(command, env={"PATH": str(self.bin)}, capture_output=True, check=False)
        return done.returncode, self.calls.read_text().splitlines()


def test_provisioning_needs_no_network_where_nothing_is_missing(tmp_path: Path) -> None:
    """With make there, apt is not called; make is, and it goes by the same rule. A second run does the same again."""
    bench = Bench(tmp_path)
    bench.note("make", "")
    expected = (0, [f"make --no-print-directory --directory={bench.checkout} install"])
    assert bench.provision(bench.checkout) == expected
    assert bench.provision(bench.checkout) == expected


def test_provisioning_installs_make_once(tmp_path: Path) -> None:
    """A bare Debian has no make: the first run fetches it, the next one does not."""
    bench = Bench(tmp_path)
    status, calls = bench.provision(bench.checkout)
    assert (status, [call.split()[0] for call in calls]) == (0, ["apt-get", "apt-get", "make"])
    status, calls = bench.provision(bench.checkout)
    assert (status, [call.split()[0] for call in calls]) == (0, ["make"])


def test_provisioning_passes_on_that_make_failed(tmp_path: Path) -> None:
    """A machine that is not ready must not look ready, neither to vagrant nor to tests/vm."""
    bench = Bench(tmp_path)
    bench.note("make", "exit 2")
    assert bench.provision(bench.checkout)[0] == 2


@pytest.mark.parametrize("missing", ["root", "checkout"])
def test_provisioning_refuses_before_it_touches_anything(missing: str, tmp_path: Path) -> None:
    """Without root, or on a folder that is no checkout, nothing is called at all."""
    bench = Bench(tmp_path)
    if missing == "root":
        bench.put("id", "echo 1000")
    status, calls = bench.provision(bench.checkout if missing == "root" else tmp_path)
    assert status != 0
    assert not calls
