"""The man pages stay true: what they say of commands and options is compared with the command line itself."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest

from kpf_ebpf.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "man" / "kpf-ebpf.8.md").read_text()
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
COMMON = {"--instance"}
"""What every command takes; told once."""
made = runpy.run_path(str(ROOT / "docs" / "man" / "build.py"))


def sections(text: str, level: str) -> dict[str, str]:
    """Give the parts of a page by their headings of one level."""
    _, *found = re.split(rf"^{level} ", text, flags=re.MULTILINE)
    return {heading.strip(): part for heading, _, part in (one.partition("\n") for one in found)}


CHAPTERS = sections(PAGE, "#")
TOLD = {heading.split(" ")[0]: (heading, part) for heading, part in sections(CHAPTERS["COMMANDS"], "##").items()}


def terms(text: str) -> Iterator[str]:
    """Give the lines that are explained by a definition below them."""
    lines = text.splitlines()
    yield from (line for line, after in pairwise(lines) if after.startswith(": "))


def options_told(text: str) -> set[str]:
    """Give the options that a part of the page explains."""
    return {option for term in terms(text) for option in OPTION.findall(term)}


def command(name: str) -> click.Command:
    """Give a command by its name."""
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def options_of(asked: click.Command) -> set[str]:
    """Give every spelling of every option of a command, but for help."""
    return {word for one in asked.params if isinstance(one, click.Option) for word in (*one.opts, *one.secondary_opts)}


def test_the_page_tells_every_command_in_the_order_of_help() -> None:
    """No command is missing, none is told that does not exist."""
    assert tuple(TOLD) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_tells_every_option_of_a_command(name: str) -> None:
    """No option is missing, none is told that the command does not take."""
    assert options_told(TOLD[name][1]) == options_of(command(name)) - COMMON
    assert options_of(command(name)) >= COMMON


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_tells_every_argument_of_a_command(name: str) -> None:
    """What a command takes without a hyphen stands in its heading: a word to be replaced, or the choices."""
    shown = re.sub(r"[*`]", "", TOLD[name][0]).split()[1:]
    arguments = [one for one in command(name).params if isinstance(one, click.Argument)]
    kinds = [one.type for one in arguments]
    expected = ["|".join(kind.choices) if isinstance(kind, click.Choice) else "" for kind in kinds]
    names = [one.name.upper() for one in arguments if one.name]
    assert shown == [choices or name for choices, name in zip(expected, names, strict=True)]


def test_the_page_tells_what_is_required() -> None:
    """An option that must be given is said to be required, no other is."""
    for name in COMMANDS:
        required = {one.opts[0] for one in command(name).params if isinstance(one, click.Option) and one.required}
        told = {
            OPTION.findall(term)[0]
            for term, _, meaning in (one.partition("\n: ") for one in re.split(r"\n\n", TOLD[name][1]))
            if "Required." in meaning
        }
        assert told == required, name


def test_the_page_tells_the_options_of_all() -> None:
    """What every command takes, and what is taken without one."""
    help_and_version = {"-h", "--help", "--version"}
    assert options_told(CHAPTERS["OPTIONS"]) == COMMON | help_and_version
    assert options_of(main) == {"--version"}
    assert set(main.context_settings["help_option_names"]) == {"-h", "--help"}


@pytest.mark.parametrize("page", sorted(made["pages"]()))
def test_no_page_speaks_of_an_option_that_there_is_not(page: str) -> None:
    """Not in prose and not in an example either."""
    known = {"-h", "--help", "--version"}.union(*(options_of(command(name)) for name in COMMANDS))
    literals = re.findall(r"```.*?```|`[^`]*`", made["pages"]()[page][0], re.DOTALL)
    assert {option for text in literals for option in OPTION.findall(text)} <= known


def test_the_policys_page_tells_all_of_the_policys_document() -> None:
    """Each row of docs/policy.md becomes a term, each heading a heading; not a word of a cell is lost."""
    page, _ = made["pages"]()["kpf-ebpf-policy.5"]
    document = (ROOT / "docs" / "policy.md").read_text()
    rows = [line for line in document.splitlines() if line.startswith("|") and not line.startswith("|-")]
    headings = re.findall(r"^## (.+)$", document, re.MULTILINE)
    assert not re.search(r"^\|", page, re.MULTILINE)
    assert len(list(terms(page))) >= len(rows) - document.count("|---|---") > 50
    assert [heading for heading in sections(page, "#") if heading in headings] == headings
    assert not [cell for row in rows for cell in row.split("|") if "`" in cell and cell.strip() not in page]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("| Word | Meaning |\n|---|---|\n| a | first |", "a\n: first\n"),
        ("| Key | Type | Meaning |\n|---|---|---|\n| a | text | one |\n| b | list | |", "a (text)\n: one\n\nb\n: list"),
        ("| Key | In | Out | Traffic |\n|---|---|---|---|\n| a | yes | no | all |", "a (in: yes, out: no)\n: all\n"),
        ("| Key | Meaning |\n|---|---|\n| a | `x\\|y` |", "a\n: `x|y`\n"),
        ("no table", "no table"),
    ],
)  # fmt: skip
def test_a_table_becomes_a_list_of_terms(table: str, expected: str) -> None:
    """The first column is the term, the last its meaning, what is between goes with the term."""
    assert made["tables_as_lists"](table).rstrip("\n") == expected.rstrip("\n")
