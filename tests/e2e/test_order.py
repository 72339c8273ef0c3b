"""The order of evaluation: each step goes before the next one."""

from __future__ import annotations

from pathlib import Path

from .bench import CLIENT, DENY_ALL, SERVER, Bench
from .components import firewall
from .components import policy as components
from .tools import eventually


def application(path: str, action: str) -> str:
    """Return an application rule with this action in all cells."""
    cells = "".join(f'{zone}-{way} = "{action}"\n' for zone in ("trusted", "internet") for way in ("in", "out"))
    return f'[[application]]\npath = "{path}"\n{cells}log = true\n'


def filter_rule(action: str, description: str = "All", **fields: str) -> str:
    """Return a packet filter rule; fields are TOML values."""
    lines = "".join(f"{key} = {value}\n" for key, value in fields.items())
    return f'[[packet-filter]]\ndescription = "{description}"\naction = "{action}"\nlog = true\n{lines}'


def stop_all(bench: Bench, switch: str) -> None:
    """Turn the stop-all switch."""
    done = bench.kpf("stop-all", switch)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stop_all_beats_state(bench: Bench) -> None:
    """Step 1 before 2: stop-all cuts a live connection, and new ones pass once it is off."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + application(path, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(path, "tcp-session", SERVER, 7000)
    assert live.line().ok
    assert live.say("echo one").ok
    stop_all(bench, "on")
    assert bench.status()["stop-all"] is True
    assert not live.say("echo two").ok
    bench.expect_hits("stop-all")
    stop_all(bench, "off")
    assert bench.status()["stop-all"] is False
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "three").ok


def test_stop_all_beats_the_internal_rules_except_gui_to_engine(bench: Bench) -> None:
    """Step 1 before 3: of all traffic only the loopback GUI-Engine connection on 44334 stays, both halves."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "tcp-echo", "127.0.0.1", 44334)
    bench.serve(parts["engine"], "tcp-echo", "127.0.0.1", 44501)
    bench.peer("udp-echo", SERVER, 53)
    stop_all(bench, "on")
    assert bench.run(parts["gui"], "tcp-connect", "127.0.0.1", 44334, "--text", "hello").ok
    assert not bench.run(parts["gui"], "udp-send", SERVER, 53, "--expect").ok
    assert not bench.run(parts["other"], "tcp-connect", "127.0.0.1", 44501).ok
    assert not bench.run(parts["other"], "tcp-connect", "127.0.0.1", 44334).ok
    bench.expect_hits("stop-all", 3)


def test_stop_all_beats_every_permit_of_the_user(bench: Bench) -> None:
    """Step 1 before 6 to 9: a policy that permits everything permits nothing then, in either direction."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + filter_rule("permit") + application(path, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    bench.serve(path, "tcp-echo", CLIENT, 7001)
    stop_all(bench, "on")
    assert bench.run(path, "tcp-connect", SERVER, 7000).errno == "EPERM"
    assert bench.run(path, "udp-send", SERVER, 7000).errno == "EPERM"
    assert not bench.outsider("tcp-connect", CLIENT, 7001).ok
    bench.expect_hits("stop-all", 3)


def test_state_beats_a_deny_for_replies(bench: Bench) -> None:
    """Step 2 before 6: packets of a permitted flow pass although a rule denies everything incoming."""
    path = bench.program("good")
    rules = filter_rule("permit", "Out", direction='"out"') + filter_rule("deny", "In", direction='"in"')
    bench.up(policy=DENY_ALL + rules)
    bench.peer("tcp-echo", SERVER, 7000)
    bench.peer("udp-echo", SERVER, 7000)
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    assert bench.run(path, "udp-send", SERVER, 7000, "--text", "hello", "--expect").ok
    bench.expect_hits("packet-filter/Out", 2)
    assert bench.hits("packet-filter/In") == 0


def test_internal_rules_beat_the_guard(bench: Bench) -> None:
    """Step 3 before 4: what remote-config permits is not guarded; the same port from outside is."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "tcp-echo", "0.0.0.0", 44334)
    assert bench.run(parts["gui"], "tcp-connect", "127.0.0.1", 44334, "--text", "hello").ok
    bench.expect_hits("internal/remote-config/off")
    assert bench.hits("guard/44334") == 0
    assert not bench.outsider("tcp-connect", CLIENT, 44334).ok
    bench.expect_hits("guard/44334")


