"""What a stock kernel can do of what the firewall uses: all that its series has must be there; the table shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kpf_ebpf.facts.system import home_cookie
from kpf_ebpf.kernel.hooks import HOOKS, OPTIONS_HOOK, SCRIPT_HOOK
from tests.e2e.bench import DENY_ALL, Bench
from tests.guest.series import series

Record = Callable[[str, object], None]


def told_to_user_space() -> bool:
    """Return whether a program can ask for its network namespace's cookie (SO_NETNS_COOKIE)."""
    try:
        return bool(home_cookie())
    except OSError:
        return False


def test_every_hook_is_attached(bench: Bench, record_testsuite_property: Record) -> None:
    """All hooks on every kernel of the matrix, with the one that sees a script's own file, and with the adapters'."""
    bench.up("--adapter", "v0", policy=DENY_ALL)
    hooks = {one["name"]: one["attached"] for one in bench.status()["hooks"]}
    for name, attached in hooks.items():
        record_testsuite_property(f"hook {name}", "attached" if attached else "missing")
    assert {hook.name for hook in (*HOOKS, OPTIONS_HOOK, SCRIPT_HOOK)} <= set(hooks) and all(hooks.values()), hooks


def test_doctor_has_nothing_to_complain_of(bench: Bench, record_testsuite_property: Record) -> None:
    """A stock kernel on Debian has everything that is needed."""
    found = json.loads(bench.kpf("doctor", "--json").stdout)
    for one in found:
        record_testsuite_property(f"doctor {one['name']}", "yes" if one["ok"] else "no")
    assert not [one for one in found if one["needed"] and not one["ok"]]


def test_what_a_series_has_is_there(record_testsuite_property: Record) -> None:
    """A program can ask for its network namespace since 5.14; whether BPF is a security module is only shown."""
    lsm = Path("/sys/kernel/security/lsm").read_text().split(",")
    cookie = told_to_user_space()
    record_testsuite_property("feature BPF LSM", "yes" if "bpf" in lsm else "no")
    record_testsuite_property("feature SO_NETNS_COOKIE", "yes" if cookie else "no")
    assert cookie == (series() >= (5, 14))
