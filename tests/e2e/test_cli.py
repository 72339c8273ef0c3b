"""The command line's contract: exit codes, JSON, and enforcement that does not hang on the Engine's life."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .bench import CLIENT, COMMAND, DENY_ALL, SERVER, Bench
from .tools import cgroup_mount, eventually

NO_ROOT_CGROUP = Path("/etc/kpf-ebpf/no-root-cgroup")
LOG_KEYS = [
    "line",
    "count",
    "date",
    "rule",
    "id",
    "origin",
    "application",
    "pid",
    "user",
    "direction",
    "local",
    "remote",
    "protocol",
    "action",
    "hook",
    "alert",
]
COMMANDS = "check up reload status explain rules log accept stop-all password doctor down"
RULE_KEYS = ["id", "origin", "description", "action", "hits", "packets", "bytes"]
STATUS_KEYS = [
    "enforcing",
    "engine",
    "instance",
    "cgroup",
    "generation",
    "policy",
    "hooks",
    "rules",
    "applications",
    "names",
    "maps",
    "events",
    "canary",
    "stop-all",
    "pending-confirm",
    "warnings",
]
TEN_MISTAKES = """\
[preferences]
popup-port = 70000
popup-blockin = true
proxy = "ftp://192.0.2.1"
[[trusted]]
description = "All"
address = "all"
[[packet-filter]]
description = "Ports of ICMP"
protocol = "icmp"
remote = { port = 80 }
action = "deny"
[[packet-filter]]
description = "Network"
remote = { address = "192.0.2.1/24" }
action = "permit"
[[packet-filter]]
description = "Ask"
action = "ask"
[[packet-filter]]
description = "Group"
remote = { address = "@nobody" }
action = "permit"
[[packet-filter]]
description = "Way"
direction = "sideways"
action = "permit"
[[application]]
path = "relative/path"
[default]
internet-in = "perhaps"
"""
MISTAKEN_LINES = (2, 3, 4, 11, 15, 19, 22, 26, 29, 31)


def good(bench: Bench) -> str:
    """Return a policy where the program "good" may initiate."""
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\ninternet-out = "permit"\nlog = true\n'


def test_check_tells_every_mistake_at_once(bench: Bench) -> None:
    """check: every error at once with file, line, key, reason; exit status 2."""
    done = bench.check(TEN_MISTAKES)
    assert done.returncode == 2, done
    text = done.stdout + done.stderr
    for line in MISTAKEN_LINES:
        assert f"{bench.policy}:{line}:" in text, (line, text)


def test_check_takes_a_good_policy(bench: Bench) -> None:
    """check: exit status 0."""
    assert bench.check(good(bench)).returncode == 0


def test_up_with_a_bad_policy_changes_nothing(bench: Bench) -> None:
    """up: an invalid policy is exit status 2 and leaves no trace."""
    bench.write_policy(TEN_MISTAKES)
    done = bench.kpf("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--yes")
    assert done.returncode == 2, done
    assert bench.kpf("status").returncode == 1
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.run(bench.program("any"), "tcp-connect", SERVER, 7000, "--text", "x").ok


def test_reload_of_a_bad_policy_changes_nothing(bench: Bench) -> None:
    """reload: a bad file changes nothing; exit status 2."""
    bench.up(policy=good(bench))
    generation = bench.status()["generation"]
    bench.write_policy(TEN_MISTAKES)
    assert bench.kpf("reload").returncode == 2
    assert bench.status()["generation"] == generation
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000).errno == "EPERM"


def test_status_says_whether_it_is_really_enforcing(bench: Bench) -> None:
    """status: 1 before up, 0 after with every key of the contract, 1 after down."""
    assert bench.kpf("status").returncode == 1
    bench.up(policy=good(bench))
    assert bench.kpf("status").returncode == 0
    found = bench.status()
    assert set(STATUS_KEYS) <= set(found), set(STATUS_KEYS) - set(found)
    assert found["enforcing"] is True and found["instance"] == bench.instance and found["engine"] > 1
    assert bench.cgroup_name in found["cgroup"]
    assert found["hooks"] and all(hook["attached"] for hook in found["hooks"])
    assert all(set(RULE_KEYS) <= set(rule) for rule in found["rules"])
    assert found["policy"]["file"] == str(bench.policy)
    assert found["canary"]["ok"] is True
    assert found["stop-all"] is False and found["pending-confirm"] is None
    assert bench.kpf("down").returncode == 0
    assert bench.kpf("status").returncode == 1


def test_down_removes_everything_and_may_be_repeated(bench: Bench) -> None:
    """down: enforcement ends, nothing stays behind; nothing there is exit status 0."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000).errno == "EPERM"
    engine = bench.status()["engine"]
    assert bench.kpf("down").returncode == 0
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000, "--text", "x").ok
    assert eventually(lambda: not Path(f"/proc/{engine}").exists())
    assert not Path("/run/kpf-ebpf", bench.instance).exists()
    assert not Path("/sys/fs/bpf/kpf-ebpf", bench.instance).exists()
    assert bench.kpf("down").returncode == 0


