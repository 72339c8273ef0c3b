"""The Debian package: built as `make deb` builds it, then taken apart. It is installed nowhere."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.0.9"
"""Not the project's own: that it is taken everywhere shows that nothing else is."""
PYTHON = "/usr/bin/python3"
PACKAGES = "usr/lib/python3/dist-packages"
UNIT = "lib/systemd/system/kpf-ebpf.service"
FILES = (
    "usr/bin/kpf-ebpf",
    f"{PACKAGES}/kpf_ebpf/cli/main.py",
    f"{PACKAGES}/kpf_ebpf/bpf/kpf_abi.h",
    f"{PACKAGES}/kpf_ebpf/bpf/stub/include/linux/types.h",
    f"{PACKAGES}/kpf_ebpf/policy/observe.toml",
    f"{PACKAGES}/kpf_ebpf-{VERSION}.dist-info/METADATA",
    "usr/share/bash-completion/completions/kpf-ebpf",
    "usr/share/zsh/vendor-completions/_kpf-ebpf",
    "usr/share/fish/vendor_completions.d/kpf-ebpf.fish",
    "usr/share/man/man8/kpf-ebpf.8.gz",
    "usr/share/man/man5/kpf-ebpf-policy.5.gz",
    "usr/share/doc/kpf-ebpf/README.md",
    "usr/share/doc/kpf-ebpf/limits.md",
    "usr/share/doc/kpf-ebpf/copyright",
    "usr/share/doc/kpf-ebpf/examples/policy.toml",
)
PLACES = ("usr/bin/kpf-ebpf", f"{PACKAGES}/kpf_ebpf", "usr/share/", UNIT, f"usr/{UNIT}")
"""Where files may be; in /etc none, since without a policy of the user's everything is permitted."""
NEEDED = {
    "python3",
    "python3-bpfcc",
    "python3-cattr",
    "python3-click",
    "python3-dnspython",
    "python3-psutil",
    "python3-pyroute2",
    "python3-rich",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A package taken apart: its files, and what dpkg reads."""

    file: Path
    files: Path
    control: Path

    @property
    def names(self) -> set[str]:
        """Every file, relative to the root."""
        return {str(path.relative_to(self.files)) for path in self.files.rglob("*") if not path.is_dir()}

    def field(self, name: str) -> str:
        """A field of the control file."""
        return output("dpkg-deb", "--field", str(self.file), name).strip()

    def script(self, name: str) -> str:
        """A maintainer script."""
        return (self.control / name).read_text()


def output(*command: str | Path, **environment: str) -> str:
    """Run a command that must succeed and say nothing on standard error; give what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Build the package once, whoever of the tests' processes comes first."""
    base = tmp_path_factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = Package(place / f"kpf-ebpf_{VERSION}_all.deb", place / "deb-files", place / "deb-control")
    with (place / "deb-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.control.exists():
            output(ROOT / "scripts" / "deb", VERSION, place)
            output("dpkg-deb", "--extract", made.file, made.files)
            output("dpkg-deb", "--control", made.file, made.control)
    return made


def test_everything_is_in_its_place(package: Package) -> None:
    """The command, its Python and C, pages, completion and the example are where Debian's tools look for them."""
    assert set(FILES) <= package.names


def test_nothing_else_is_installed(package: Package) -> None:
    """No tests, no leftovers of the build, no policy, nothing compiled for one version of Python."""
    strange = {name for name in package.names if not name.startswith(PLACES)}
    assert not strange
    assert not {name for name in package.names if re.search(r"(^|/)tests?(/|_)|__pycache__|\.pyc$|\.so$", name)}


def test_the_package_needs_what_the_program_imports(package: Package) -> None:
    """Debian's own names, and no version that Debian 12 or 13 has not; built for every architecture and Python 3."""
    needed = {re.split(r"[ :]", word.strip())[0] for word in package.field("Depends").split(",")}
    assert needed == NEEDED
    assert "python3 (>= 3.11)" in package.field("Depends") and "python3-bpfcc (>= 0.25)" in package.field("Depends")
    assert "<<" not in package.field("Depends")
    assert package.field("Architecture") == "all"


def test_the_version_asked_for_is_the_packages_and_the_programs(package: Package) -> None:
    """`make deb DEB_VERSION=…` builds another version of the same tree, through and through; the tree keeps its own."""
    run = output(
        PYTHON, "-B", package.files / "usr/bin/kpf-ebpf", "--version", PYTHONPATH=str(package.files / PACKAGES)
    )
    assert package.field("Version") == VERSION
    assert run.split()[-1] == VERSION
    assert VERSION not in (ROOT / "pyproject.toml").read_text()


def test_the_installed_command_checks_the_installed_example(package: Package) -> None:
    """The packed program is whole as far as that can be seen without root: it reads a policy without a complaint."""
    example = package.files / "usr/share/doc/kpf-ebpf/examples/policy.toml"
    command = (PYTHON, "-B", package.files / "usr/bin/kpf-ebpf", "check", example)
    assert ": valid," in output(*command, PYTHONPATH=str(package.files / PACKAGES))


@pytest.mark.parametrize("page", ["man8/kpf-ebpf.8", "man5/kpf-ebpf-policy.5"])
def test_a_page_is_set_without_a_warning(page: str, package: Package) -> None:
    """groff finds nothing to complain about, and the page's name and purpose are where `apropos` looks."""
    text = output("zcat", package.files / f"usr/share/man/{page}.gz")
    done = subprocess.run(
        ["groff", "-man", "-t", "-Kutf8", "-Tutf8", "-wall"], input=text, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    name = page.split("/")[1].rsplit(".", 1)[0]
    assert re.search(rf"^\.SH\nNAME\n\.LP\n{name} - \S", text, re.MULTILINE)
    assert f'"kpf-ebpf {VERSION}"' in text


def test_completion_is_good_shell(package: Package) -> None:
    """bash can read it, and it asks this command."""
    path = package.files / "usr/share/bash-completion/completions/kpf-ebpf"
    output("bash", "-n", path)
    assert "_KPF_EBPF_COMPLETE=bash_complete" in path.read_text()
    assert (package.files / "usr/share/zsh/vendor-completions/_kpf-ebpf").read_text().startswith("#compdef kpf-ebpf\n")


def test_the_service_stops_before_enforcement_ends_and_restarts_after_an_upgrade(package: Package) -> None:
    """On removal: first the service, then `down`. On an upgrade: nothing before the new files are there."""
    placed = {UNIT, f"usr/{UNIT}"} & package.names
    assert len(placed) == 1
    removal = package.script("prerm")
    stops = [found.start() for found in re.finditer(r"deb-systemd-invoke (?:\S+ )*stop", removal)]
    assert len(stops) == 1
    assert all(stop < removal.index("/usr/bin/kpf-ebpf down") for stop in stops)
    assert all("= remove" in removal[:stop].splitlines()[-2] + removal[:stop].splitlines()[-1] for stop in stops)
    assert "_dh_action=restart" in package.script("postinst")
