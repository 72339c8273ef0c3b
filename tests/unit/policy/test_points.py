"""Address sets, servers, the proxy and resolvers."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy import points
from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.model import ANY_ADDRESS, AddressSet, Proxy

from .factories import refusal


def test_a_point_is_an_address_a_name_a_group_or_the_trusted_area() -> None:
    """Each word keeps itself beside its meaning."""
    assert points.point_set("@trusted", ()) == AddressSet(trusted=True, words=("@trusted",))
    assert points.point_set("@office", {"office"}) == AddressSet(groups=("office",), words=("@office",))
    assert points.point_set("WWW.example", ()) == AddressSet(names=("www.example",), words=("WWW.example",))
    assert points.point_set("::1", ()) == AddressSet(ranges=((1, 1),), words=("::1",))


def test_an_unknown_group_gets_the_near_one_suggested() -> None:
    """Also "@trusted"."""
    assert refusal(points.point_set, "@offise", {"office"}).suggestion == "@office"
    assert refusal(points.point_set, "@trustd", ()).suggestion == "@trusted"


def test_all_and_trusted_are_words_of_other_places() -> None:
    """They are not taken for host names."""
    assert refusal(points.point_set, "all", ()).suggestion == "any"
    assert refusal(points.point_set, "trusted", ()).suggestion == "@trusted"


@pytest.mark.parametrize("value", ["@x", "@trusted", "any", "all", "a b", 5, "1.2.3.4.5"])
def test_groups_hold_addresses_and_names_only(value: object) -> None:
    """No groups in groups."""
    refusal(points.literal_set, value, True)


def test_names_are_allowed_only_where_asked_for() -> None:
    """The Trusted area has none."""
    refusal(points.literal_set, "example.org", False)
    assert points.literal_set("example.org", True).names == ("example.org",)


def test_a_union_merges_ranges_and_keeps_words_in_order() -> None:
    """Nothing at all is any."""
    parts = [points.point_set(word, {"g"}) for word in ("10.0.0.2", "10.0.0.1", "@g", "a.example", "A.example")]
    both = points.union(parts)
    assert len(both.ranges) == 1
    assert (both.names, both.groups) == (("a.example",), ("g",))
    assert both.words == ("10.0.0.2", "10.0.0.1", "@g", "a.example", "A.example")
    assert points.union([]) is ANY_ADDRESS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("system", "system"),
        ("none", "none"),
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://192.0.2.1:80/", Proxy("192.0.2.1", 80)),
        ("http://[2001:DB8::1]:8080", Proxy("2001:db8::1", 8080)),
    ],
)
def test_a_proxy_is_found_switched_off_or_named(value: str, expected: object) -> None:
    """Its host comes without brackets."""
    assert points.proxy(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "http://",
        "http://a",
        "http://a:0",
        "http://a:70000",
        "http://2001:db8::1:80",
        "http://[a]:80",
        "http://[::1]",
        "http://[::1]x:80",
        "http://a:80/path",
        "https://a:80",
        "http://a b:80",
        "a:80",
        3,
        "http://[::1:80",
    ],
)
def test_other_proxies_are_refused(value: object) -> None:
    """The port is required."""
    refusal(points.proxy, value)


def test_a_password_in_a_proxy_is_not_repeated() -> None:
    """Findings go to terminals and journals."""
    error = refusal(points.proxy, "http://me:secret@proxy.example:80")
    assert "secret" not in error.word + error.expected + error.suggestion


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("192.0.2.53", "192.0.2.53", 53),
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:db8::53]", "2001:db8::53", 53),
        ("[2001:db8::53]:54", "2001:db8::53", 54),
    ],
)
def test_a_resolver_is_an_address_perhaps_with_a_port(value: str, host: str, port: int) -> None:
    """53 if left out."""
    assert points.resolver(value) == (address(host), port)


@pytest.mark.parametrize(
    "value", ["", "dns.example", "192.0.2.53:", "192.0.2.53:0", "[192.0.2.53]:53", "[::1]:", "[::1]x", "[::1", 53]
)
def test_other_resolvers_are_refused(value: object) -> None:
    """A resolver by name could not be asked for itself."""
    refusal(points.resolver, value)


def test_a_server_is_a_name_or_an_address() -> None:
    """Both in their usual writing."""
    assert points.server("Logs.Example.") == "logs.example"
    assert points.server("2001:DB8::0") == "2001:db8::"
    refusal(points.server, "192.0.2.0/24")
