"""The Vagrantfile, checked by vagrant itself without starting a machine.

Vagrant knows the keys of machines, of the shell provisioner and of both providers. Of a synced folder's it knows none.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = ("libvirt", "virtualbox")
VIRTUALBOX = "#!/bin/sh\necho 7.0.0r1\n"
"""All of VirtualBox that vagrant asks for before it looks at the keys: Debian does not have the real one."""
PATIENCE = 60


def need_vagrant() -> None:
    """Fail without vagrant. Only Debian's testing, which has no VERSION_ID, is known to lack the package."""
    if shutil.which("vagrant"):
        return
    if "VERSION_ID" not in platform.freedesktop_os_release():
        pytest.skip("Debian's testing has no vagrant")
    pytest.fail("vagrant is missing: `make test` installs it")


def checkout(folder: Path, vagrantfile: str) -> Path:
    """Make a folder with this Vagrantfile and the provisioner that it names."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/provision", folder / "scripts")
    (folder / "Vagrantfile").write_text(vagrantfile)
    return folder


def vagrant(folder: Path, scratch: Path, *arguments: str, provider: str) -> subprocess.CompletedProcess[str]:
    """Run vagrant on a folder's Vagrantfile; all that it writes goes to the scratch folder, and it asks no server."""
    need_vagrant()
    virtualbox = scratch / "bin/VBoxManage"
    virtualbox.parent.mkdir()
    virtualbox.write_text(VIRTUALBOX)
    virtualbox.chmod(0o755)
    environment = {
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "PATH": f"{virtualbox.parent}:{os.environ['PATH']}",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_CWD": str(folder),
        "VAGRANT_DEFAULT_PROVIDER": provider,
        "VAGRANT_DOTFILE_PATH": str(scratch / "machines"),
        "VAGRANT_HOME": str(scratch / "vagrant"),
    }
    command = ("vagrant", *arguments)
    quiet = subprocess.DEVNULL
    return subprocess.run(
        command, env=environment, stdin=quiet, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_takes_the_vagrantfile(provider: str, tmp_path: Path) -> None:
    """Every key of every machine is one that vagrant knows, and the provisioner is there, for both providers."""
    done = vagrant(ROOT, tmp_path, "validate", provider=provider)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("machine.memory =", "machine.memroy =", "memroy"),
        ("machine.vm.box =", "machine.vm.boks =", "boks"),
        ("scripts/provision", "scripts/provisoin", "scripts/provisoin"),
        ("args:", "arg:", "arg"),
    ],
)
def test_vagrant_finds_a_mistake(provider: str, right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    """The check itself: a misspelt key or path is found, with its name, under either provider."""
    text = (ROOT / "Vagrantfile").read_text()
    assert right in text
    folder = checkout(tmp_path / "checkout", text.replace(right, wrong))
    done = vagrant(folder, tmp_path, "validate", provider=provider)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_every_machine_is_known_by_its_release(tmp_path: Path) -> None:
    """There is a machine for each Debian that is supported or comes next, named as its users name it."""
    done = vagrant(ROOT, tmp_path, "status", "--machine-readable", provider="libvirt")
    lines = [line.split(",") for line in done.stdout.splitlines()]
    assert [fields[1] for fields in lines if fields[2] == "state"] == ["bookworm", "trixie", "testing"]
