"""An ordinary user cannot pass for a permitted program: what counts is the file that the kernel executed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import COMMAND, DENY_ALL, INTERPRETER, SENDER, SERVER, Bench
from .intruder import USER, attack, connects, enforce, gains_nothing, only, users_file, users_folder
from .tools import eventually, system, unmount

CONNECTING = """
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>
static int begin(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7000)};
    int failed;
    alarm(5);
    inet_pton(AF_INET, "SERVER", &to.sin_addr);
    failed = connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof(to));
    printf("{\\"ok\\": %s, \\"errno\\": \\"%s\\", \\"data\\": null}\\n", failed ? "false" : "true",
           !failed ? "none" : errno == EPERM ? "EPERM" : strerror(errno));
    fflush(stdout);
    return 0;
}
"""
PRELOADED = "__attribute__((constructor)) static void preloaded(void) { begin(); getc(stdin); _exit(0); }\n"
PROGRAM = "int main(void) { return begin(); }\n"


def compiled(path: Path, text: str, *options: str) -> str:
    """Compile what connects to the server."""
    command = ["cc", *options, "-x", "c", "-o", str(path), "-"]
    subprocess.run(command, input=CONNECTING.replace("SERVER", SERVER) + text, text=True, check=True)
    return str(path)


@pytest.fixture
def small(bench: Bench) -> Iterator[Path]:
    """Give a small file system of root's with small inode numbers."""
    folder = bench.programs / "small"
    folder.mkdir()
    system("mount", "-t", "tmpfs", "-o", "mode=755", "kpf-test", str(folder))
    try:
        yield folder
    finally:
        for child in bench.children:
            child.stop()
        unmount(folder)


def test_a_copy_of_the_same_name_is_another_program(bench: Bench) -> None:
    """A name is nothing: a copy of the good file under the good name in another folder has no rights."""
    good, copy = bench.program("good"), users_file(bench, "good")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "execute", good, copy), good, copy)


def test_a_users_link_is_no_name_for_the_log(bench: Bench) -> None:
    """Symlinks are resolved: a program that a user runs by a link of the user's own is logged by its own path."""
    good, bad, link = bench.program("good"), bench.program("bad"), users_folder(bench) / "sshd"
    link.symlink_to(bad)
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "execute", good, str(link)), good, bad)


def test_a_name_on_the_command_line_is_nothing(bench: Bench) -> None:
    """exec -a: argv[0] is whatever the caller says, and decides nothing."""
    good, copy = bench.program("good"), users_file(bench, "own")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "other-name", good, copy), good, copy)


def test_the_link_to_oneself_is_oneself(bench: Bench) -> None:
    """Executing /proc/self/exe is executing one's own file; the log names that file."""
    good = bench.program("good")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "own-link", good), good)


def test_a_file_in_memory_is_another_program(bench: Bench) -> None:
    """memfd_create and fexecve: a copy of the good file that is in no folder has no rights."""
    good = bench.program("good")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "memory-file", good), good)


def test_a_descriptor_is_the_file_it_is_open_for(bench: Bench) -> None:
    """O_PATH and execveat: the user's copy is the user's copy; the good file by descriptor is the good program."""
    good, copy = bench.program("good"), users_file(bench, "own")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "descriptor", good, copy), good)
    found = attack(bench, "descriptor", copy, good).line()
    assert found.ok, found


def test_the_loader_is_the_loader(bench: Bench) -> None:
    """`ld.so good`: the kernel executes the dynamic loader, which is another program, whatever it then maps."""
    good = bench.program("good")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "loader", good), good)


def test_a_new_hard_link_makes_the_program_modified(bench: Bench) -> None:
    """A link is the same file, changed by linking: denied by either name, until accepted; then good by either.

    The Engine would see within a second that the content is the same; here there is none.
    """
    good, link = bench.program("good"), users_folder(bench) / "link"
    enforce(bench, good)
    bench.kill_engine()
    link.hardlink_to(good)
    assert connects(bench, str(link)).errno == "EPERM"
    assert connects(bench, good).errno == "EPERM"
    bench.expect_hits(f"modified/{good}", 2)
    assert bench.kpf("accept", good).returncode == 0
    assert eventually(lambda: connects(bench, good).ok)
    assert connects(bench, str(link)).ok


