"""One proxy address, and the hosts that go past it."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import (
    MAX_FILES,
    MAX_VALUE,
    PAC,
    Setting,
    is_excepted,
    parse_proxy,
    proxy_at,
    redacted,
    safe_names,
)


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("http://proxy.example:3128/", "proxy.example", 3128),
        ("http://proxy.example", "proxy.example", 80),
        ("https://proxy.example", "proxy.example", 443),
        ("socks5h://proxy.example", "proxy.example", 1080),
        ("socks://192.0.2.1", "192.0.2.1", 1080),
        ("proxy.example:8080", "proxy.example", 8080),
        ("http://[2001:DB8::1]:3128", "2001:db8::1", 3128),
        ("http://[2001:db8::1]", "2001:db8::1", 80),
        ("http://[fe80::1%25eth0]:3128", "fe80::1", 3128),
        ("http://user:secret@[::ffff:192.0.2.1]:3128", "192.0.2.1", 3128),
        ("HTTP://user:secret@Proxy.example:3128", "proxy.example", 3128),
        ("socks5://user:secret@proxy.example", "proxy.example", 1080),
        ("localhost:3128", "localhost", 3128),
    ],
)
def test_a_proxy_address_is_parsed(value: str, host: str, port: int) -> None:
    """Schemes give default ports; user and password are stripped."""
    assert parse_proxy(value, "s") == ProxyFact(host, port, "s")


@pytest.mark.parametrize(
    "value",
    [
        "http://",
        "http://proxy:99999",
        "http://proxy:0",
        "http://proxy:port",
        "http://[::1",
        "http://[nonsense]:1",
        "ftp://proxy:21",
        "http://pro\nxy:80",
        "http://proxy\x1b[31m:80",
        "http://proxy :80",
        "http://pröxy:80",
        "http://-proxy:80",
        "http://a,b:80",
        "http://" + "a" * 254 + ":80",
        "http://" + "a" * MAX_VALUE,
        "http://user:secret/word@proxy:80",
        "http://secret:80/word@proxy:80",
        "http://user:secret@proxy:secret",
        "http://user:secret@pro\x00xy",
    ],
)
def test_a_hostile_value_is_a_problem_and_never_shown(value: str) -> None:
    """The problem names the setting that overrides it, in printable words, without the value."""
    fact = parse_proxy(value, "s")
    assert (fact.host, fact.port) == (None, 0)
    assert "preferences.proxy" in fact.problem
    assert "secret" not in fact.problem
    assert fact.problem.isprintable()


@pytest.mark.parametrize("value", ["file:///etc/x.pac", "http://user:secret@host/Proxy.PAC?x=1", "pac+http://host/x"])
def test_a_scripts_address_is_a_problem(value: str) -> None:
    """It cannot be evaluated here; the setting that overrides it is named, the address is not shown."""
    assert parse_proxy(value, "s") == ProxyFact(source="s", problem=PAC)
    assert "preferences.proxy" in PAC


@pytest.mark.parametrize(("host", "port"), [("me:secret@host", 80), ("", 80), ("host", 0), ("host", 65536), ("a b", 1)])
def test_a_host_and_port_given_apart_are_checked_alike(host: str, port: int) -> None:
    """A host with a user in it is none."""
    fact = proxy_at(host, port, "s")
    assert fact.host is None and fact.problem and "secret" not in repr(fact)


def test_a_fact_is_shown_as_people_write_it() -> None:
    """Brackets for IPv6, "direct" for none."""
    assert redacted(ProxyFact("proxy.example", 80)) == "proxy.example:80"
    assert redacted(ProxyFact("2001:db8::1", 80)) == "[2001:db8::1]:80"
    assert redacted(ProxyFact()) == "direct"
    assert redacted(ProxyFact(problem="no")) == "no"


@pytest.mark.parametrize(
    ("exceptions", "host", "covered"),
    [
        ("*", "secure.kerio.com", True),
        ("kerio.com", "secure.kerio.com", True),
        (".KERIO.com", "Secure.Kerio.com.", True),
        ("a.example *.kerio.com", "secure.kerio.com", True),
        ("secure.kerio.com:443", "secure.kerio.com", True),
        ("secure.kerio.com:80", "secure.kerio.com", False),
        ("erio.com", "secure.kerio.com", False),
        ("", "secure.kerio.com", False),
        (",. ,*.", "secure.kerio.com", False),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("192.0.2.0/99", "192.0.2.7", False),
        ("*", "", False),
    ],
)
def test_exceptions_cover_names_with_all_below_and_networks(exceptions: str, host: str, covered: bool) -> None:
    """Case and trailing dots do not count; a port in an entry must be the registration port."""
    assert is_excepted((host, 443), exceptions) is covered


def test_an_empty_list_of_exceptions_excepts_nobody() -> None:
    """Not even when it is turned round; nor is a server without a name excepted."""
    assert Setting(ProxyFact(), (("x", " , "),), only_listed=True).excepting(("host", 1)) == ""
    assert Setting(ProxyFact(), (("x", "*"),)).excepting(("", 1)) == ""
    assert Setting(ProxyFact(), (("x", "other"), ("y", "host"))).excepting(("host", 1)) == "y"


def test_file_names_are_bounded_and_printable() -> None:
    """Hidden names, and those with spaces or control characters, are left out."""
    assert safe_names(["b.sh", ".a.sh", "a.sh", "c d.sh", "e\x1b.sh", "f.txt", "-g.sh"], ".sh") == ["a.sh", "b.sh"]
    assert len(safe_names([f"{index}" for index in range(MAX_FILES + 1)])) == MAX_FILES
