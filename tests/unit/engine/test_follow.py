"""What of a change of hosts' addresses can be followed without the policy, and what cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kpf_ebpf.engine.follow import Followed, _changed, _knows_adapters, _rows, rows_of
from kpf_ebpf.facts.model import Adapter, NameFact
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.policy.model import Action
from kpf_ebpf.resolve.model import Match, ResolvedPolicy, ResolvedRule
from kpf_ebpf.resolve.predefined import BROADCASTS

CELL = ResolvedRule("default/x", "default", "any other application", Action.DENY)


def hosts(addresses: dict[str, tuple[int, ...]], syslog: int | None = None) -> Followed:
    """What is known of a policy with a rule for each of these hosts, the first of which names all others, too."""
    names = tuple(addresses)
    rules = tuple(
        ResolvedRule(
            f"packet-filter/{name}", "packet-filter", name, Action.PERMIT, (Match(remote=(), remote_hosts=named),)
        )
        for name, named in ((names[0], names), *((name, (name,)) for name in names[1:]))
    )
    image = compile_image(ResolvedPolicy(rules, (), (CELL,) * 4, hosts=addresses))  # type: ignore[arg-type]
    facts = tuple(NameFact(name, found) for name, found in addresses.items())
    return Followed(3, 4, facts, addresses, rows_of(image), syslog, (), (), names_adapters=False)


def test_each_address_gets_the_rows_of_its_hosts() -> None:
    """Those of a host alone, and of hosts that share it their common ones."""
    known = hosts({"a": (1, 2), "b": (2,)})
    assert _rows(known, {"a": (7,), "b": (8, 9)}) == {7: known.rows["a"], 8: known.rows["b"], 9: known.rows["b"]}
    assert _rows(known, {"a": (7, 8), "b": (8,)}) == {7: known.rows["a"], 8: known.rows["a b"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": (1,), "b": (2,)}, {"a": (1,), "b": (1,)}),
        ({"a": (1,), "b": (2,)}, {"a": (1,), "b": ()}),
        ({"a": (), "b": (2,)}, {"a": (1,), "b": (2,)}),
    ],
)
def test_what_the_record_has_no_rows_or_warnings_for_is_not_followed(
    before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]
) -> None:
    """Hosts that share an address for the first time; a name that has no address any more, or its first."""
    assert _rows(hosts(before), after) is None


def test_broadcasts_are_those_of_the_adapters_that_there_are() -> None:
    """A host that stands for them has no name to look up: none, and the first, are no warning's business."""
    known = hosts({BROADCASTS: (), "a": (7,)})
    one = _changed(known, {}, (Adapter("eth0", 2, (1,), (9,)), Adapter("eth1", 3, (2,), (9, 8))))
    assert one.addresses == {BROADCASTS: (9, 8), "a": (7,)}
    rows = _rows(known, one.addresses)
    assert rows == {9: known.rows[BROADCASTS], 8: known.rows[BROADCASTS], 7: known.rows["a"]}
    none = _changed(replace(known, addresses=one.addresses), {}, ())
    assert _rows(known, none.addresses) == {7: known.rows["a"]}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ((Adapter("a", 2, (1,)),), (Adapter("a", 2, (5,)),), True),
        ((Adapter("a", 2, (1,)),), (), False),
        ((), (Adapter("a", 2, (1,)),), False),
        ((Adapter("a", 2, (1,)),), (Adapter("a", 3, (1,)),), False),
    ],
)
def test_adapters_that_the_policy_may_name_must_be_the_same(
    before: tuple[Adapter, ...], after: tuple[Adapter, ...], same: bool, named: bool
) -> None:
    """Who comes or goes is followed only where no item of the Trusted area is bound to an adapter."""
    known = replace(hosts({"x": (1,)}), adapters=before, names_adapters=named)
    assert _knows_adapters(known, after) is (same or not named)


def test_where_the_log_goes_is_not_changed_in_passing() -> None:
    """The syslog server's new address is also where the Engine sends to: the whole policy is resolved for it."""
    known = hosts({"a": (1,), "b": (2,)}, syslog=2)
    assert _rows(known, {"a": (1,), "b": (3,)}) is None
    assert _rows(known, {"a": (3,), "b": (2,)}) is not None