@pytest.mark.parametrize("how", ["recreated", "rewritten", "renamed"])
def test_a_users_program_changed_by_the_user_loses_its_rights(bench: Bench, how: str) -> None:
    """The policy names a user's own file: another file there, and other contents in it, inherit nothing."""
    own = users_file(bench, "tool")
    enforce(bench, own)
    assert connects(bench, own).ok
    found = attack(bench, how, own, own).line()
    assert found.errno == "EPERM", found
    assert connects(bench, own).errno == "EPERM"
    bench.expect_log(application=own, action="deny")


def test_a_users_program_that_is_open_for_writing_has_no_rights_yet(bench: Bench) -> None:
    """Through a mapping that was there before `up` it changes with nobody told: it is taken in once that is closed.

    The Engine would take it in within a second of that; here there is none, and `reload` does.
    """
    own = users_file(bench, "tool")
    changing = attack(bench, "mapped", own, own)
    changing.event("ready")
    bench.up(policy=only(own))
    bench.peer("tcp-echo", SERVER, 7000)
    bench.kill_engine()
    assert any(own in warning and "open for writing" in warning for warning in bench.status()["warnings"])
    found = changing.say("go")
    assert found.errno == "EPERM", found
    assert connects(bench, own).errno == "EPERM"
    assert bench.kpf("reload").returncode == 0
    assert connects(bench, own).ok


def test_a_file_made_where_the_engine_saw_one_go_is_held_against_it(bench: Bench) -> None:
    """Deleted, and another file made there once the Engine has seen that: modified, not a new program."""
    own = users_file(bench, "tool")
    enforce(bench, own)
    data = Path(own).read_bytes()
    Path(own).unlink()
    assert eventually(lambda: own not in {one["path"] for one in bench.status()["applications"]})
    users_file(bench, "tool")
    assert eventually(lambda: connects(bench, own).ok), "the same content is the same program"
    Path(own).unlink()
    assert eventually(lambda: own not in {one["path"] for one in bench.status()["applications"]})
    Path(own).write_bytes(data[:-1] + b"x")
    Path(own).chmod(0o755)
    assert connects(bench, own).errno == "EPERM"
    assert eventually(lambda: {one["path"]: one["state"] for one in bench.status()["applications"]}.get(own))
    assert connects(bench, own).errno == "EPERM"
    bench.expect_hits(f"modified/{own}")


def test_another_file_mounted_over_the_good_one(bench: Bench) -> None:
    """A mount namespace of the user's own: what is mounted at the good path is what it was before, and so logged."""
    good, own = bench.program("good"), users_file(bench, "own")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "mounted-over", good, own), good)


def test_a_file_system_of_the_users_own_has_no_identity(bench: Bench, small: Path) -> None:
    """A tmpfs in the user's own namespaces, a copy of the good file with its inode number: unknown."""
    good = small / "good"
    shutil.copyfile(INTERPRETER, good)
    good.chmod(0o755)
    own = users_folder(bench) / "mounted"
    own.mkdir()
    os.chown(own, USER, USER)
    enforce(bench, str(good))
    gains_nothing(bench, attack(bench, "same-number", str(good), str(own)), str(good), "unknown")


def test_the_exe_link_is_not_what_was_executed(bench: Bench) -> None:
    """prctl(PR_SET_MM_MAP): /proc/PID/exe shows the good file afterwards, the program stays what it was."""
    good = bench.program("good")
    enforce(bench, good)
    gains_nothing(bench, attack(bench, "linked", good), good)


