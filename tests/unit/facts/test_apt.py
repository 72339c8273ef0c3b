"""apt's configuration language."""

from __future__ import annotations

from kpf_ebpf.facts.apt import APT_FILE, APT_FOLDER, MAX_DEPTH, parse_apt, read_apt


def test_settings_are_named_in_full_and_in_lower_case() -> None:
    """Scopes may be written with :: or braces, or both."""
    text = 'A::B "1"; A { C "2"; D::E { F "3"; }; }; G 4;'
    assert parse_apt(text) == {"a::b": "1", "a::c": "2", "a::d::e::f": "3", "g": "4"}


def test_the_last_value_counts() -> None:
    """As for apt itself."""
    assert parse_apt('A "1"; a "2";') == {"a": "2"}


def test_comments_and_list_items_are_skipped() -> None:
    """All three kinds of comments; // in quotes is no comment."""
    text = '// x\n# y\n/* A "1";\n */ B "http://p"; L { "item"; "two"; }'
    assert parse_apt(text) == {"b": "http://p"}


def test_broken_text_never_fails() -> None:
    """Unclosed quotes, comments and braces give what was complete."""
    assert parse_apt('A "1"; } } B "2') == {"a": "1"}
    assert parse_apt('A "1"; /* B "2";') == {"a": "1"}
    assert parse_apt("A {" * (MAX_DEPTH + 1) + 'B "1";') == {}


def test_files_are_read_in_apts_order() -> None:
    """Names that apt ignores are ignored; apt.conf comes last; a missing file is empty."""
    files = {f"{APT_FOLDER}/10a": "one", f"{APT_FOLDER}/20b.conf": "two", APT_FILE: "three"}
    names = ["20b.conf", "10a", "30c.dpkg-old", "40d~", "50gone"]
    assert read_apt(files.get, lambda folder: names) == "one\ntwo\n\nthree\n"
