"""Reading the tables of a policy: every mistake is noted with its place, and reading goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.model import Where
from kpf_ebpf.policy.toml_lines import KeyPath, line_of
from kpf_ebpf.policy.words import WordError, label, near

T = TypeVar("T")


class Report:
    """The findings made so far about one policy file and its group files."""

    def __init__(self, file: str, lines: Mapping[KeyPath, int]) -> None:
        self.file = file
        self._lines = lines
        self._errors: list[Finding] = []
        self._warnings: list[Finding] = []

    def where(self, path: KeyPath) -> Where:
        """Return the place of ``path`` in the policy file."""
        return Where(self.file, line_of(self._lines, path))

    def error(self, where: Where, rule: str, key: str, error: WordError) -> None:
        """Note a mistake. Raises PolicyError with all of them at the one after MAX_FINDINGS: reading ends there."""
        if len(self._errors) >= limits.MAX_FINDINGS:
            rest = WordError("and more", f"at most {limits.MAX_FINDINGS} mistakes; reading ended here")
            raise PolicyError((*self.errors(), _finding(where, rule, key, rest)))
        self._errors.append(_finding(where, rule, key, error))

    def warn(self, where: Where, rule: str, key: str, error: WordError) -> None:
        """Note something that is allowed but probably not meant."""
        if len(self._warnings) < limits.MAX_FINDINGS:
            self._warnings.append(_finding(where, rule, key, error))

    def errors(self) -> tuple[Finding, ...]:
        """Return the mistakes by file (the policy first) and line."""
        return self._sorted(self._errors)

    def warnings(self) -> tuple[Finding, ...]:
        """Return the warnings by file (the policy first) and line."""
        return self._sorted(self._warnings)

    def _sorted(self, findings: list[Finding]) -> tuple[Finding, ...]:
        return tuple(sorted(findings, key=lambda f: (f.where.file != self.file, f.where.file, f.where.line)))


def _finding(where: Where, rule: str, key: str, error: WordError) -> Finding:
    return Finding(where, rule, key, error.word, error.expected, error.suggestion)


class Table:
    """One table of the document. ``take`` and its like read keys; ``finish`` then complains of keys nobody took.

    ``rule`` names the entry in findings, ``prefix`` goes before its keys ("remote." for an inner table).
    """

    def __init__(self, report: Report, path: KeyPath, rule: str, value: Any, prefix: str = "") -> None:
        self.report = report
        self.path = path
        self.rule = rule
        self._prefix = prefix
        self._known: set[str] = set()
        self.broken = False
        """True once a key of this table has been refused."""
        if not isinstance(value, dict):
            report.error(report.where(path), rule, prefix.removesuffix("."), WordError(value, "a table"))
            self.broken = True
            value = {}
        self._data: dict[str, Any] = value

    @property
    def where(self) -> Where:
        """The place of the table."""
        return self.report.where(self.path)

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def raw(self, key: str) -> Any:
        """Return the unread value of ``key``, None if it is not there."""
        return self._data.get(key)

    def error(self, key: str, error: WordError, *inner: str | int) -> None:
        """Note a mistake at ``key``, or at ``inner`` (a list index) of it."""
        self.broken = True
        self.report.error(self.report.where((*self.path, key, *inner)), self.rule, self._prefix + label(key), error)

    def warn(self, key: str, error: WordError) -> None:
        """Note a warning at ``key``."""
        self.report.warn(self.report.where((*self.path, key)), self.rule, self._prefix + key, error)

    def know(self, key: str) -> None:
        """Let ``key`` be there, or not."""
        self._known.add(key)

    def take(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Return ``read`` of the value of ``key``; ``default`` if it is not there or ``read`` raised WordError."""
        self._known.add(key)
        if key not in self._data:
            return default
        try:
            return read(self._data[key])
        except WordError as error:
            self.error(key, error)
            return default

    def require(self, key: str, read: Callable[[Any], T], expected: str) -> T | None:
        """Return ``read`` of the value of ``key``, or None after noting that it is missing or wrong."""
        if key not in self._data:
            self._known.add(key)
            self.broken = True
            self.report.error(self.where, self.rule, self._prefix + key, WordError("(missing)", expected))
            return None
        nothing: T | None = None
        return self.take(key, read, nothing)

    def words(self, key: str, read: Callable[[Any], T], any_word: bool = True) -> list[T] | None:
        """Return what ``read`` makes of the word, or of each word of the list, at ``key``; None if any was refused.

        Nothing there, or with ``any_word`` the word "any", gives an empty list; an empty list is refused, as it could
        be read as nothing or as anything.
        """
        self._known.add(key)
        if key not in self._data:
            return []
        value = self._data[key]
        if isinstance(value, list):
            return self._listed(key, value, read, any_word)
        if any_word and value == "any":
            return []
        try:
            return [read(value)]
        except WordError as error:
            self.error(key, error)
            return None

    def _listed(self, key: str, listed: list[Any], read: Callable[[Any], T], any_word: bool) -> list[T] | None:
        if not listed:
            self.error(key, WordError(listed, "at least one word; leave the key out for any"))
            return None
        if len(listed) > limits.MAX_WORDS:
            self.error(key, WordError(listed, f"at most {limits.MAX_WORDS} words; put addresses into a group"))
            return None
        done = []
        for index, word in enumerate(listed):
            try:
                if any_word and word == "any":
                    raise WordError(word, '"any" alone, not in a list')
                done.append(read(word))
            except WordError as error:
                self.error(key, error, index)
        return done if len(done) == len(listed) else None

    def table(self, key: str) -> Table:
        """Return the inner table at ``key``, an empty one if it is not there."""
        self._known.add(key)
        prefix = f"{self._prefix}{key}."
        return Table(self.report, (*self.path, key), self.rule, self._data.get(key, {}), prefix)

    def entries(self, key: str, most: int) -> Iterator[tuple[int, Any]]:
        """Yield (index, value) of the list of tables [[key]], of which there may be ``most``."""
        self._known.add(key)
        value = self._data.get(key, [])
        if not isinstance(value, list):
            self.error(key, WordError(value, f"a list of tables, each under [[{key}]]"))
            return
        if len(value) > most:
            self.error(key, WordError(f"{len(value)} entries", f"at most {most}"))
            value = value[:most]
        yield from enumerate(value)

    def finish(self) -> None:
        """Note every key that nobody took."""
        if self._data.keys() <= self._known:
            return
        for key in self._data:
            if key in self._known:
                continue
            expected = "one of the keys " + ", ".join(sorted(self._known))
            self.error(key, WordError(key, expected, near(key, self._known)))
