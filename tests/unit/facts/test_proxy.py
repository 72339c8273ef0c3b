"""The proxy of the operating system's configuration: which place decides, how that is explained, when to look again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy import NOTHING, PLACES, POLICY, ProxyAnswer, explain_proxy, find_proxy, proxy_prints
from kpf_ebpf.facts.proxy_address import PAC, World
from kpf_ebpf.policy.model import Proxy

REGISTRATION = ("secure.kerio.com", 443)
CRASHES = ("crashes.kerio.com", 443)
PROFILE = "/etc/profile.d/proxy.sh"
SYSTEMD = "/etc/systemd/system.conf.d/proxy.conf"
APT = "/etc/apt/apt.conf.d/50proxy"
GNOME = "/etc/dconf/db/local.d/00-proxy"
KDE = "/etc/xdg/kioslaverc"
FILES = {
    "/etc/environment": "https_proxy=http://environment:1",
    PROFILE: "export https_proxy=http://profile:2",
    SYSTEMD: "[Manager]\nDefaultEnvironment=https_proxy=http://systemd:3",
    APT: 'Acquire::http::Proxy "http://apt:4";',
    GNOME: "[system/proxy]\nmode='manual'\n[system/proxy/https]\nhost='gnome'\nport=5",
    KDE: "[Proxy Settings]\nProxyType=1\nhttpsProxy=http://kde 6",
}
"""One file in each place, in the order they are asked."""


def listing(files: Mapping[str, str]) -> Callable[[str], Sequence[str]]:
    """List folders of a world of these files, as a directory would: names, with those of folders below."""

    def list_folder(folder: str) -> Sequence[str]:
        inside = (path.removeprefix(f"{folder}/") for path in files if path.startswith(f"{folder}/"))
        return sorted({name.partition("/")[0] for name in inside})

    return list_folder


def a_world(files: Mapping[str, str], environ: Mapping[str, str] | None = None) -> World:
    """Make a world of these files and variables."""
    return World(environ or {}, files.get, listing(files), REGISTRATION)


def find(
    environ: dict[str, str] | None = None, files: Mapping[str, str] | None = None, policy: str | Proxy = "system"
) -> ProxyFact:
    """Find the proxy in a world of these variables and files."""
    files = files or {}
    return find_proxy(policy, environ or {}, files.get, list_folder=listing(files), registration=REGISTRATION)


def explain(
    environ: dict[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    policy: str | Proxy = "system",
    **keywords: Any,
) -> tuple[ProxyAnswer, ...]:
    """Explain the proxy in a world of these variables and files."""
    files = files or {}
    return explain_proxy(
        policy,
        environ or {},
        files.get,
        list_folder=listing(files),
        registration=REGISTRATION,
        others=[CRASHES],
        **keywords,
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
    assert find({"https_proxy": " ", "http_proxy": ""}, dict.fromkeys(FILES, "")) == ProxyFact()


def test_the_places_are_asked_in_order() -> None:
    """Environment, /etc/environment, profile.d, systemd, apt, GNOME, KDE: the first that speaks decides."""
    files = dict(FILES)
    assert find({"https_proxy": "http://process:9"}, files) == ProxyFact("process", 9, "https_proxy in the environment")
    for port, (path, host, source) in enumerate(
        [
            ("/etc/environment", "environment", "https_proxy in /etc/environment"),
            (PROFILE, "profile", f"https_proxy in {PROFILE}"),
            (SYSTEMD, "systemd", f"https_proxy in {SYSTEMD}"),
            (APT, "apt", "Acquire::http::Proxy in apt's configuration"),
            (GNOME, "gnome", "https in GNOME's system settings"),
            (KDE, "kde", f"httpsProxy in {KDE}"),
        ],
        start=1,
    ):
        assert find({}, files) == ProxyFact(host, port, source)
        del files[path]
    assert find({}, files) == ProxyFact()


def test_an_unusable_value_ends_the_search() -> None:
    """A broken setting is told, instead of another being taken silently."""
    fact = find({"https_proxy": "http://:0"}, {"/etc/environment": "https_proxy=http://two:2"})
    assert fact.host is None
    assert fact.problem


@pytest.mark.parametrize(
    "files",
    [
        {APT: 'Acquire::http::Proxy "DIRECT";'},
        {GNOME: "[system/proxy]\nmode='none'"},
        {KDE: "[Proxy Settings]\nProxyType=0"},
    ],
)
def test_a_place_that_says_direct_ends_the_search(files: dict[str, str]) -> None:
    """Direct is an answer, not silence: later places are not asked."""
    later = {KDE: FILES[KDE]} if KDE not in files else {}
    fact = find({}, files | later)
    assert (fact.host, fact.problem) == (None, "")
    assert fact.source.endswith(": direct")


def test_an_exception_for_the_registration_server_means_no_proxy() -> None:
    """The source says why."""
    fact = find({"https_proxy": "http://p:1", "no_proxy": "localhost,.kerio.com"})
    assert fact == ProxyFact(source="https_proxy in the environment, but no_proxy covers secure.kerio.com")


def test_an_exception_for_the_crash_server_decides_nothing() -> None:
    """Crash dumps never go by a proxy; the explanation tells it all the same."""
    environ = {"https_proxy": "http://p:1", "no_proxy": "crashes.kerio.com"}
    assert find(environ).host == "p"
    assert explain(environ)[1].said == "p:1, but crashes.kerio.com directly, by no_proxy"


def test_reversed_exceptions_leave_out_everybody_else() -> None:
    """KDE's ReversedException: only the listed hosts go by the proxy."""
    text = FILES[KDE] + "\nReversedException=true\nNoProxyFor="
    assert find({}, {KDE: f"{text}secure.kerio.com"}).host == "kde"
    fact = find({}, {KDE: f"{text}intranet.example"})
    assert fact == ProxyFact(source=f"httpsProxy in {KDE}, but NoProxyFor leaves out secure.kerio.com")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('Acquire::https::Proxy "https://a:1"; Acquire::http::Proxy "http://b:2";', ("a", 1)),
        ('Acquire { http { Proxy "http://b:2"; } }', ("b", 2)),
        ('Acquire::http::Proxy "http://me:secret@[2001:db8::1]:3128";', ("2001:db8::1", 3128)),
        ('Acquire::http::Proxy "DIRECT";', (None, 0)),
        ('Acquire::http::Proxy "http://b:2"; Acquire::http::Proxy::secure.kerio.com "DIRECT";', (None, 0)),
        ('// Acquire::http::Proxy "http://b:2";', (None, 0)),
    ],
)
def test_apts_proxy_is_found(text: str, fact: tuple[str | None, int]) -> None:
    """https before http, a host's own setting before the general one, DIRECT is none."""
    found = find({}, {APT: text})
    assert (found.host, found.port) == fact
    assert found.problem == ""