def test_up_refuses_the_root_cgroup_where_that_is_forbidden(bench: Bench) -> None:
    """up: refuses the root cgroup while /etc/kpf-ebpf/no-root-cgroup exists; one line says the cause."""
    if not NO_ROOT_CGROUP.exists():
        pytest.fail(f"make {NO_ROOT_CGROUP} first: this test never risks the root cgroup")
    bench.write_policy("")
    for root in ("/", str(cgroup_mount())):
        done = bench.kpf("up", "--policy", str(bench.policy), "--cgroup", root, "--yes")
        assert done.returncode == 1, done
        assert str(NO_ROOT_CGROUP) in done.stderr, done
    assert bench.kpf("status").returncode == 1


def test_up_again_replaces_without_a_gap(bench: Bench) -> None:
    """up again = replace: the new policy holds, and a live permitted connection lives on."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "tcp-session", SERVER, 7000)
    assert live.line().ok
    bench.up(policy=good(bench) + f'[[application]]\npath = "{bench.program("new")}"\ninternet-out = "permit"\n')
    assert live.say("echo one").ok
    assert bench.run(bench.program("new"), "tcp-connect", SERVER, 7000, "--text", "x").ok
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000).errno == "EPERM"


@pytest.mark.parametrize("name", ["good", "bad"])
@pytest.mark.parametrize(("direction", "protocol"), [("out", "tcp"), ("out", "udp"), ("in", "tcp")])
def test_explain_agrees_with_what_happens(bench: Bench, name: str, direction: str, protocol: str) -> None:
    """explain: the action and the rule id it tells are those of the real flow; exit status 0 either way."""
    bench.up(policy=good(bench))
    path = bench.program(name)
    flow = ["--app", path, "--direction", direction, "--protocol", protocol, "--remote", f"{SERVER}:7000"]
    local = ["--local", f"{CLIENT}:7001"] if direction == "in" else []
    done = bench.kpf("explain", *flow, *local, "--json")
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    if direction == "in":
        bench.serve(path, "tcp-echo", CLIENT, 7001)
        happened = bench.outsider("tcp-connect", CLIENT, 7001, "--local-port", 7000)
    else:
        bench.peer(f"{protocol}-echo", SERVER, 7000)
        happened = bench.run(path, "tcp-connect" if protocol == "tcp" else "udp-send", SERVER, 7000)
    assert told["action"] == ("permit" if happened.ok else "deny"), (told, happened)
    bench.expect_hits(told["id"])


def test_enforcement_outlives_the_engine(bench: Bench) -> None:
    """status: with the Engine killed still enforcing, engine null, exit status 0; down cleans up without it."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    bench.kill_engine()
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7000, "--text", "x").ok
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000).errno == "EPERM"
    found = bench.status()
    assert found["enforcing"] is True and found["engine"] is None
    assert bench.kpf("status").returncode == 0
    bench.expect_hits("default/internet-out")
    assert bench.kpf("down").returncode == 0
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000, "--text", "x").ok


def test_stop_all_outlives_the_engine(bench: Bench) -> None:
    """stop-all: denies everything, outlives the Engine, and can be switched off without it."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.kpf("stop-all", "on").returncode == 0
    bench.kill_engine()
    assert bench.status()["stop-all"] is True
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7000).errno == "EPERM"
    bench.expect_hits("stop-all")
    assert bench.kpf("stop-all", "off").returncode == 0
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7000, "--text", "x").ok


def test_rules_lists_the_ids_in_order(bench: Bench) -> None:
    """rules --json: the ordered list as enforced; internal rules only when asked for, and then first."""
    bench.up(
        policy=good(bench) + '[[packet-filter]]\ndescription = "First"\naction = "deny"\nremote = { port = 9 }\n'
        'protocol = "tcp"\n'
    )
    plain = [rule["id"] for rule in json.loads(bench.kpf("rules", "--json").stdout)]
    every = [rule["id"] for rule in json.loads(bench.kpf("rules", "--internal", "--json").stdout)]
    wanted = ["packet-filter/First", f"application/{bench.program('good')}/internet-out", "default/internet-out"]
    assert [rule for rule in plain if rule in wanted] == wanted
    assert not [rule for rule in plain if rule.startswith("internal/")]
    assert every.index("internal/gui-to-engine") < every.index("guard/44334") < every.index(wanted[0])
    assert len(set(every)) == len(every)


def test_log_has_the_keys_of_the_contract(bench: Bench) -> None:
    """log --json: one object a line with the contract's keys; identical consecutive records are one with a count."""
    bench.up(policy=good(bench))
    path = bench.program("bad")
    assert bench.run(path, "tcp-connect", SERVER, 7000).errno == "EPERM"
    record = bench.expect_log(id="default/internet-out", application=path)
    assert set(LOG_KEYS) <= set(record), set(LOG_KEYS) - set(record)
    assert record["action"] == "deny" and record["direction"] == "out" and record["protocol"] == "tcp"
    assert record["remote"] == f"{SERVER}:7000" and record["origin"] == "default" and record["count"] >= 1


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_takes_an_instance(bench: Bench, command: str) -> None:
    """The contract: kpf-ebpf COMMAND [--instance NAME], for every command."""
    done = bench.kpf(command, "--help")
    assert done.returncode == 0 and "--instance" in done.stdout, done


def test_usage_mistakes_are_exit_status_2(bench: Bench) -> None:
    """Usage: an unknown command, a missing argument, an instance's name with a blank."""
    assert bench.kpf("frobnicate").returncode == 2
    assert bench.kpf("stop-all").returncode == 2
    done = subprocess.run([COMMAND, "status", "--instance", "a b"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "a b" in done.stderr
