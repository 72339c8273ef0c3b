"""What runs as root when a package comes and goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kpf_ebpf.engine.folders import DEFAULT, LOG, STATE
from kpf_ebpf.engine.snapshot import POLICY
from kpf_ebpf.kernel.compiled import CACHE
from kpf_ebpf.policy.load import load

ROOT = Path(__file__).resolve().parents[3]
DEBIAN = ROOT / "debian"
SCRIPTS = sorted(path for path in DEBIAN.iterdir() if path.suffix in {".preinst", ".postinst", ".prerm", ".postrm"})
MARK = "#DEBHELPER#"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_maintainer_script_is_good_shell(path: Path) -> None:
    """shellcheck finds nothing in it, it stops at the first error, and debhelper's own part has its one place."""
    text = path.read_text()
    subprocess.run(["sh", "-n", path], check=True)
    assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text
    assert text.splitlines().count(MARK) == 1
    subprocess.run(["shellcheck", path], check=True)


def parts(name: str) -> tuple[str, str]:
    """Give a script's text before and after debhelper's part."""
    before, after = (DEBIAN / name).read_text().split(MARK)
    return before, after


def test_enforcement_ends_after_the_service_and_on_removal_only() -> None:
    """The service would start the Engine again; and an upgrade must not leave a gap."""
    before, after = parts("kpf-ebpf.prerm")
    assert "kpf-ebpf down" not in before
    assert after.index('if [ "$1" = remove ]') < after.index("/usr/bin/kpf-ebpf down")


@pytest.mark.parametrize(("works", "action"), [(True, "remove"), (False, "remove"), (True, "upgrade")])
def test_a_removal_goes_on_whatever_down_says(works: bool, action: str, tmp_path: Path) -> None:
    """`down` is run on removal; that it fails is told, and keeps nobody from removing the package."""
    command, asked = tmp_path / "kpf-ebpf", tmp_path / "asked"
    command.write_text(f"#!/bin/sh\necho \"$@\" >>'{asked}'\nexit {0 if works else 1}\n")
    command.chmod(0o755)
    (tmp_path / "run" / "web").mkdir(parents=True)
    text = (DEBIAN / "kpf-ebpf.prerm").read_text()
    text = text.replace("/usr/bin/kpf-ebpf", str(command)).replace("/run/kpf-ebpf", str(tmp_path / "run"))
    done = subprocess.run(["sh", "-c", text, "prerm", action], capture_output=True, text=True, check=True)
    assert asked.exists() == (action == "remove")
    assert ("could not end the enforcement" in done.stderr) == (not works)
    assert ("instance web may still be enforced" in done.stderr) == (action == "remove")


def removed(action: str, folder: Path) -> set[str]:
    """Give which of the folders that kpf-ebpf keeps are gone after postrm, run in a folder instead of the root."""
    places = [POLICY.parent, STATE, LOG, CACHE]
    for place in places:
        (folder / str(place)[1:] / "inside").mkdir(parents=True)
    text = (DEBIAN / "kpf-ebpf.postrm").read_text()
    for top in ("/etc/", "/var/", "/run/"):
        text = text.replace(f" {top}", f" '{folder}'{top}")
    subprocess.run(["sh", "-c", text, "postrm", action], check=True)
    return {str(place) for place in places if not (folder / str(place)[1:]).exists()}


def test_a_purge_leaves_nothing_and_a_removal_what_the_user_made(tmp_path: Path) -> None:
    """Policy, password and logs survive until purge; compiled programs are of no use to anybody after removal."""
    everything = {str(place) for place in (POLICY.parent, STATE, LOG, CACHE)}
    assert removed("remove", tmp_path / "1") == {str(CACHE)}
    assert removed("purge", tmp_path / "2") == everything
    assert removed("upgrade", tmp_path / "3") == set()
    assert all(Path(place).name == DEFAULT for place in everything)


def test_the_package_brings_no_policy_of_its_own() -> None:
    """Without a file in /etc everything is permitted and logged: installing must cut no connection."""
    lists = [path for path in DEBIAN.iterdir() if path.suffix in {".install", ".dirs", ".conffiles", ".links"}]
    assert not [path.name for path in lists if "etc/" in path.read_text()]


def test_the_shipped_example_is_valid_without_a_warning() -> None:
    """People begin with it: it has no mistake, and nothing that `check` would warn about."""
    _, warnings = load(ROOT / "docs" / "examples" / "policy.toml")
    assert warnings == ()
