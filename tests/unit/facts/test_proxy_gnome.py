"""The proxy of GNOME's settings for the whole machine."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import PAC, WPAD, Setting
from kpf_ebpf.facts.proxy_gnome import gnome_files, gnome_setting, parse_key_file
from tests.unit.facts.test_proxy import a_world, listing

DB = "/etc/dconf/db"
PROFILE = "/etc/dconf/profile/user"


def manual(host: str = "p", port: int = 1) -> str:
    """Write a key file that names a proxy for https."""
    return f"[system/proxy]\nmode='manual'\n[system/proxy/https]\nhost='{host}'\nport={port}\n"


def said(files: dict[str, str]) -> Setting:
    """Ask GNOME's place in a world of these files, which must say something."""
    setting = gnome_setting(a_world(files))
    assert setting is not None
    return setting


def test_without_a_mode_nothing_is_said() -> None:
    """The schema's own default is no administrator's word."""
    assert gnome_setting(a_world({})) is None
    assert gnome_setting(a_world({f"{DB}/local.d/x": "[system/proxy/http]\nhost='p'\nport=1"})) is None


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("mode='none'", ProxyFact(source="mode in GNOME's system settings: direct")),
        (
            "mode='auto'\nautoconfig-url='http://me:secret@w/x'",
            ProxyFact(source="mode in GNOME's system settings", problem=PAC),
        ),
        ('mode="auto"', ProxyFact(source="mode in GNOME's system settings", problem=WPAD)),
    ],
)
def test_modes_without_a_proxy(text: str, fact: ProxyFact) -> None:
    """None is direct; auto is a script, or what the network announces, neither evaluated here."""
    assert said({f"{DB}/local.d/x": f"[system/proxy]\n{text}"}).fact == fact


def test_an_unknown_mode_is_a_problem_and_not_shown() -> None:
    """The value may be anything."""
    fact = said({f"{DB}/local.d/x": "[system/proxy]\nmode='secret'"}).fact
    assert fact.problem and "secret" not in fact.problem


def test_the_kinds_of_proxy_are_asked_in_order() -> None:
    """https, http, socks; one without host or with port 0 is not set, http's port is 8080 where none is given."""
    kinds = {"https": "port=1", "http": "", "socks": "port=uint16 3"}
    text = "[system/proxy]\nmode='manual'\n"
    texts = {kind: f"[system/proxy/{kind}]\nhost='{kind}.example'\n{port}\n" for kind, port in kinds.items()}
    for kind, port in (("https", 1), ("http", 8080), ("socks", 3)):
        fact = said({f"{DB}/local.d/x": text + "".join(texts.values())}).fact
        assert fact == ProxyFact(f"{kind}.example", port, f"{kind} in GNOME's system settings")
        texts[kind] = texts[kind].replace(f"'{kind}.example'", "''")
    assert said({f"{DB}/local.d/x": text + "".join(texts.values())}).fact.source.endswith(": direct")
    assert said({f"{DB}/local.d/x": manual(port=0)}).fact.source.endswith(": direct")


@pytest.mark.parametrize(("host", "shown"), [("2001:DB8::1", "2001:db8::1"), ("[2001:db8::1]", "2001:db8::1")])
def test_an_ipv6_host_is_taken_with_and_without_brackets(host: str, shown: str) -> None:
    """Both are written."""
    assert said({f"{DB}/local.d/x": manual(host)}).fact.host == shown


def test_a_host_with_a_password_is_a_problem_and_not_shown() -> None:
    """GNOME keeps user and password in keys of their own, which are not read."""
    fact = said({f"{DB}/local.d/x": manual("me:secret@p")}).fact
    assert fact.host is None and "secret" not in repr(fact)


def test_ignored_hosts_are_exceptions() -> None:
    """A list of names and networks."""
    setting = said({f"{DB}/local.d/x": manual() + "[system/proxy]\nignore-hosts=['localhost', \"*.kerio.com\"]"})
    assert setting.excepting(("secure.kerio.com", 443)) == "ignore-hosts"
    assert setting.excepting(("example.org", 443)) == ""


def test_the_last_key_file_of_a_database_wins() -> None:
    """By name, as `dconf update` takes them."""
    files = {f"{DB}/local.d/00-a": manual("a"), f"{DB}/local.d/99-b": manual("b"), f"{DB}/local.d/.swp": manual("c")}
    assert said(files).fact.host == "b"


def test_the_profile_orders_the_databases() -> None:
    """The first listed wins, key by key; one that is not listed says nothing; users' databases are not read."""
    files = {
        f"{DB}/local.d/x": manual("local"),
        f"{DB}/site.d/x": "[system/proxy/https]\nhost='site'",
        f"{DB}/other.d/x": manual("other"),
        PROFILE: "user-db:user\n# system-db:other\nsystem-db:site # first\nsystem-db:local\nfile-db:/x\nsystem-db:../x",
    }
    assert said(files).fact == ProxyFact("site", 1, "https in GNOME's system settings")


def test_a_lock_silences_the_databases_listed_before() -> None:
    """Only for the locked key, and not the database that has the lock."""
    files = {
        f"{DB}/local.d/x": manual("local", 2),
        f"{DB}/site.d/x": manual("site", 1),
        f"{DB}/local.d/locks/proxy": "# no\n/system/proxy/https/host\n",
        PROFILE: "system-db:site\nsystem-db:local",
    }
    fact = said(files).fact
    assert (fact.host, fact.port) == ("local", 1)


def test_without_a_profile_all_databases_count_by_name() -> None:
    """They are what an administrator wrote for this machine."""
    assert said({f"{DB}/b.d/x": manual("b"), f"{DB}/a.d/x": manual("a")}).fact.host == "a"


def test_the_profile_in_etc_hides_those_of_packages() -> None:
    """As dconf looks for it."""
    files = {f"{DB}/a.d/x": manual("a"), "/usr/share/dconf/profile/user": "system-db:a"}
    assert said(files).fact.host == "a"
    assert gnome_setting(a_world(files | {PROFILE: "user-db:user"})) is None


def test_only_the_proxys_keys_of_a_key_file_are_kept() -> None:
    """Comments, other sections and lines without a value are skipped."""
    text = "mode='x'\n[system/proxy]\n# a=1\nmode = 'manual'\nnonsense\n[system/proxyx]\nb=1\n[org/gnome]\nc=1"
    assert parse_key_file(text) == {"/system/proxy/mode": "'manual'"}


def test_every_file_that_has_a_say_is_listed() -> None:
    """Profiles, key files, locks."""
    files = dict.fromkeys([f"{DB}/a.d/x", f"{DB}/a.d/locks/y", PROFILE], "")
    assert set(files) <= set(gnome_files(listing(files)))