def test_internal_rules_beat_the_packet_filter(bench: Bench) -> None:
    """Step 3 before 6: a packet filter rule that denies everything leaves the internal rules in force."""
    parts = firewall(bench, rest=DENY_ALL + filter_rule("deny"))
    bench.peer("udp-echo", SERVER, 53)
    bench.serve(parts["engine"], "tcp-echo", "127.0.0.1", 44334)
    assert bench.run(parts["gui"], "udp-send", SERVER, 53, "--expect").ok
    assert bench.run(parts["gui"], "tcp-connect", "127.0.0.1", 44334, "--text", "hello").ok
    assert bench.run(parts["other"], "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_hits("internal/dns/gui")
    bench.expect_hits("packet-filter/All")


def test_the_guard_beats_the_packet_filter(bench: Bench) -> None:
    """Step 4 before 6: no user rule opens 44334 (TCP, UDP) or TCP 44501; UDP 44501 is not guarded."""
    path = bench.program("server")
    bench.up(policy=DENY_ALL + filter_rule("permit") + application(path, "permit"))
    for verb, port in (("tcp", 44334), ("udp", 44334), ("tcp", 44501), ("udp", 44501)):
        bench.serve(path, f"{verb}-echo", CLIENT, port)
    assert not bench.outsider("tcp-connect", CLIENT, 44334).ok
    assert not bench.outsider("udp-send", CLIENT, 44334, "--expect").ok
    bench.expect_hits("guard/44334", 2)
    assert not bench.outsider("tcp-connect", CLIENT, 44501).ok
    bench.expect_hits("guard/44501")
    assert bench.outsider("udp-send", CLIENT, 44501, "--text", "hello", "--expect").ok


def test_the_guard_leaves_flows_going_out_alone(bench: Bench) -> None:
    """Step 4: flows going out from or to these port numbers are untouched."""
    path = bench.program("client")
    bench.up(policy=DENY_ALL + application(path, "permit"))
    bench.peer("tcp-echo", SERVER, 44334)
    bench.peer("udp-echo", SERVER, 44501)
    assert bench.run(path, "tcp-connect", SERVER, 44334, "--text", "x", "--local-port", 44501).ok
    assert bench.run(path, "udp-send", SERVER, 44501, "--text", "x", "--local-port", 44334, "--expect").ok
    bench.expect_hits(f"application/{path}/internet-out", 2)


def test_a_modified_program_is_denied_before_the_packet_filter(bench: Bench) -> None:
    """Step 5 before 6: a named program whose file changed is denied everything, until it is accepted."""
    path = bench.program("editor")
    bench.up(policy=DENY_ALL + filter_rule("permit") + application(path, "permit"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    with Path(path).open("ab") as file:
        file.write(b"changed")
    assert bench.run(path, "tcp-connect", SERVER, 7000).errno == "EPERM"
    bench.expect_hits(f"modified/{path}")
    assert eventually(
        lambda: any(one["path"] == path and "modified" in str(one["state"]) for one in bench.status()["applications"])
    )
    assert bench.kpf("reload").returncode == 0
    assert bench.run(path, "tcp-connect", SERVER, 7000).errno == "EPERM", "a reload accepts nothing"
    done = bench.kpf("accept", path)
    assert done.returncode == 0, done.stderr
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok


def test_a_modified_component_is_none(bench: Bench) -> None:
    """Components are files: a modified component has no internal rules."""
    parts = firewall(bench)
    bench.peer("udp-echo", SERVER, 53)
    assert bench.run(parts["gui"], "udp-send", SERVER, 53, "--expect").ok
    with Path(parts["gui"]).open("ab") as file:
        file.write(b"changed")
    assert bench.run(parts["gui"], "udp-send", SERVER, 53).errno == "EPERM"


def test_the_first_packet_filter_rule_that_matches_decides(bench: Bench) -> None:
    """Step 6: the user's list, top to bottom."""
    rules = filter_rule("deny", "One port", protocol='"tcp"', remote="{ port = 7001 }")
    bench.up(policy=DENY_ALL + rules + filter_rule("permit", "Rest"))
    path = bench.program("any")
    bench.peer("tcp-echo", SERVER, 7000)
    bench.peer("tcp-echo", SERVER, 7001)
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    assert bench.run(path, "tcp-connect", SERVER, 7001).errno == "EPERM"
    bench.expect_hits("packet-filter/Rest")
    bench.expect_hits("packet-filter/One port")
    bench.expect_log(id="packet-filter/One port", origin="packet-filter", rule="One port", application=path)


def test_the_packet_filter_beats_the_predefined_rules(bench: Bench) -> None:
    """Step 6 before 7: the user's deny of UDP 53 goes before the predefined permit of name lookups."""
    policy = filter_rule("deny", "No names", protocol='"udp"', remote="{ port = 53 }")
    bench.up(policy=policy)
    bench.peer("tcp-echo", SERVER, 53)
    path = bench.program("any")
    assert bench.run(path, "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_hits("packet-filter/No names")
    assert bench.run(path, "tcp-connect", SERVER, 53, "--text", "name?").ok
    bench.expect_hits("predefined/dns/internet")


def test_the_predefined_rules_beat_the_application_rules(bench: Bench) -> None:
    """Step 7 before 8: predefined dns permits, although every cell of the application denies."""
    path = bench.program("bad")
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true") + application(path, "deny"))
    bench.peer("udp-echo", SERVER, 53)
    assert bench.run(path, "udp-send", SERVER, 53, "--text", "name?", "--expect").ok
    bench.expect_hits("predefined/dns/internet")
    assert bench.run(path, "udp-send", SERVER, 54).errno == "EPERM"
    bench.expect_hits(f"application/{path}/internet-out")


def test_a_predefined_deny_beats_an_application_permit(bench: Bench) -> None:
    """Step 7 before 8: predefined dns denies, although every cell of the application permits."""
    path = bench.program("good")
    predefined = '[predefined]\ndns = { trusted = "deny", internet = "deny" }\n'
    bench.up(policy=predefined + application(path, "permit"))
    assert bench.run(path, "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_hits("predefined/dns/internet")


def test_the_application_rule_beats_the_default(bench: Bench) -> None:
    """Step 8 before 9: either way round."""
    good, bad = bench.program("good"), bench.program("bad")
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up(policy=DENY_ALL + application(good, "permit"))
    assert bench.run(good, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    assert bench.run(bad, "tcp-connect", SERVER, 7000).errno == "EPERM"
    bench.expect_hits("default/internet-out")
    bench.reload(DENY_ALL.replace('"deny"', '"permit"') + application(bad, "deny"))
    assert bench.run(bad, "tcp-connect", SERVER, 7000).errno == "EPERM"
    bench.expect_hits(f"application/{bad}/internet-out")


def test_a_component_named_in_a_user_rule_keeps_its_internal_rules(bench: Bench) -> None:
    """Step 3 before 8: an application rule that denies the GUI everything leaves its internal rules in force."""
    gui = bench.program("gui")
    bench.up(policy=components(bench) + application(gui, "deny"))
    bench.peer("udp-echo", SERVER, 53)
    assert bench.run(gui, "udp-send", SERVER, 53, "--expect").ok
    assert bench.run(gui, "udp-send", SERVER, 54).errno == "EPERM"
    bench.expect_hits("internal/dns/gui")
    bench.expect_hits(f"application/{gui}/internet-out")
