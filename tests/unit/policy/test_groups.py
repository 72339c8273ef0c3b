"""Groups from lists and files."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy import limits

from .factories import BASE, mistakes, parsed, the_mistake

FROM_FILE = '[groups]\n\nbad = { file = "lists/bad.txt" }\n'


def test_a_list_may_hold_addresses_and_names() -> None:
    """The words are kept."""
    policy, _ = parsed('[groups]\noffice = ["192.0.2.0/24", "example.org"]\nhome = "192.0.2.1"\n')
    office = policy.groups["office"]
    assert (office.addresses.names, len(office.addresses.ranges), office.file) == (("example.org",), 1, None)
    assert office.where.line == 2
    assert policy.groups["home"].addresses.words == ("192.0.2.1",)


def test_a_file_is_found_from_the_policys_folder() -> None:
    """And named as it was opened."""
    policy, warnings = parsed(FROM_FILE, {"bad.txt": b"192.0.2.0/24\n"})
    assert policy.groups["bad"].file == str(BASE / "lists/bad.txt")
    assert len(policy.groups["bad"].addresses.ranges) == 1
    assert warnings == ()


def test_bad_line_7000_of_a_group_file_is_told_as_that() -> None:
    """With the group file's name, not the policy's."""
    data = b"192.0.2.1\n" * 6999 + b"192.0.2.1/33\n" + b"192.0.2.2\n" * 10
    finding = the_mistake(FROM_FILE, {"bad.txt": data})
    assert str(finding.where) == f"{BASE}/lists/bad.txt:7000"
    assert (finding.rule, finding.word) == ('group "bad"', "192.0.2.1/33")


def test_of_many_bad_lines_the_rest_is_a_number() -> None:
    """20 findings, then "and N more"; other mistakes are told as well."""
    found = mistakes(FROM_FILE + "[unknown]\n", {"bad.txt": b"x y\n" * 50})
    assert len(found) == 1 + limits.MAX_GROUP_FINDINGS + 1
    assert found[0].key == "unknown"
    assert found[-1].word == "and 30 more"


def test_a_file_that_cannot_be_read_is_told_with_the_reason() -> None:
    """On the line of the policy that names it."""
    finding = the_mistake(FROM_FILE)
    assert (finding.where.line, finding.key) == (3, "file")
    assert "No such file" in finding.expected


def test_group_files_are_bounded_one_by_one_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block list is big, not endless."""
    monkeypatch.setattr(limits, "MAX_GROUP_BYTES", 20)
    assert "at most 20 bytes" in the_mistake(FROM_FILE, {"bad.txt": b"#" * 21}).expected
    monkeypatch.setattr(limits, "MAX_ALL_GROUP_BYTES", 30)
    two = '[groups]\na = { file = "a" }\nb = { file = "a" }\n'
    assert "together" in the_mistake(two, {"a": b"192.0.2.1 #0123456"}).expected


@pytest.mark.parametrize("text", ["[groups]\nempty = []\n", '[groups]\nempty = { file = "empty.txt" }\n'])
def test_an_empty_group_is_allowed_with_a_warning(text: str) -> None:
    """A block list may have run dry; rules with it match nothing."""
    policy, (warning,) = parsed(text, {"empty.txt": b"# nothing\n"})
    assert policy.groups["empty"].addresses.ranges == ()
    assert not policy.groups["empty"].addresses.any
    assert warning.where.line == 2


@pytest.mark.parametrize(
    "line",
    [
        "trusted = ['192.0.2.1']",
        "'a b' = ['192.0.2.1']",
        "a = ['@b']",
        "a = ['any']",
        "a = 5",
        "a = {}",
        "a = { file = 3 }",
        "a = { file = 'empty.txt', fil = 1 }",
        "a = ['192.0.2.1/24']",
        "a = [['192.0.2.1']]",
    ],
)
def test_wrong_groups_are_told(line: str) -> None:
    """Names, words and tables."""
    assert the_mistake(f"[groups]\n{line}\n", {"empty.txt": b"192.0.2.1"}).where.line == 2


def test_groups_must_be_a_table() -> None:
    """Not a list."""
    assert the_mistake("groups = 3\n").key == "groups"
