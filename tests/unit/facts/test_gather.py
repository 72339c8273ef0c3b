"""One look at the world, of which these tests read only what every machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpf_ebpf.facts import gather as module
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.gather import application_words, gather, gather_adapters
from kpf_ebpf.facts.model import FileKey, NameFact, Part, ProxyFact
from kpf_ebpf.facts.names import NOT_LOOKED_UP
from kpf_ebpf.policy.model import (
    Action,
    ApplicationRule,
    Components,
    PacketFilterRule,
    Policy,
    Preferences,
    Proxy,
    Where,
)

WHERE = Where("policy.toml")


def a_rule(*applications: str, users: tuple[str | int, ...] = (), cgroup: str | None = None) -> PacketFilterRule:
    """Make a packet filter rule."""
    return PacketFilterRule("rule", Action.DENY, WHERE, applications=applications, users=users, cgroup=cgroup)


def test_an_empty_policy_has_facts_of_the_machine() -> None:
    """Adapters are there whatever the policy says; what was passed in comes out."""
    facts = gather(Policy(), password_set=True, netns_cookie=7)
    assert facts.adapters[0].name == "lo"
    assert (facts.password_set, facts.netns_cookie) == (True, 7)
    assert not facts.applications and not facts.users and not facts.cgroups


def test_application_words_come_from_the_whole_policy_once() -> None:
    """Components, packet filter rules and application rules."""
    policy = Policy(
        components=Components(engine="/e", assist="/a"),
        packet_filter=(a_rule("/p", "/q"), a_rule()),
        applications=(ApplicationRule("/q", WHERE), ApplicationRule("/r/*", WHERE)),
    )
    assert application_words(policy) == ("/e", "/a", "/p", "/q", "/r/*")


def test_programs_users_and_cgroups_of_rules_are_looked_at(tmp_path: Path) -> None:
    """Found things are facts, missing things warnings."""
    program = tmp_path / "run"
    program.write_bytes(b"\x7fELF")
    rule = a_rule(str(program), "/no/such", users=("root", "no-such-user-here"), cgroup="/no/such/cgroup")
    key = FileKey(1, 2, 3, 4, 5)
    facts = gather(Policy(packet_filter=(rule,)), lambda descriptor: key)
    assert [fact.key for fact in facts.applications[str(program)]] == [key]
    assert facts.applications["/no/such"] == ()
    assert dict(facts.users) == {"root": 0}
    assert dict(facts.cgroups) == {"/no/such/cgroup": ()}
    warnings = "\n".join(facts.warnings)
    assert "application /no/such: no such program (yet)" in warnings
    assert "user no-such-user-here: no such user" in warnings
    assert "cgroup /no/such/cgroup: no" in warnings


def test_names_are_asked_of_whoever_is_given() -> None:
    """The proxy's host is one of them; every name of the policy is asked for, once."""
    policy = Policy(preferences=Preferences(proxy=Proxy("proxy.example", 3128)))
    asked: list[tuple[str, ...]] = []

    def names(wanted: tuple[str, ...]) -> dict[str, NameFact]:
        asked.append(wanted)
        return {"proxy.example": NameFact("proxy.example", (1,))}

    facts = gather(policy, names=names)
    assert facts.proxy == ProxyFact("proxy.example", 3128, "policy")
    assert facts.names["proxy.example"].addresses == (1,)
    assert asked == [("crashes.kerio.com", "secure.kerio.com", "proxy.example")]


def test_only_the_parts_asked_for_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else, warnings included, is as it was before."""
    before = gather(Policy(packet_filter=(a_rule("/no/such"),)))
    monkeypatch.setattr(module, "find_programs", lambda *_: pytest.fail("programs were looked at"))
    monkeypatch.setattr(module, "find_adapters", lambda: ())
    after = gather(Policy(packet_filter=(a_rule("/no/such"),)), before=before, parts={Part.ADAPTERS})
    assert before.adapters and not after.adapters
    assert after.warnings == before.warnings != ()


def test_without_resolving_nobody_is_asked() -> None:
    """Looking needs no network: a name that was not asked for says so, an address needs no asking."""
    policy = Policy(preferences=Preferences(proxy=Proxy("127.0.0.1", 3128)))
    facts = gather(policy)
    assert facts.names["secure.kerio.com"].error == NOT_LOOKED_UP
    assert facts.names["127.0.0.1"].addresses == (number("127.0.0.1"),)


def test_the_systems_proxy_is_found_and_its_problem_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process environment is the first place asked."""
    monkeypatch.setenv("https_proxy", "file:///etc/proxy.pac")
    facts = gather(Policy())
    assert facts.proxy.host is None
    assert any("preferences.proxy" in warning for warning in facts.warnings)


def test_a_silent_netlink_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without adapters the firewall still has facts."""

    def fail() -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(module, "find_adapters", fail)
    assert gather_adapters() == ((), ("adapters: Operation not permitted",))


def test_the_facts_cannot_be_changed() -> None:
    """Mappings are read-only."""
    facts = gather(Policy())
    with pytest.raises(TypeError):
        facts.names["x"] = None  # type: ignore[index]
