"""The small words of a policy: switches, actions, names, paths. Each function reads one value or raises WordError."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.model import Action, Direction


class WordError(Exception):
    """A word that does not fit: the word as shown to its author, what was expected, and a likely correction or ""."""

    def __init__(self, word: Any, expected: str, suggestion: str = "") -> None:
        super().__init__(expected)
        self.word = shown(word)
        self.expected = expected
        self.suggestion = suggestion


def shown(value: Any) -> str:
    """Return ``value`` as a user would write it, cut to MAX_SHOWN characters; never raises."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return _shown_list(value)
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    word = str(value) or '""'
    return word if len(word) <= limits.MAX_SHOWN else word[: limits.MAX_SHOWN - 3] + "..."


def _shown_list(value: list[Any]) -> str:
    words = ["[...]" if isinstance(item, list) else shown(item) for item in value[:3]]
    return f"[{', '.join(words)}{', ...' if len(value) > 3 else ''}]"


def label(text: str) -> str:
    """Return ``text`` fit for a message on a terminal: printable, cut to MAX_SHOWN characters."""
    if 0 < len(text) <= limits.MAX_SHOWN and text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in shown(text))


def near(word: str, known: Iterable[str]) -> str:
    """Return the member of ``known`` that ``word`` was probably meant to be, or ""."""
    word = word[: limits.MAX_SHOWN].lower()
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else ""


def text(value: Any, expected: str) -> str:
    """Return ``value`` if it is a string, else raise WordError with ``expected``."""
    if not isinstance(value, str):
        raise WordError(value, expected)
    return value


def number(value: Any, first: int, last: int, expected: str) -> int:
    """Return ``value`` if it is an integer, or a string of digits, from ``first`` to ``last``; else raise WordError."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
        raise WordError(value, expected)
    return value


def one_of(value: Any, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of the strings ``known``; else raise WordError with the nearest as suggestion."""
    words = tuple(known)
    if isinstance(value, str) and value in words:
        return value
    expected = " or ".join(f'"{word}"' for word in words)
    word = text(value, expected)
    raise WordError(word, expected, near(word, words))


def switch(value: Any) -> bool:
    """Return a TOML boolean. Raises WordError for anything else, quoted "true" included."""
    if not isinstance(value, bool):
        guess = str(value).lower() if isinstance(value, str) else ""
        suggestion = {"true": "true", "on": "true", "yes": "true", "false": "false", "off": "false", "no": "false"}
        raise WordError(value, "true or false, without quotes", suggestion.get(guess, ""))
    return value


_ACTIONS = {member.value: member for member in Action}
_DIRECTIONS = {member.value: member for member in Direction}


def action(value: Any) -> Action:
    """Return "permit" or "deny" as Action. Raises WordError; "ask" has its own sentence."""
    if value == "ask":
        raise WordError(value, '"permit" or "deny"; "ask" is not available yet')
    return _ACTIONS[one_of(value, _ACTIONS)]


def direction(value: Any) -> Direction:
    """Return "in", "out" or "both" as Direction, or raise WordError."""
    return _DIRECTIONS[one_of(value, _DIRECTIONS)]


def description(value: Any) -> str:
    """Return a printable text of 1 to MAX_DESCRIPTION characters without blanks at its ends, or raise WordError."""
    expected = f"1 to {limits.MAX_DESCRIPTION} printable characters, no blanks at the ends"
    word = text(value, expected)
    if not 1 <= len(word) <= limits.MAX_DESCRIPTION or not word.isprintable():
        raise WordError(word, expected)
    if word != word.strip():
        raise WordError(word, expected, word.strip())
    return word


def group_label(value: Any) -> str:
    """Return the label of a packet filter rule: "" or a description. Raises WordError."""
    return "" if value == "" else description(value)


