"""A #! script is an application: its own rule, never its interpreter's; by its file or, where need be, by its path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .bench import DENY_ALL, SENDER, SERVER, SERVER6, Bench
from .components import policy as components
from .tools import eventually


def cells(path: str, action: str) -> str:
    """Return an application rule with this action for all that goes out."""
    return f'[[application]]\npath = "{path}"\ntrusted-out = "{action}"\ninternet-out = "{action}"\nlog = true\n'


def reaches(bench: Bench, program: str, *options: str) -> bool:
    """Return whether a program reaches the server; if not, it must be EPERM."""
    found = bench.run(program, "tcp-connect", SERVER, 7000, "--text", "x", *options)
    assert found.ok or found.errno == "EPERM", found
    return found.ok


@pytest.mark.parametrize("remote", [SERVER, SERVER6])
def test_a_script_has_its_own_rule(bench: Bench, remote: str) -> None:
    """Two scripts of one interpreter: one permitted, one not; the interpreter itself is another program again."""
    good, bad = bench.script("good"), bench.script("bad")
    bench.up(policy=DENY_ALL + cells(good, "permit"))
    bench.peer("tcp-echo", remote, 7000)
    assert bench.run(good, "tcp-connect", remote, 7000, "--text", "x").ok
    assert bench.run(bad, "tcp-connect", remote, 7000).errno == "EPERM"
    assert bench.run(bench.program("interpreter"), "tcp-connect", remote, 7000).errno == "EPERM"
    bench.expect_hits(f"application/{good}/internet-out")
    bench.expect_log(application=good, action="permit")
    bench.expect_log(application=bad, action="deny", id="default/internet-out")


def test_a_script_has_nothing_of_its_interpreters_rule(bench: Bench) -> None:
    """The interpreter is permitted: `interpreter script` is the interpreter, the script by itself is not."""
    script = bench.script("tool")
    bench.up(policy=DENY_ALL + cells(bench.program("interpreter"), "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, bench.program("interpreter"))
    assert not reaches(bench, script)
    bench.expect_log(application=script, action="deny")


def test_running_a_script_by_hand_gains_nothing(bench: Bench) -> None:
    """`interpreter script` is never a way to the script's rights; neither is a copy, a link, or a relative path."""
    script = bench.script("tool")
    bench.up(policy=DENY_ALL + cells(script, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, script)
    assert not reaches(bench, bench.program("interpreter"))
    copy = bench.scripts / "copy"
    shutil.copy(script, copy)
    assert not reaches(bench, str(copy))


def test_a_link_that_the_policy_names_is_the_script(bench: Bench) -> None:
    """Symlinks are resolved: a rule for the link is for its target, executed by either path."""
    script, link = bench.script("tool"), bench.scripts / "link"
    link.symlink_to(script)
    bench.up(policy=DENY_ALL + cells(str(link), "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, script)
    assert reaches(bench, str(link))


def test_what_a_script_executes_is_itself(bench: Bench) -> None:
    """A permitted script that becomes another program has that one's rights; children that fork keep the script's."""
    script = bench.script("tool")
    bench.up(policy=DENY_ALL + cells(script, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    heir = ("--heir", bench.program("other"), "--begun", "created", "--text", "x")
    assert bench.run(script, "hand-over", SERVER, 7000, *heir).errno == "EPERM"
    assert bench.run(script, "forked-connect", SERVER, 7000, "--text", "x").ok


def test_a_changed_script_is_modified(bench: Bench) -> None:
    """A byte changed: denied everything once that was seen, until it is accepted; restored, it is itself again."""
    script = bench.script("tool")
    bench.up(policy=DENY_ALL + cells(script, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, script)
    with Path(script).open("a") as file:
        file.write("# changed\n")
    assert eventually(lambda: not reaches(bench, script), 8)
    bench.expect_hits(f"modified/{script}")
    assert bench.kpf("accept", script).returncode == 0
    assert eventually(lambda: reaches(bench, script), 8)


def test_another_mount_namespace_has_other_files(bench: Bench, tmp_path: Path) -> None:
    """The same path in a mount namespace of one's own is another script: it has no rights."""
    script = bench.script("tool")
    bench.up(policy=DENY_ALL + cells(script, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, script)
    other = tmp_path / "other"
    other.write_text(Path(script).read_text() + "# another one\n")
    other.chmod(0o755)
    mounted = f'mount --bind {other} {script} && exec "$@"'
    done = bench.real("unshare", "--mount", "sh", "-c", mounted, "sh", script, "tcp-connect", SERVER, "7000")
    assert '"errno": "EPERM"' in done.stdout, done


def test_a_script_in_a_users_folder_is_not_known_by_path(bench: Bench, tmp_path: Path) -> None:
    """Whoever may write the folder decides what its path means: by path such a script has no rights."""
    folder = bench.scripts / "users"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    script = folder / "tool"
    script.write_text(f"#!{bench.program('interpreter')} -I\n" + SENDER.read_text())
    script.chmod(0o755)
    shutil.copy(SENDER.with_name("verbs.py"), folder)
    bench.up(policy=DENY_ALL + cells(str(script), "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    exact = "script" in [hook["name"] for hook in bench.status()["hooks"]]
    done = bench.real(str(script), "tcp-connect", SERVER, "7000")
    assert ('"ok": true' in done.stdout) is exact, done


def test_gui_and_assist_may_be_scripts(bench: Bench) -> None:
    """Components are files, scripts too: the GUI's script has the GUI's rows, its interpreter has none."""
    gui = bench.script("gui")
    text = components(bench).replace(f'gui = "{bench.program("gui")}"', f'gui = "{gui}"')
    bench.up(policy=text)
    bench.peer("udp-echo", SERVER, 53)
    assert bench.run(gui, "udp-send", SERVER, 53, "--expect").ok
    assert bench.run(bench.program("interpreter"), "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_hits("internal/dns/gui")
