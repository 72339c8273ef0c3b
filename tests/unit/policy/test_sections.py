"""Preferences, components, Trusted area, predefined and application rules, default."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy.model import PREDEFINED_DEFAULTS, Action, Cells, Components, Proxy, ZoneCells

from .factories import mistakes, parsed, the_mistake


def test_preferences_are_read_and_the_rest_stays_as_shipped() -> None:
    """One key changes one field."""
    policy, _ = parsed('[preferences]\nproxy = "http://p.example:80"\nname-grace = 0\nsyslog.port = 1514\n')
    assert policy.preferences.proxy == Proxy("p.example", 80)
    assert (policy.preferences.name_grace, policy.preferences.syslog.port) == (0, 1514)
    assert policy.preferences.popup_port == 44501


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('on-failure = "close"', "close"),
        ('on-modified = "accept"', "accept"),
        ("name-grace = -1", "-1"),
        ("name-grace = '5'", "5"),
        ("registration-port = 0", "0"),
        ("syslog.port = 70000", "70000"),
        ("resolvers = []", "[]"),
        ("resolvers = ['any']", "any"),
        ("resolvers = 'sytem'", "sytem"),
        ("crash-server = 'a b'", "a b"),
        ("log-internal = 'false'", "false"),
    ],
)
def test_a_wrong_preference_is_told_with_its_word(line: str, word: str) -> None:
    """Each by its own grammar."""
    finding = the_mistake(f"[preferences]\n{line}\n")
    assert (finding.where.line, finding.rule, finding.word) == (2, "preferences", word)
    assert finding.key == line.split(" ")[0]


def test_the_two_guarded_ports_must_differ() -> None:
    """One port cannot be both; the finding is at the key that was written."""
    finding = the_mistake("[preferences]\n\nadministration-port = 44501\n")
    assert (finding.where.line, finding.key) == (3, "administration-port")
    finding = the_mistake("[preferences]\nadministration-port = 5\npopup-port = 5\n")
    assert (finding.where.line, finding.key) == (3, "popup-port")


def test_components_are_absolute_paths() -> None:
    """None is "as installed"."""
    policy, _ = parsed('[components]\ngui = "/opt/gui"\n')
    assert policy.components == Components(gui="/opt/gui")
    assert the_mistake("[components]\ngui = 'gui'\n").key == "gui"


def test_trusted_items_have_an_address_and_perhaps_an_adapter() -> None:
    """ "any" adapter is none."""
    policy, _ = parsed('[[trusted]]\ndescription = "Home"\nadapter = "any"\naddress = "10.0.0.0/8"\n')
    (item,) = policy.trusted
    assert (item.description, item.adapter, item.addresses.words, item.where.line) == ("Home", None, ("10.0.0.0/8",), 1)


def test_all_needs_an_adapter() -> None:
    """Without one the whole Internet would be trusted."""
    assert the_mistake('[[trusted]]\ndescription = "Home"\naddress = "all"\n').key == "address"
    policy, _ = parsed('[[trusted]]\ndescription = "Home"\naddress = "all"\nadapter = "eth0"\n')
    assert policy.trusted[0].addresses.any


@pytest.mark.parametrize("word", ["@trusted", "@x", "any", "example.org"])
def test_the_trusted_area_is_of_addresses_only(word: str) -> None:
    """No names, no groups."""
    finding = the_mistake(f'[[trusted]]\ndescription = "Home"\nadapter = "eth0"\naddress = "{word}"\n')
    assert (finding.rule, finding.word) == ('trusted "Home"', word)


def test_a_trusted_item_needs_description_and_address() -> None:
    """Both are told."""
    assert {finding.key for finding in mistakes("[[trusted]]\n")} == {"description", "address"}


def test_one_zone_of_a_predefined_rule_can_be_changed_alone() -> None:
    """The other one stays as shipped, and so does the order."""
    policy, _ = parsed('[predefined]\nlog = true\nping-in.internet = "permit"\n')
    assert policy.predefined.cells["ping-in"] == ZoneCells(Action.PERMIT, Action.PERMIT)
    assert list(policy.predefined.cells) == list(PREDEFINED_DEFAULTS)
    assert (policy.predefined.log, policy.predefined.enabled) == (True, True)


@pytest.mark.parametrize(
    "line", ['dns = "deny"', 'dns.internet = "ask"', 'ndp = { trusted = "deny" }', 'dns.x = "deny"']
)
def test_wrong_predefined_rules_are_told(line: str) -> None:
    """A word for a table, "ask", unknown names."""
    assert the_mistake(f"[predefined]\n{line}\n").where.line == 2


def test_cells_left_out_of_an_application_are_none() -> None:
    """They are the default's."""
    policy, _ = parsed('[[application]]\npath = "/usr/bin/a*"\ninternet-out = "deny"\nlog = true\n')
    (rule,) = policy.applications
    assert (rule.path, rule.cells, rule.log) == ("/usr/bin/a*", Cells(internet_out=Action.DENY), True)


def test_of_two_entries_for_one_application_the_first_counts() -> None:
    """With a warning that names the first one's line."""
    text = '[[application]]\npath = "/a"\ninternet-in = "deny"\n[[application]]\npath = "/a"\n'
    policy, (warning,) = parsed(text)
    assert [rule.cells.internet_in for rule in policy.applications] == [Action.DENY]
    assert (warning.where.line, warning.rule) == (5, "application /a")
    assert "line 1" in warning.expected


def test_an_application_needs_a_path_and_any_is_none() -> None:
    """[default] is for any other application."""
    assert the_mistake("[[application]]\nlog = true\n").rule == "application #1"
    assert "[default]" in the_mistake('[[application]]\npath = "any"\n').expected


def test_the_default_has_four_cells_and_log() -> None:
    """Each with its shipped value."""
    policy, _ = parsed('[default]\ninternet-out = "deny"\nlog = true\n')
    assert (policy.default.internet_out, policy.default.trusted_in, policy.default.log) == (
        Action.DENY,
        Action.PERMIT,
        True,
    )
    assert the_mistake('[default]\ninternet-out = "ask"\n').rule == "default"


def test_trusted_cells_that_deny_are_warned_of() -> None:
    """They cut loopback, the system's resolver included."""
    _, warnings = parsed('[default]\ntrusted-out = "deny"\n[[application]]\npath = "/a"\ntrusted-out = "deny"\n')
    assert [(warning.where.line, warning.rule) for warning in warnings] == [(2, "default"), (5, "application /a")]
    assert all("127.0.0.53" in warning.expected for warning in warnings)


def test_a_file_is_one_component() -> None:
    """Engine, GUI and Assist are three programs: the second who names the same file is refused."""
    finding = the_mistake('[components]\nengine = "/opt/kpf"\ngui = "/opt/kpf"\n')
    assert (finding.where.line, finding.key, finding.word) == (3, "gui", "/opt/kpf")
    assert "engine" in finding.expected
