"""The proxy of the operating system's configuration."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy import MAX_VALUE, PAC, find_proxy, is_excepted, parse_environment, parse_proxy
from kpf_ebpf.policy.model import Proxy

REGISTRATION = ("secure.kerio.com", 443)


def find(
    environ: dict[str, str] | None = None, files: dict[str, str] | None = None, policy: str | Proxy = "system"
) -> ProxyFact:
    """Find the proxy in a world of these variables and files."""
    files = files or {}
    folder = "/etc/apt/apt.conf.d/"
    return find_proxy(
        policy,
        environ or {},
        files.get,
        list_folder=lambda path: [name.removeprefix(folder) for name in files if name.startswith(folder)],
        registration=REGISTRATION,
    )


def test_the_policys_own_proxy_wins() -> None:
    """Nothing of the system is asked then."""
    fact = find({"https_proxy": "http://other:1"}, policy=Proxy("proxy.example", 3128))
    assert fact == ProxyFact("proxy.example", 3128, "policy")


def test_none_means_none() -> None:
    """The system's proxy is ignored."""
    assert find({"https_proxy": "http://other:1"}, policy="none") == ProxyFact(source="policy")


def test_without_any_setting_there_is_no_proxy() -> None:
    """An empty value is no setting."""
    assert find({"https_proxy": " ", "http_proxy": ""}, {"/etc/environment": ""}) == ProxyFact()


def test_the_places_are_asked_in_order() -> None:
    """Process environment, /etc/environment, apt."""
    environ = {"https_proxy": "http://one:1"}
    files = {
        "/etc/environment": 'https_proxy="http://two:2"',
        "/etc/apt/apt.conf.d/50proxy": 'Acquire::http::Proxy "http://three:3";',
    }
    assert find(environ, files) == ProxyFact("one", 1, "https_proxy in the environment")
    assert find({}, files) == ProxyFact("two", 2, "https_proxy in /etc/environment")
    del files["/etc/environment"]
    assert find({}, files) == ProxyFact("three", 3, "Acquire::http::Proxy in apt's configuration")


def test_the_variables_are_asked_in_order() -> None:
    """https before http before all, lower case first."""
    order = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    environ = {name: f"http://p{index}:80" for index, name in enumerate(order)}
    for index, name in enumerate(order):
        assert find(dict(reversed(environ.items()))).host == f"p{index}"
        del environ[name]


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
        ("http://[fe80::1%25eth0]:3128", "fe80::1", 3128),
        ("HTTP://user:secret@Proxy.example:3128", "proxy.example", 3128),
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


@pytest.mark.parametrize(
    "environ",
    [
        {"auto_proxy": "file:///etc/proxy.pac"},
        {"AUTO_PROXY": "http://user:secret@wpad/wpad.dat"},
        {"https_proxy": "file:///etc/proxy.pac"},
        {"https_proxy": "http://user:secret@host/Proxy.PAC?x=1"},
        {"https_proxy": "pac+http://host/x"},
    ],
)
def test_a_pac_address_is_a_problem(environ: dict[str, str]) -> None:
    """It cannot be evaluated here; the setting that overrides it is named, the address is not shown."""
    fact = find(environ)
    assert fact.host is None
    assert fact.problem == PAC
    assert "preferences.proxy" in PAC
    assert "secret" not in repr(fact)


def test_an_explicit_proxy_outranks_a_pac_address_of_the_same_place() -> None:
    """What can be used is used."""
    assert find({"auto_proxy": "file:///x.pac", "http_proxy": "http://p:1"}).host == "p"


def test_an_unusable_value_ends_the_search() -> None:
    """A broken setting is told, instead of another being taken silently."""
    fact = find({"https_proxy": "http://:0"}, {"/etc/environment": "https_proxy=http://two:2"})
    assert fact.host is None
    assert fact.problem


def test_an_exception_for_the_registration_server_means_no_proxy() -> None:
    """The source says why."""
    fact = find({"https_proxy": "http://p:1", "no_proxy": "localhost,.kerio.com"})
    assert fact == ProxyFact(source="https_proxy in the environment, but no_proxy covers secure.kerio.com")


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


def test_the_environment_file_is_parsed() -> None:
    """Quotes, export and comments, as PAM reads them."""
    text = "# comment\nexport a=\"x y\"\nb='z' \nc=plain # tail\nnonsense\n d = no\n1e=2\ne="
    assert parse_environment(text) == {"a": "x y", "b": "z", "c": "plain", "e": ""}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('Acquire::https::Proxy "https://a:1"; Acquire::http::Proxy "http://b:2";', ("a", 1)),
        ('Acquire { http { Proxy "http://b:2"; } }', ("b", 2)),
        ('Acquire::http::Proxy "DIRECT";', (None, 0)),
        ('Acquire::http::Proxy "http://b:2"; Acquire::http::Proxy::secure.kerio.com "DIRECT";', (None, 0)),
        ('// Acquire::http::Proxy "http://b:2";', (None, 0)),
    ],
)
def test_apts_proxy_is_found(text: str, fact: tuple[str | None, int]) -> None:
    """https before http, a host's own setting before the general one, DIRECT is none."""
    found = find({}, {"/etc/apt/apt.conf.d/50proxy": text})
    assert (found.host, found.port) == fact
    assert found.problem == ""
