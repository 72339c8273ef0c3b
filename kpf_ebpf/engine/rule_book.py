"""What the log calls each rule, kept for as long as the Engine lives, and so in little room."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.events.enrich import RuleName
from kpf_ebpf.resolve.model import ordered_rules

_NONE = 2**32 - 1


class RuleBook(Mapping[int, RuleName]):
    """The name of each rule by its counter: one text, of which a line is read when an event asks for it.

    As values of their own, 10,000 names take ten times as much, and each keeps the memory around it from being given
    back when the record that they were read from is not needed any more.
    """

    def __init__(self, names: Mapping[int, RuleName]) -> None:
        self._places = array("I", [_NONE]) * (max(names, default=-1) + 1)
        self._count = len(names)
        lines, place = [], 0
        for counter, name in sorted(names.items()):
            lines.append("\0".join((name.id, name.description, name.origin, "")).encode("utf-8", "surrogateescape"))
            self._places[counter] = place
            place += len(lines[-1])
        self._text = b"".join(lines)

    def __getitem__(self, counter: int) -> RuleName:
        place = self._places[counter] if 0 <= counter < len(self._places) else _NONE
        if place == _NONE:
            raise KeyError(counter)
        end = place
        for _ in range(3):
            end = self._text.index(b"\0", end) + 1
        words = self._text[place:end].decode("utf-8", "surrogateescape").split("\0")
        return RuleName(words[0], words[1], words[2])

    def __iter__(self) -> Iterator[int]:
        return (counter for counter, place in enumerate(self._places) if place != _NONE)

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RuleBook):
            return super().__eq__(other)
        return self._places == other._places and self._text == other._text

    __hash__ = None  # type: ignore[assignment]


def rule_names(enforced: Enforced, known: RuleBook | None = None) -> RuleBook:
    """What the log says of each rule, by counter; if all are named as before, what is ``known``."""
    by_id = {rule.id: rule for rule in ordered_rules(enforced.resolved)}
    names = {
        counter: RuleName(rule.id, rule.description, rule.origin)
        for rule_id, counter in enforced.counters.items()
        if (rule := by_id.get(rule_id))
    }
    book = RuleBook(names)
    return known if known is not None and book == known else book
