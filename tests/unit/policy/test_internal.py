"""The internal rules as data."""

from __future__ import annotations

from kpf_ebpf.policy.internal import INTERNAL_RULES, InternalRule
from kpf_ebpf.policy.model import Direction

ORDER = [
    "remote-config/on",
    "remote-config/off",
    "gui-to-engine",
    "popup-log",
    "dns/engine",
    "dns/gui",
    "syslog",
    "crash-dumps",
    "registration/proxy",
    "registration/direct",
    "update-check/proxy",
    "engine-to-gui/off",
    "update-check/direct",
    "engine-to-gui/on",
]


def rules(rule_id: str) -> list[InternalRule]:
    """Return the rows of an id."""
    return [rule for rule in INTERNAL_RULES if rule.id == rule_id]


def test_the_order_is_from_narrow_to_wide() -> None:
    """So that the narrowest row gets the credit; rows of one id are neighbours."""
    assert list(dict.fromkeys(rule.id for rule in INTERNAL_RULES)) == ORDER
    positions = [ORDER.index(rule.id) for rule in INTERNAL_RULES]
    assert positions == sorted(positions)


def test_only_the_remote_configuration_comes_in_and_to_a_local_port() -> None:
    """An incoming rule's port is the service's."""
    assert {rule.id for rule in INTERNAL_RULES if rule.direction is Direction.IN} == {
        "remote-config/on",
        "remote-config/off",
    }
    for rule in INTERNAL_RULES:
        assert (rule.port_side == "local") == (rule.direction is Direction.IN)
        assert (rule.port_side == "any") == (rule.port == "any")
        assert rule.direction is not Direction.BOTH


def test_without_remote_administration_only_this_host_connects() -> None:
    """Both ways."""
    for rule in INTERNAL_RULES:
        if rule.condition == "remote-administration-off":
            assert rule.address == "localhost"
    assert rules("gui-to-engine")[0].address == "localhost"


def test_dns_goes_out_to_port_53_and_for_the_engine_to_its_resolvers() -> None:
    """Nothing comes in from port 53; TCP only to the resolvers in use."""
    assert [(rule.protocols, rule.port, rule.address) for rule in rules("dns/engine")] == [
        ((17,), "dns", "any"),
        ((17,), "resolvers", "resolvers"),
        ((6,), "resolvers", "resolvers"),
    ]
    (gui,) = rules("dns/gui")
    assert (gui.component, gui.protocols, gui.port_side, gui.address) == ("gui", (17,), "remote", "any")


def test_proxy_and_direct_rows_exclude_each_other() -> None:
    """By their conditions."""
    for name in ("registration", "update-check"):
        assert rules(f"{name}/proxy")[0].condition == "proxy"
        assert rules(f"{name}/direct")[0].condition == "no-proxy"


def test_the_pop_up_log_is_anybodys_and_always() -> None:
    """The only row of any application."""
    (rule,) = [rule for rule in INTERNAL_RULES if rule.component == "any"]
    assert (rule.id, rule.condition, rule.address, rule.port, rule.protocols) == (
        "popup-log",
        "always",
        "localhost",
        "popup",
        (6,),
    )


def test_every_row_quotes_a_source_row_that_says_the_same() -> None:
    """Six columns; program, direction and protocols agree with the data, but for "both" of DNS."""
    programs = {"engine": "kpf4ss.exe", "gui": "kpf4gui.exe", "assist": "assist.exe", "any": "any"}
    protocols = {(6,): "TCP", (17,): "UDP", (6, 17): "TCP+UDP"}
    for rule in INTERNAL_RULES:
        _, program, direction, protocol, _, _ = rule.quote.split(" | ")
        assert program == programs[rule.component]
        if rule.id.startswith("dns/"):
            assert (direction, protocol) == ("both", "UDP")
        else:
            assert direction == {Direction.IN: "incoming", Direction.OUT: "outgoing"}[rule.direction]
            assert protocol == protocols[rule.protocols]
    assert len({rule.quote for rule in INTERNAL_RULES}) == 14
