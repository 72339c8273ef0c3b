"""The fast reader of usual policies gives what tomllib gives, or gives up."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpf_ebpf.policy.toml_lines import line_numbers, line_of, read_toml
from kpf_ebpf.policy.toml_usual import read_usual

USUAL = """# a policy
port = 80
[preferences]
proxy = "none" # of the machine
[preferences.syslog]
enabled = true
[groups]
ads = [ "192.0.2.1", # first
  '192.0.2.2',
]

[[packet-filter]]
description = "one"
remote = { address = "192.0.2.0/24", port = 443 }
[[packet-filter]]
description = "two"
user = [0, "alice"]"""

PIECES = (
    "[[a]]\n", "[a]\n", "[b]\n", "[a.b]\n", "[b.c]\n", "[[b.c]]\n", "[[b]]\n", "x = 1\n", 'y = "s"\n', "x='l' # c\n",
    "z = [1, 2,\n 3 # c\n ,]\n", 'w = { a = 1, b = "c" }\n', "v = {}\n", "u=[]\n", "t = [[1]]\n",
    's = """\nx = 1\n"""\n', "r = '''\n[a]\n'''\n", "a.b = 1\n", "# comment\n", "\n", "  ", "\t", "q = 1.5\n",
    "p = 07\n", "b = 5\n", "a = true\n", "i = { a = 1, a = 2}\n", "i = {a=1,}\n", "l = [1 2]\n", "l = [1,,2]\n",
    'e = "\\n"\n', "n = -1\n", "d = 2020-01-01\n", "\r\n", "k = 1 2\n", '"k" = 1\n', "o = 1_0\n", "c = {d = [1]}\n",
    "m = [\"a\", 'b', true]", "h = \"ü\x7f\"\n", "ü = 1\n", "# \x01\n", "f = \"\"\"\n", "[ a ]\n", "g = tru\n",
    *"x=\"'[]{},#.\x01",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
@example("[a]\nb = 1\n[a.b]\n")
@example("[a.b]\n[a]\n")
@example("[[a]]\n[a.b]\n")
@example("i = { a = 1 }\n[i.b]\n")
@settings(max_examples=2000)
def test_what_is_read_is_what_tomllib_reads(text: str) -> None:
    """Also the order of the keys, and the line of each place whose line is given."""
    found = read_usual(text)
    if found is not None:
        document, heads = found
        assert repr(document) == repr(tomllib.loads(text))
        lines = line_numbers(text)
        assert heads == {path: lines[path] for path in heads}


def test_a_usual_policy_is_read() -> None:
    """Comments, switches, numbers, both kinds of strings, lists over lines, a table in a line: none needs tomllib."""
    found = read_usual(USUAL)
    assert found is not None
    assert found[0] == tomllib.loads(USUAL)


@pytest.mark.parametrize(
    "text",
    [
        'key = "a\\u0041"',
        'key = """long"""',
        "key = '''long'''",
        "key = 1.5",
        "key = 9999999999999999999",
        "key = -1",
        "key = [[1]]",
        "key = {}",
        "key = []",
        "a.b = 1",
        '"key" = 1',
        "[a.b]",
        "[a.b.c]",
        "key = 1\r\n",
        "key = 1\nkey = 2",
        "[a]\n[a]",
        "[[a]]\n[a]",
        "key = {a = 1, a = 2}",
        'key = "open',
        "key",
    ],
)
def test_everything_else_is_left_to_tomllib(text: str) -> None:
    """What is right but rare, and what is wrong: its message is tomllib's."""
    assert read_usual(text) is None


def test_the_line_of_each_place_of_a_usual_policy_can_be_asked_for() -> None:
    """Those that were not noted are found when the first of them is asked for."""
    _, lines = read_toml(USUAL.encode(), "policy.toml")
    assert dict(lines) == dict(line_numbers(USUAL))
    assert line_of(lines, ("packet-filter", 1, "user", 1)) == 17
    assert line_of(lines, ("groups", "ads", 1)) == 9
    assert line_of(lines, ("nowhere",)) == 0