_GROUP_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def group_name(value: str) -> str:
    """Return the name of an IP group: letters, digits, "_", "-", "."; not "trusted". Raises WordError."""
    if value == "trusted":
        raise WordError(value, 'another name: "@trusted" is the Trusted area')
    if not _GROUP_NAME.fullmatch(value) or len(value) > limits.MAX_GROUP_NAME:
        raise WordError(value, f'a group name: 1 to {limits.MAX_GROUP_NAME} letters, digits, "_", "-" or "."')
    return value


def user(value: Any) -> str | int:
    """Return a user name, or a uid (also one in quotes) as int. Raises WordError."""
    expected = f"a user name or a uid (0..{limits.MAX_UID})"
    if not isinstance(value, str) or (value.isascii() and value.isdigit()):
        return number(value, 0, limits.MAX_UID, expected)
    fits = 1 <= len(value) <= limits.MAX_USER and value.isprintable() and not value.startswith("-")
    if not fits or any(char in value for char in ' :/,"'):
        raise WordError(value, expected)
    return value


def adapter(value: Any) -> str:
    """Return the name of a network adapter as the kernel would accept it. Raises WordError."""
    expected = f'an adapter name: 1 to {limits.MAX_ADAPTER} characters without "/", ":" and blanks'
    word = text(value, expected)
    fits = 1 <= len(word.encode()) <= limits.MAX_ADAPTER and word.isprintable() and word not in (".", "..")
    if not fits or any(char in "/:" or char.isspace() for char in word):
        raise WordError(word, expected)
    return word


def _path(value: Any, expected: str) -> str:
    word = text(value, expected)
    if not word.startswith("/") or not word.isprintable() or len(word.encode()) > limits.MAX_PATH:
        raise WordError(word, expected)
    if word == "/":
        return word
    parts = word[1:].split("/")
    if ".." in parts:
        raise WordError(word, f'{expected}, without ".."')
    tidy = [part for part in parts if part not in ("", ".")]
    if tidy != parts:
        raise WordError(word, f'{expected}, without empty parts and "."', "/" + "/".join(tidy))
    if any(len(part.encode()) > limits.MAX_PATH_PART for part in parts):
        raise WordError(word, f"{expected}, with parts of at most {limits.MAX_PATH_PART} bytes")
    return word


def cgroup(value: Any) -> str:
    """Return a path below the cgroup mount, "/" being the mount itself. Raises WordError."""
    return _path(value, 'a path below the cgroup mount, beginning with "/"')


def program(value: Any) -> str:
    """Return the absolute path of one program file, without wildcards. Raises WordError."""
    expected = "the absolute path of a program"
    word = _path(value, expected)
    if word == "/" or "*" in word:
        raise WordError(word, f"{expected}, without wildcards")
    return word


def application(value: Any) -> str:
    """Return the absolute path of a program; "*" in it stays within a component, "**" crosses. Raises WordError."""
    expected = 'an absolute path ("*" and "**" are wildcards)'
    if isinstance(value, str) and value.lower() in ("any", "all", "*"):
        raise WordError(value, f'"any" alone, or {expected}', "any")
    word = _path(value, expected)
    if word == "/" or "***" in word:
        raise WordError(word, expected)
    return word


def group_file(value: Any) -> str:
    """Return the path of a group file, absolute or relative to the policy file. Raises WordError."""
    expected = "the path of a file"
    word = text(value, expected)
    if not word or not word.isprintable() or len(word.encode()) > limits.MAX_PATH:
        raise WordError(word, expected)
    return word


_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def host_name(value: Any, expected: str = "a host name") -> str:
    """Return a host name by RFC 1123 in small letters, without a dot at its end. Raises WordError.

    The last label is never a number, so that a mistyped address is not taken for a name.
    """
    word = text(value, expected)
    name = word.lower().removesuffix(".")
    if len(name) > limits.MAX_HOST_NAME:
        raise WordError(word, f"{expected} of at most {limits.MAX_HOST_NAME} characters")
    labels = name.split(".")
    if labels[-1].isdigit() or not all(_LABEL.fullmatch(part) for part in labels):
        raise WordError(word, expected, _in_ascii(name))
    return name


def _in_ascii(name: str) -> str:
    if name.isascii():
        return ""
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
