"""Explaining a flow: the rule that decides it, and good reasons why those before it do not."""

from __future__ import annotations

from hypothesis import HealthCheck, given, note, settings

from kpf_ebpf.evaluate.evaluator import Flow, evaluate
from kpf_ebpf.evaluate.explain import explain
from kpf_ebpf.facts.model import Facts
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.resolve.model import ordered_rules
from kpf_ebpf.resolve.resolve import resolve
from tests.unit.evaluate.flows import cases


@settings(deadline=None, max_examples=100, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
@given(cases(16))
def test_an_explanation_is_true(case: tuple[Policy, Facts, list[Flow]]) -> None:
    """It names the rule that decides; what it passes comes before that rule, in order, and for a reason."""
    policy, facts, flows = case
    image = compile_image(resolve(policy, facts))
    order = {rule.id: place for place, rule in enumerate(ordered_rules(image.policy))}
    for flow in flows:
        note(f"{flow}")
        found = explain(image, flow)
        assert found.rule == evaluate(image, flow)
        passed = [one.rule.id for one in found.passed]
        assert passed == sorted(set(passed), key=order.__getitem__)
        assert all(order[rule_id] < order[found.rule.id] for rule_id in passed)
        assert all(one.reason and "it matches, but comes later" not in one.reason for one in found.passed)