def test_every_place_is_explained_in_order() -> None:
    """The policy, then every place, also those that say nothing and those that come too late."""
    answers = explain({}, {APT: FILES[APT], KDE: FILES[KDE]})
    assert [answer.place for answer in answers] == [POLICY, *(place.name for place in PLACES)]
    assert [answer.said for answer in answers] == [
        "the operating system's proxy",
        NOTHING,
        NOTHING,
        NOTHING,
        NOTHING,
        "apt:4",
        NOTHING,
        "kde:6",
    ]
    assert [answer.place for answer in answers if answer.used] == ["apt's configuration"]


@pytest.mark.parametrize(("policy", "said"), [("none", "direct"), (Proxy("2001:db8::1", 80), "[2001:db8::1]:80")])
def test_where_the_policy_decides_the_others_are_only_told(policy: str | Proxy, said: str) -> None:
    """The policy's answer is used, and no other."""
    answers = explain({}, FILES, policy)
    assert (answers[0].said, answers[0].used) == (said, True)
    assert not any(answer.used for answer in answers[1:])
    assert answers[2].said == "environment:1"


def test_a_script_that_decides_is_a_problem_unless_the_server_is_excepted() -> None:
    """The explanation says so, and that preferences.proxy is the way out."""
    environ = {"auto_proxy": "http://me:secret@wpad/x"}
    answer = explain(environ)[1]
    assert answer.used and answer.problem
    assert answer.said == PAC and "preferences.proxy" in PAC
    assert not explain(environ | {"no_proxy": "*"})[1].problem


def test_whose_environment_it_is_can_be_said() -> None:
    """A command may explain another process' environment."""
    assert explain(process="the Engine's environment")[1].place == "the Engine's environment"


def test_a_file_that_is_not_read_is_told_with_the_reason() -> None:
    """It says nothing, and that it was left out is no secret."""
    answers = explain({}, {PROFILE: ""}, distrust=lambda path: "others may write it" if path == PROFILE else "")
    assert answers[3].said == f"nothing; {PROFILE} is not read: others may write it"


