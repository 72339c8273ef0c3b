"""The proxy of KDE's settings for the whole machine."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import PAC, WPAD, Setting
from kpf_ebpf.facts.proxy_kde import FILE, kde_setting, parse_kioslaverc
from tests.unit.facts.test_proxy import a_world


def said(text: str, environ: dict[str, str] | None = None) -> Setting:
    """Ask KDE's place about these lines of its section; it must say something."""
    setting = kde_setting(a_world({FILE: f"[Proxy Settings]\n{text}"}, environ))
    assert setting is not None
    return setting


def test_without_a_type_nothing_is_said() -> None:
    """KDE's own default is no administrator's word."""
    assert kde_setting(a_world({})) is None
    assert kde_setting(a_world({FILE: "[Proxy Settings]\nhttpProxy=http://p:1\n[Other]\nProxyType=1"})) is None


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("0", ProxyFact(source=f"ProxyType in {FILE}: direct")),
        ("2", ProxyFact(source=f"ProxyType in {FILE}", problem=PAC)),
        ("3", ProxyFact(source=f"ProxyType in {FILE}", problem=WPAD)),
    ],
)
def test_types_without_a_proxy(kind: str, fact: ProxyFact) -> None:
    """Direct, a script, what the network announces."""
    assert said(f"ProxyType={kind}\nhttpProxy=http://p:1\nProxy Config Script=http://me:secret@w/").fact == fact


@pytest.mark.parametrize("kind", ["5", "-1", "secret", "1 "])
def test_an_unknown_type_is_a_problem_and_not_shown(kind: str) -> None:
    """Spaces around a value do not count."""
    fact = said(f"ProxyType={kind}\nhttpProxy=http://p:1").fact
    assert bool(fact.problem) is (kind != "1 ")
    assert "secret" not in fact.problem


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("http://proxy.example 3128", "proxy.example", 3128),
        ("http://proxy.example:3128", "proxy.example", 3128),
        ("http://proxy.example/ 3128", "proxy.example", 3128),
        ("proxy.example 3128", "proxy.example", 3128),
        ("http://proxy.example", "proxy.example", 80),
        ("http://me:secret@proxy.example 3128", "proxy.example", 3128),
        ("http://2001:db8::1 3128", "2001:db8::1", 3128),
        ("http://[2001:db8::1] 3128", "2001:db8::1", 3128),
        ("http://[2001:db8::1]:3128", "2001:db8::1", 3128),
    ],
)
def test_a_proxy_is_parsed_with_its_port_after_a_space_or_a_colon(value: str, host: str, port: int) -> None:
    """KDE writes the first, people the second."""
    assert said(f"ProxyType=1\nhttpProxy={value}").fact == ProxyFact(host, port, f"httpProxy in {FILE}")


@pytest.mark.parametrize(
    "value",
    [
        "http://me:secret@p 99999",
        "http://me:secret/x@p 3128",
        "http://$secret:3128",
        "secret p 3128",
        "ftp://secret:1",
        "http://p" + "x" * 3000,
    ],
)
def test_a_hostile_value_is_a_problem_and_never_shown(value: str) -> None:
    """Also one that needs $VARIABLES expanded."""
    fact = said(f"ProxyType=1\nhttpProxy[$e]={value}").fact
    assert fact.host is None and fact.problem and "secret" not in repr(fact)


def test_the_kinds_of_proxy_are_asked_in_order() -> None:
    """https, http, socks, whose default port is 1080; without any it is direct."""
    text = "ProxyType=1\nsocksProxy=s.example\nhttpProxy=http://h 2\nhttpsProxy=http://t 1\n"
    assert said(text).fact.host == "t"
    assert said(text.replace("httpsProxy=http://t 1", "httpsProxy=")).fact.host == "h"
    assert said("ProxyType=1\nsocksProxy=s.example").fact == ProxyFact("s.example", 1080, f"socksProxy in {FILE}")
    assert said("ProxyType=1").fact.source.endswith(": direct")


def test_type_4_names_environment_variables() -> None:
    """They are looked for wherever variables are, and so is the list of exceptions."""
    text = "ProxyType=4\nhttpProxy=COMPANY_PROXY\nNoProxyFor=COMPANY_DIRECT"
    environ = {"COMPANY_PROXY": "http://p:1", "COMPANY_DIRECT": ".kerio.com"}
    setting = said(text, environ)
    assert setting.fact.host == "p"
    assert setting.excepting(("secure.kerio.com", 443)) == "NoProxyFor"
    assert said(text).fact.source.endswith(": direct")
    files = {FILE: f"[Proxy Settings]\n{text}", "/etc/profile.d/x.sh": "export COMPANY_PROXY=http://q:1"}
    found = kde_setting(a_world(files))
    assert found is not None and found.fact.host == "q"


def test_exceptions_are_read_and_can_be_turned_round() -> None:
    """NoProxyFor lists who goes directly, with ReversedException who does not."""
    text = "ProxyType=1\nhttpProxy=http://p 1\nNoProxyFor=localhost,.kerio.com\n"
    server, other = ("secure.kerio.com", 443), ("example.org", 443)
    assert [said(text).excepting(one) for one in (server, other)] == ["NoProxyFor", ""]
    assert [said(f"{text}ReversedException=true").excepting(one) for one in (server, other)] == ["", "NoProxyFor"]


def test_flags_and_escapes_of_kdes_files_are_understood() -> None:
    """[$i] on a section or a key says that users cannot change it."""
    text = "[Proxy Settings][$i]\nProxyType[$i]=1\n#x=1\nhttpProxy[$ei] = http://p\\s1\nnonsense\n[Other]\ny=1"
    assert parse_kioslaverc(text) == {"ProxyType": "1", "httpProxy": "http://p 1"}
