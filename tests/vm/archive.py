"""Debian's archive by way of the host's own apt: its mirrors, proxies and keys, but a state of our own."""

from __future__ import annotations

import re
import subprocess
import time
from functools import cache
from pathlib import Path

from kernels import SECURITY, Kernel

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_LAST = 24 * 3600
"""Seconds that package lists are used before apt is asked for newer ones."""
KERNEL_PACKAGE = re.compile(r"linux-(?:image|binary|modules|base)-\d\S*")
TRANSPORT = re.compile(r"Acquire::(?:http|https|Retries|Check-)")


class BuildError(Exception):
    """Something that a machine is made of cannot be had; the message says what and why."""


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. Raises BuildError with the end of its complaint."""
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise BuildError(f"{missing.filename} is missing: run this by `make vm-test`, which installs it") from missing
    if done.returncode:
        complaint = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise BuildError(f"{' '.join(map(str, command[:2]))} ... failed ({done.returncode}):\n{complaint}")
    return done.stdout


@cache
def _mirrors() -> tuple[str, str]:
    """Where this host gets Debian and Debian's security updates from."""
    found: dict[bool, str] = {}
    known: list[list[str]] = []
    form = "$(RELEASE) $(REPO_URI) $(ORIGIN)"  # the origin is known only once there are lists
    for line in output("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
        fields = line.split(" ", 2)
        if len(fields) == 3 and fields[2] in ("Debian", "$(ORIGIN)"):
            known.append(fields)
    for release, uri, _ in sorted(known, key=lambda fields: fields[2] != "Debian"):
        found.setdefault(release.endswith(SECURITY), uri)
    if len(found) < 2:
        raise BuildError("this host's apt sources name no Debian archive with its security suite")
    return found[False], found[True]


def sources(suites: tuple[str, ...]) -> list[str]:
    """The lines of a sources.list for these suites."""
    signed = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
    return [f"deb{signed} {_mirrors()[suite.endswith(SECURITY)]} {suite} main" for suite in suites]


def transport() -> list[str]:
    """The host's settings for fetching packages (proxies, checks), for tools that do not read its configuration."""
    return [line for line in output("apt-config", "dump").splitlines() if TRANSPORT.match(line)]


class Apt:
    """The packages of some suites, in a folder; nothing is installed, and the host's own apt state is not touched."""

    def __init__(self, folder: Path, suites: tuple[str, ...]) -> None:
        self.folder = folder
        (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        (folder / "archives/partial").mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("\n".join(sources(suites)) + "\n")
        settings = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
        }
        self.options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]

    def update(self, *, now: bool = False) -> None:
        """Fetches the package lists if those that are here are old. Raises BuildError if there are none at all."""
        stamp = self.folder / "updated"
        if not now and stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_LAST:
            return
        try:
            output("apt-get", *self.options, "--error-on=any", "update")
        except BuildError as problem:
            if not stamp.exists():
                raise
            print(f"  the package lists stay as they are: {problem}", flush=True)
        else:
            stamp.touch()

    def kernel_packages(self, meta: str) -> list[str]:
        """The packages that a kernel's meta package stands for today, as name=version."""
        relations = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        only = [f"--no-{relation}" for relation in relations]
        names = output("apt-cache", *self.options, "depends", "--recurse", *only, meta).splitlines()
        packages = sorted({name for name in names if name != meta and KERNEL_PACKAGE.fullmatch(name)})
        if not packages:
            raise BuildError(f"{meta} depends on no kernel package")
        form = ["show", "--no-all-versions", *packages]
        stanzas = output("apt-cache", *self.options, *form).split("\n\n")
        found = {}
        for stanza in filter(None, map(str.strip, stanzas)):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"(Package|Version): ", line))
            found[fields["Package"]] = fields["Version"]
        return [f"{name}={found[name]}" for name in packages]

    def unpack(self, packages: list[str], into: Path) -> None:
        """Downloads packages and lays out their files below a folder."""
        debs = into.parent / "debs"
        debs.mkdir()
        output("apt-get", *self.options, "download", *packages, cwd=debs)
        for deb in sorted(debs.iterdir()):
            output("dpkg-deb", "--extract", deb, into)
            deb.unlink()
        debs.rmdir()


def apt_of(kernel: Kernel, cache_folder: Path) -> Apt:
    """The apt of a kernel's suites, shared by the kernels that come from the same ones."""
    return Apt(cache_folder / "apt" / kernel.suites[0], kernel.suites)