def test_an_older_process_is_what_it_executed(bench: Bench) -> None:
    """A process older than up, in the first user namespace, has its program's rights."""
    good = bench.program("good")
    bench.peer("tcp-echo", SERVER, 7000)
    right, wrong = (attack(bench, "wait", good, program=program) for program in (good, bench.program("bad")))
    for child in (right, wrong):
        child.event("ready")
    bench.up(policy=only(good))
    assert right.say("go").ok
    gains_nothing(bench, wrong, good, bench.program("bad"), "go")


def test_an_older_process_in_a_user_namespace_is_unknown(bench: Bench) -> None:
    """A process older than up in a user namespace of its own may lie about its file: unknown, even the good one."""
    good = bench.program("good")
    bench.peer("tcp-echo", SERVER, 7000)
    child = attack(bench, "own-namespace-wait", good, program=good)
    child.event("ready")
    bench.up(policy=only(good))
    gains_nothing(bench, child, good, "unknown", "go")


@pytest.mark.parametrize("how", ["linked-wait", "linked-by-a-child-wait"])
def test_an_older_process_that_lies_about_its_file_gains_nothing(bench: Bench, how: str) -> None:
    """Before up, /proc/PID/exe was made to show the good file, by the process or by a child sharing its memory."""
    good = bench.program("good")
    bench.peer("tcp-echo", SERVER, 7000)
    child = attack(bench, how, good)
    child.event("ready")
    bench.up(policy=only(good))
    gains_nothing(bench, child, good, line="go")


def test_a_root_that_moves_while_a_script_begins(bench: Bench) -> None:
    """A script's path is meant in the host's root: another file there, opened under another root, has no rights."""
    script, jail = bench.scripts / "tool", users_folder(bench) / "jail"
    own = compiled(users_folder(bench) / "own", PROGRAM, "-static")
    for inside in (script, Path(own)):
        (jail / inside.relative_to("/")).parent.mkdir(parents=True)
    (jail / own[1:]).hardlink_to(own)
    for path, interpreter in ((script, "/bin/true"), (jail / script.relative_to("/"), own)):
        path.write_text(f"#!{interpreter}\n")
        path.chmod(0o755)
    bench.up(policy=only(str(script)))
    bench.peer("tcp-echo", SERVER, 7000)
    attack(bench, "changing-root", str(script), str(jail)).event("ready", 30)
    bench.expect_hits("default/internet-out")
    assert bench.hits(f"application/{script}/internet-out") == 0


def test_the_engines_module_with_code_of_the_users(bench: Bench) -> None:
    """PYTHONPATH: the Engine's interpreter and command line, run by a user, have none of the Engine's rows."""
    package = users_folder(bench) / "kpf_ebpf" / "engine"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    text = (
        f'import os, runpy, sys\nsys.argv = os.environ["WORDS"].split()\nrunpy.run_path("{SENDER}", None, "__main__")'
    )
    (package / "__main__.py").write_text(text)
    as_the_engine(bench, "engine-pythonpath", str(users_folder(bench)))


def test_the_engines_command_with_a_preloaded_library(bench: Bench) -> None:
    """LD_PRELOAD: exactly the Engine's command, isolated, run by a user, has none of the Engine's rows."""
    library = compiled(users_folder(bench) / "preloaded.so", PRELOADED, "-shared", "-fPIC")
    as_the_engine(bench, "engine-preload", library)


def as_the_engine(bench: Bench, name: str, own: str) -> None:
    """Run the Engine's command as the user with code of the user's: denied, and no internal rule permits anything."""
    bench.up(policy=f'[preferences]\nproxy = "none"\n{DENY_ALL}')
    bench.peer("tcp-echo", SERVER, 7000)
    child = attack(bench, name, f"{COMMAND.with_name('python')}:{bench.instance}", own)
    gains_nothing(bench, child, str(COMMAND))
    bench.expect_hits("default/internet-out")
    assert not [rule for rule in bench.status()["rules"] if rule["id"].startswith("internal/") and rule["hits"]]