def test_prints_move_when_any_file_comes_changes_or_goes() -> None:
    """Of every place, folders included; nothing else moves them."""
    locks, profile = "/etc/dconf/db/local.d/locks/proxy", "/etc/dconf/profile/user"
    files = {path: 1 for path in (*FILES, locks, profile, "/etc/apt/apt.conf", "/etc/systemd/system.conf")}

    def prints(world: dict[str, int]) -> object:
        return proxy_prints(world.get, listing({path: "" for path in world}))

    start = prints(files)
    assert start == prints(dict(files))
    assert start == prints(files | {"/etc/profile.d/readme.txt": 1, "/etc/passwd": 1})
    for path in files:
        assert prints(files | {path: 2}) != start
        assert prints({other: 1 for other in files if other != path}) != start
    for path in ("/run/systemd/system.conf.d/a.conf", "/etc/profile.d/z.sh", "/etc/dconf/db/site.d/x", f"{APT}0"):
        assert prints(files | {path: 1}) != start


PASSWORD = "hunter2"
junk = st.text(alphabet=st.sampled_from("\n\r\t \"'`$\\;#=[]{}()/:@,.%*ax1\x00\x1b\u2028é"), max_size=12)
addresses = st.builds(
    lambda scheme, start, middle, end: f"{scheme}{start}me:{middle}{PASSWORD}@{end}",
    st.sampled_from(["", "http://", "https://", "socks5://", "ftp://", "file:"]),
    junk,
    junk,
    st.sampled_from(["host:3128", "host 3128", "[2001:db8::1]:1", "[::1", "", "host:99999", "host/x.pac", "\x1b[31m"]),
)
SHELL = ["https_proxy=ADDRESS", "export http_proxy='ADDRESS'", 'ALL_PROXY="ADDRESS"; export ALL_PROXY']
SHAPES = {
    "/etc/environment": [*SHELL, "auto_proxy=ADDRESS", "no_proxy=ADDRESS"],
    PROFILE: SHELL,
    SYSTEMD: [
        "[Manager]\nDefaultEnvironment='https_proxy=ADDRESS'",
        "[Manager]\nDefaultEnvironment=http_proxy=ADDRESS",
    ],
    "/proc/cmdline": ["systemd.setenv=https_proxy=ADDRESS", "'systemd.setenv=https_proxy=ADDRESS'"],
    APT: ['Acquire::http::Proxy "ADDRESS";', 'Acquire { https { Proxy "ADDRESS"; secure.kerio.com "ADDRESS"; } }'],
    GNOME: [
        "[system/proxy]\nmode='manual'\n[system/proxy/http]\nhost='ADDRESS'\nport=80",
        "[system/proxy]\nmode='auto'\nautoconfig-url='ADDRESS'",
        "[system/proxy]\nmode='ADDRESS'",
        "ignore-hosts=['ADDRESS']",
    ],
    "/etc/dconf/profile/user": ["system-db:local", "system-db:ADDRESS"],
    KDE: [
        "[Proxy Settings]\nProxyType=1\nhttpProxy=ADDRESS",
        "[Proxy Settings]\nProxyType=2\nProxy Config Script=ADDRESS",
        "[Proxy Settings]\nProxyType=4\nhttpProxy=ADDRESS",
        "[Proxy Settings]\nProxyType=ADDRESS",
        "NoProxyFor=ADDRESS",
    ],
}
"""Lines that have a say in each file, with room for an address."""


def written(shapes: list[str]) -> st.SearchStrategy[str]:
    """Write a file of such lines, of others, or of anything."""
    lines = st.builds(
        lambda shape, address, tail: shape.replace("ADDRESS", address) + tail,
        st.sampled_from([*shapes, "ADDRESS"]),
        addresses,
        junk,
    )
    return st.lists(lines, max_size=3).map("\n".join) | st.text(max_size=60)


worlds = st.fixed_dictionaries({}, optional={path: written(shapes) for path, shapes in SHAPES.items()})


@settings(max_examples=300, deadline=None)  # enough to find a leak that only one of the files has
@given(worlds, st.dictionaries(st.sampled_from(["https_proxy", "auto_proxy", "no_proxy"]), addresses | junk))
def test_no_text_breaks_it_or_makes_it_tell_a_password(files: dict[str, str], environ: dict[str, str]) -> None:
    """Whatever is in the files and variables: an answer, printable, without the password, and the explanation's."""
    fact, answers = find(environ, files), explain(environ, files)
    said = repr(fact) + "".join(f"{answer.source} {answer.said}" for answer in answers)
    assert PASSWORD not in said
    assert said.isprintable()
    used = [answer for answer in answers if answer.used]
    assert len(used) <= 1
    assert bool(fact.source) == bool(used)
    assert bool(fact.problem) == any(answer.problem for answer in used)
