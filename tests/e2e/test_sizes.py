"""Policies of every size: the last rule counts as much as the first, and what no rule names still gets the default."""

from __future__ import annotations

import pytest

from .bench import DENY_ALL, SERVER, SERVER6, Bench


def rule(number: int, address: str, action: str) -> str:
    """Return one packet filter rule for one address and one port."""
    return (
        f'[[packet-filter]]\ndescription = "Rule {number}"\ndirection = "out"\nprotocol = "tcp"\n'
        f'remote = {{ address = "{address}", port = 7000 }}\naction = "{action}"\n'
    )


@pytest.mark.parametrize("count", [1, 1_000, 10_000])
def test_the_last_of_many_rules_decides(bench: Bench, count: int) -> None:
    """Rules for other addresses come first: the one that names the server permits, for its port only, and no other."""
    others = [rule(number, f"10.{number >> 8}.{number & 255}.1", "deny") for number in range(1, count)]
    bench.up(policy="".join([*others, rule(count, SERVER, "permit")]) + DENY_ALL)
    bench.peer("tcp-echo", "::", 7000, "--dual")
    path = bench.program("any")
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    assert bench.run(path, "tcp-connect", SERVER, 7001).errno == "EPERM"
    assert bench.run(path, "tcp-connect", SERVER6, 7000).errno == "EPERM"
    bench.expect_hits(f"packet-filter/Rule {count}")
    bench.expect_hits("default/internet-out", 2)
    if count > 1:
        assert bench.run(path, "tcp-connect", "10.0.1.1", 7000).errno == "EPERM"
        bench.expect_hits("packet-filter/Rule 1")


def test_more_rules_than_there_is_room_for_change_nothing(bench: Bench) -> None:
    """15,360 rules and alternatives at most: one line says so, and the old policy stands."""
    path = bench.program("good")
    good = f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-out = "permit"\n'
    bench.up(policy=good)
    bench.peer("tcp-echo", SERVER, 7000)
    generation = bench.status()["generation"]
    bench.write_policy("".join(rule(number, f"10.{number >> 8}.{number & 255}.1", "deny") for number in range(17_000)))
    done = bench.kpf("reload")
    assert done.returncode in (1, 2) and "at most" in done.stderr and "nothing was changed" in done.stderr, done
    assert bench.status()["generation"] == generation
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "x").ok


def test_a_block_list_of_many_networks_is_one_rule(bench: Bench) -> None:
    """A group file of 20,000 networks: an address in the last one is denied, one beside it is not."""
    networks = [f"11.{number >> 8}.{number & 255}.0/24" for number in range(20_000)]
    (bench.folder / "blocked.txt").write_text("\n".join([*networks, f"{SERVER}/32"]))
    blocked = '[[packet-filter]]\ndescription = "Blocked"\nremote = { address = "@blocked" }\naction = "deny"\n'
    path = bench.program("good")
    rest = f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-out = "permit"\n'
    bench.up(policy='[groups]\nblocked = { file = "blocked.txt" }\n' + blocked + rest)
    bench.peer("tcp-echo", "::", 7000, "--dual")
    assert bench.run(path, "tcp-connect", SERVER, 7000).errno == "EPERM"
    assert bench.run(path, "tcp-connect", SERVER6, 7000, "--text", "x").ok
    bench.expect_hits("packet-filter/Blocked")
