"""Line numbers of keys and list elements."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.toml_lines import DEEPEST, KeyPath, line_numbers, line_of, read_toml


def lines(text: str) -> dict[KeyPath, int]:
    """Return the line numbers of a document that tomllib accepts."""
    tomllib.loads(text)
    return dict(line_numbers(text))


def refused(data: bytes) -> Finding:
    """Return the one finding of a document that cannot be read."""
    with pytest.raises(PolicyError) as caught:
        read_toml(data, "p.toml")
    (finding,) = caught.value.findings
    return finding


def test_a_key_has_the_line_it_stands_on() -> None:
    """Plain keys below a header."""
    found = lines("# first\n\n[preferences]\nproxy = 'none'\n\nname-grace = 1\n")
    assert found == {("preferences",): 3, ("preferences", "proxy"): 4, ("preferences", "name-grace"): 6}


def test_list_tables_are_counted_and_inner_headers_belong_to_the_last() -> None:
    """[[a]] begins element n, [a.b] after it is an inner table of element n."""
    found = lines("[[rule]]\nx=1\n[[rule]]\n[rule.remote]\nport=2\n[[rule.list]]\ny=1\n[[rule.list]]\ny=2\n")
    assert found["rule", 0, "x"] == 2
    assert found["rule", 1] == 3
    assert found["rule", 1, "remote", "port"] == 5
    assert found["rule", 1, "list", 1, "y"] == 9


def test_dotted_quoted_and_spaced_keys_are_one_path() -> None:
    """a."b.c".'d' names three steps, escapes are read."""
    found = lines('a . "b.c" . \'d\' = 1\n[ "x\\u0079" . z ]\nk = 2\n')
    assert found["a", "b.c", "d"] == 1
    assert found["xy", "z", "k"] == 3


def test_inner_keys_and_elements_of_a_value_are_found_on_their_own_lines() -> None:
    """A list over several lines, with comments and inline tables in it."""
    text = 'remote = { address = [ # here ]\n  "a", "b",\n\n  # "no"\n  "c", { port = 3 } ], port = 1 }\nlast = 1'
    found = lines(text)
    assert found["remote", "address"] == 1
    assert found["remote", "address", 1] == 2
    assert found["remote", "address", 2] == 5
    assert found["remote", "address", 3, "port"] == 5
    assert found["remote", "port"] == 5
    assert found["last",] == 6


@pytest.mark.parametrize(
    "value",
    [
        '"""one\n"two"\\"""\n[x]\n"""""',
        "'''one\n[[y]] ''\n'''''",
        '"a # \\" b"',
        "'[x]\\'",
        '""',
        '""""""',
        "1979-05-27 07:32:00",
        "-1.5e3",
        "[\"\"\"\n]\"\"\", '''\n''']",
    ],
)
def test_no_value_confuses_the_lines_after_it(value: str) -> None:
    """Strings of all four kinds and other scalars end where TOML ends them."""
    text = f"first = {value} # end\nlast = 1\n"
    assert lines(text)["last",] == text.count("\n")


def test_line_ends_of_windows_count_once() -> None:
    """\\r\\n is one line end."""
    assert lines("a = 1\r\n\r\nb = [\r\n1]\r\n") == {("a",): 1, ("b",): 3, ("b", 0): 4}


def test_what_has_no_line_has_that_of_the_thing_around_it() -> None:
    """line_of falls back to shorter paths, and to 0."""
    found = lines("\na = ['x', 'y']\n")
    assert line_of(found, ("a", 1)) == 2
    assert line_of(found, ("b",)) == 0


def test_a_syntax_error_is_a_finding_on_its_line() -> None:
    """tomllib's own words, with the place taken out of them."""
    finding = refused(b"a = 1\nb = = 2\nc = 3\n")
    assert (finding.where.file, finding.where.line) == ("p.toml", 2)
    assert "Invalid value" in finding.expected
    assert "at line" not in finding.expected


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a = 1\nb = '\xff'\n", 2),
        (b"a = 1\n\nb = [\n", 3),
        (b"a = 1\nb = " + b"9" * 5000, 2),
        (b"a = " + b"[" * 100_000, 0),
        (b"a = 1\na = 2\n", 2),
        (b"\xef\xbb\xbfa = 1\n", 1),
        (b"\n" + b".".join([b"a"] * 50_000) + b" = 1", 2),
        (b"\nx = {" + b".".join([b"'a'"] * 100) + b" = 1}", 2),
        (b"#" * (limits.MAX_POLICY_BYTES + 1), 0),
    ],
    ids=["not UTF-8", "open list", "long number", "deep", "twice", "BOM", "long key", "long inner key", "too big"],
)
def test_whatever_cannot_be_read_is_one_finding(data: bytes, line: int) -> None:
    """Hostile bytes end in a finding, and soon."""
    assert refused(data).where.line == line


def paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Return the path of every key in a document."""
    if isinstance(value, dict):
        return [item for key, inner in value.items() for item in [(*path, key), *paths(inner, (*path, key))]]
    if isinstance(value, list):
        return [item for index, inner in enumerate(value) for item in paths(inner, (*path, index))]
    return []


PIECES = [
    "a",
    "b",
    '"c d"',
    "'e'",
    ".",
    " = ",
    "1",
    "'x'",
    '"y"',
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ", ",
    "\n",
    "# z\n",
    '"""',
    "'''",
    "\\",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_every_key_that_tomllib_sees_has_a_line(text: str) -> None:
    """The two readings of one document agree on its keys."""
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    found = line_numbers(text)
    for path in paths(document):
        if len(path) <= DEEPEST:
            assert 1 <= found[path] <= text.count("\n") + 1
