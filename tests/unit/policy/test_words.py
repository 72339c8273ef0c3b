"""The grammar of the small words."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy import limits, words
from kpf_ebpf.policy.model import Action, Direction

from .factories import refusal


def test_ask_is_refused_with_its_own_sentence() -> None:
    """ "ask" is a word of the language, but not yet available."""
    error = refusal(words.action, "ask")
    assert (error.word, "not available yet" in error.expected) == ("ask", True)


def test_actions_and_directions_are_their_words() -> None:
    """permit, deny; in, out, both."""
    assert [words.action(word) for word in ("permit", "deny")] == [Action.PERMIT, Action.DENY]
    assert words.direction("both") is Direction.BOTH


@pytest.mark.parametrize("value", ["Permit", "", 1, None, True, ["permit"], {"permit": 1}])
def test_other_actions_are_refused(value: object) -> None:
    """Small letters, one word."""
    refusal(words.action, value)


def test_a_mistyped_word_gets_the_near_one_suggested() -> None:
    """difflib finds it."""
    assert refusal(words.action, "permitt").suggestion == "permit"
    assert refusal(words.action, "xyz").suggestion == ""


@pytest.mark.parametrize(("value", "suggestion"), [("true", "true"), ("no", "false"), (1, ""), (0, ""), ("x", "")])
def test_switches_are_booleans_only(value: object, suggestion: str) -> None:
    """A quoted "false" must not count as true."""
    assert refusal(words.switch, value).suggestion == suggestion
    assert words.switch(True) is True


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "\x1b[31m", "x" * (limits.MAX_DESCRIPTION + 1), 3])
def test_descriptions_are_short_and_printable(value: object) -> None:
    """They become rule ids and log columns."""
    refusal(words.description, value)


def test_a_description_may_be_any_printable_text() -> None:
    """Blanks and foreign letters inside are fine."""
    assert words.description("Keine Telemetrie, bitte, ö") == "Keine Telemetrie, bitte, ö"
    assert words.group_label("") == ""


@pytest.mark.parametrize("value", ["alice", "_x", "DOM\\bob", "bob@example.org", "svc$"])
def test_user_names_are_kept(value: str) -> None:
    """Names of local and directory users."""
    assert words.user(value) == value


def test_uids_are_numbers_also_in_quotes() -> None:
    """A name of digits alone would be ambiguous everywhere else, too."""
    assert words.user(0) == 0
    assert words.user("1000") == 1000


@pytest.mark.parametrize("value", ["", "a b", "a:b", "-x", "x" * 300, "a\n", -1, 2**32 - 1, True, 1.5])
def test_no_other_users(value: object) -> None:
    """The highest uid means "none" to the kernel."""
    refusal(words.user, value)


@pytest.mark.parametrize("value", ["", "a/b", "a b", "a:1", "x" * 16, ".", "..", "e\n", "ö" * 8, 3])
def test_adapter_names_are_the_kernels(value: object) -> None:
    """1 to 15 bytes, no slash, colon or blank."""
    refusal(words.adapter, value)
    assert words.adapter("enp0s31f6.4094") == "enp0s31f6.4094"


@pytest.mark.parametrize("value", ["/", "/a/b.service", "/system.slice/dev-disk\\x2d1.swap"])
def test_cgroup_paths_are_kept(value: str) -> None:
    """Below the mount, beginning with a slash."""
    assert words.cgroup(value) == value


@pytest.mark.parametrize("value", ["", "a", "/a/../b", "/..", "/a\0", "/" + "x" * 256, "/x" * 3000, 3])
def test_cgroup_paths_do_not_climb(value: object) -> None:
    """Nor are they relative, unprintable or longer than the kernel takes."""
    refusal(words.cgroup, value)


def test_untidy_paths_get_the_tidy_one_suggested() -> None:
    """Doubled slashes, dots and a slash at the end."""
    assert refusal(words.cgroup, "/a//b/./c/").suggestion == "/a/b/c"


@pytest.mark.parametrize("value", ["/usr/bin/curl", "/opt/**", "/usr/lib/*/x*", "/home/a b/x"])
def test_applications_are_absolute_paths_with_wildcards(value: str) -> None:
    """* and ** are allowed."""
    assert words.application(value) == value


@pytest.mark.parametrize("value", ["curl", "./x", "/a/../b", "/", "/a***", "", 3, "/a\x07"])
def test_other_applications_are_refused(value: object) -> None:
    """A bare name is not an identity."""
    refusal(words.application, value)


def test_components_have_no_wildcards() -> None:
    """A component is one file."""
    refusal(words.program, "/opt/*")
    assert words.program("/opt/x") == "/opt/x"


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 5000, 1])
def test_group_files_need_a_path(value: object) -> None:
    """What open() would choke on is refused before."""
    refusal(words.group_file, value)


@pytest.mark.parametrize("value", ["", "a b", "trusted", "x" * 65, "@a", "a/b", "a\n"])
def test_group_names_are_simple_and_trusted_is_taken(value: str) -> None:
    """ "@trusted" is the Trusted area."""
    refusal(words.group_name, value)
    assert words.group_name("block-list_2.x") == "block-list_2.x"


def test_host_names_are_in_small_letters_without_the_last_dot() -> None:
    """So that one name is resolved once."""
    assert words.host_name("WWW.Example.ORG.") == "www.example.org"
    assert words.host_name("xn--bcher-kva.example") == "xn--bcher-kva.example"
    assert words.host_name("3com") == "3com"


@pytest.mark.parametrize(
    "value",
    ["", ".", "a..b", "-a", "a-", "a_b", "a b", "a\n", "a\0", "1.2.3", "x" * 64, "a." * 127 + "b", "é" * 300, 5, "a.²"],
)
def test_other_host_names_are_refused(value: object) -> None:
    """RFC 1123, and the last label is no number."""
    refusal(words.host_name, value)


def test_a_foreign_name_gets_its_ascii_form_suggested() -> None:
    """IDNA."""
    assert refusal(words.host_name, "bücher.example").suggestion == "xn--bcher-kva.example"


def test_words_are_shown_as_written_and_cut() -> None:
    """Whatever TOML holds can be shown, huge numbers too."""
    assert [words.shown(value) for value in (True, 3, "", [1, [2]], [], {"a": 1})] == [
        "true",
        "3",
        '""',
        "[1, [...]]",
        "[]",
        "{...}",
    ]
    assert len(words.shown("x" * 1000)) == limits.MAX_SHOWN
    assert words.shown(1 << 50_000) == "a huge number"
    assert words.label("a\x1b[0m") == "a?[0m"
