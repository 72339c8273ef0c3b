"""explain(image, flow): which rule decides a flow, and why the ones before it do not match."""

from __future__ import annotations

from dataclasses import dataclass

from kpf_ebpf.evaluate.evaluator import Flow, Judged, evaluate, judge
from kpf_ebpf.image.model import FIELDS, MapImage
from kpf_ebpf.policy.model import Zone
from kpf_ebpf.resolve.model import Match, ResolvedRule


@dataclass(frozen=True, slots=True)
class Passed:
    """A rule before the deciding one, and what of it does not fit the flow."""

    rule: ResolvedRule
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The rule that decides, and those it was preferred to, in order of evaluation."""

    rule: ResolvedRule
    passed: tuple[Passed, ...]


def explain(image: MapImage, flow: Flow, *, stop_all: bool = False) -> Explanation:
    """Explains a flow by the image that the kernel has."""
    rule = evaluate(image, flow, stop_all=stop_all)
    judged = judge(image, flow)
    passed: dict[str, list[str]] = {}
    rules: dict[str, ResolvedRule] = {}
    alternative: dict[str, int] = {}
    end = image.positions if judged.first is None or rule.origin in ("application", "default") else judged.first
    for position in range(0 if stop_all and rule.origin == "stop-all" else end):
        before = image.rules[position]
        if before.id == rule.id:
            continue
        if rule.origin == "modified" and position >= image.guard_end:
            break
        rules[before.id] = before
        match = before.matches[alternative.get(before.id, 0)]
        alternative[before.id] = alternative.get(before.id, 0) + 1
        passed.setdefault(before.id, []).append(_reason(judged, position, match, flow))
    return Explanation(
        rule, tuple(Passed(rules[rule_id], " / ".join(dict.fromkeys(found))) for rule_id, found in passed.items())
    )


def _reason(judged: Judged, position: int, match: Match, flow: Flow) -> str:
    """The first field of a rule that does not accept the flow, in words."""
    for field, vector in zip(FIELDS, judged.vectors, strict=True):
        if vector >> position & 1:
            continue
        return _scope(match, flow, judged) if field == "scope" else f"another {_WORDS.get(field, field)}"
    return "it matches, but comes later"


_WORDS = {"local port": "local port or ICMP type"}


def _scope(match: Match, flow: Flow, judged: Judged) -> str:
    if flow.direction not in match.directions:
        return "another direction"
    if match.localhost and not judged.loopback:
        return "not localhost"
    if match.home and not judged.home:
        return "another network namespace"
    if match.remote_zone is not None and match.remote_zone is not judged.remote_zone:
        return f"the remote address is {_zone(judged.remote_zone)}"
    return f"the local address is {_zone(judged.local_zone)}"


def _zone(zone: Zone) -> str:
    return "in the Trusted area" if zone is Zone.TRUSTED else "in the Internet"
