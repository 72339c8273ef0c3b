"""Where the kernel shows a script's own file: a script is that file, by whatever path, or the AppImage it lies in.

Tests of tests/e2e that say the same by path elsewhere are run here, too.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.bench import DENY_ALL, SERVER, Bench
from tests.e2e.intruder import VERB, only
from tests.e2e.test_fuse import (
    appimage,
    run,
    test_an_appimage_is_what_it_runs_from_its_own_mount,
    test_what_an_appimage_executes_outside_its_mount_is_itself,
)
from tests.e2e.test_scripts import (
    cells,
    test_a_changed_script_is_modified,
    test_a_script_has_nothing_of_its_interpreters_rule,
    test_a_script_in_a_users_folder_is_not_known_by_path,
    test_another_mount_namespace_has_other_files,
    test_running_a_script_by_hand_gains_nothing,
)

__all__ = [
    "test_a_changed_script_is_modified",
    "test_a_script_has_nothing_of_its_interpreters_rule",
    "test_a_script_in_a_users_folder_is_not_known_by_path",
    "test_an_appimage_is_what_it_runs_from_its_own_mount",
    "test_another_mount_namespace_has_other_files",
    "test_running_a_script_by_hand_gains_nothing",
    "test_what_an_appimage_executes_outside_its_mount_is_itself",
]


def test_a_script_is_its_file_by_whatever_path(bench: Bench) -> None:
    """A relative path and a hard link are the same script here; a stock kernel takes the hook, and status shows it."""
    script = bench.script("tool")
    link = Path(script).with_name("link")
    link.hardlink_to(script)
    bench.up(policy=DENY_ALL + cells(script, "permit"))
    assert "script" in [hook["name"] for hook in bench.status()["hooks"]]
    bench.peer("tcp-echo", SERVER, 7000)
    words = ("tcp-connect", SERVER, "7000", "--text", "x")
    for path in (f"./{Path(script).name}", f"./{link.name}"):
        done = bench.real("sh", "-c", 'cd "$0" && exec "$@"', str(bench.scripts), path, *words)
        assert '"ok": true' in done.stdout, (path, done)
    bench.expect_hits(f"application/{script}/internet-out", 2)


def test_a_script_within_an_appimage_is_the_appimage(bench: Bench) -> None:
    """AppRun is often a shell script: it lies on the AppImage's mount, and acts as the AppImage."""
    good = appimage(bench, "good.AppImage")
    bench.up(policy=only(good))
    bench.peer("tcp-echo", SERVER, 7000)
    found = run(bench, good, "AppRun", *VERB).line()
    assert found.ok, found
    bench.expect_log(application=good, action="permit", id=f"application/{good}/internet-out")
