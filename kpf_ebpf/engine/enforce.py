"""From a policy file to the kernel's active image: the pipeline once through, and the record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.engine import password, records
from kpf_ebpf.engine.accepted import Accepted, digests, keep_accepted
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.prints import Print, Prints
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.snapshot import ReadPolicy
from kpf_ebpf.facts.files import Identify
from kpf_ebpf.facts.gather import application_words, gather
from kpf_ebpf.facts.model import Facts, NameFact
from kpf_ebpf.image.compile import TooManyRules, compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel.apply import apply
from kpf_ebpf.resolve.resolve import resolve

POLICY = Path("/etc/kpf-ebpf/policy.toml")
OBSERVE = Path(__file__).resolve().parent.parent / "policy" / "observe.toml"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy on its way into the kernel."""

    read: ReadPolicy
    facts: Facts
    image: MapImage
    prints: dict[str, Print]


def policy_path(chosen: Path | None) -> Path:
    """The policy that ``up`` takes: the one named, else the machine's, else the shipped observe policy."""
    if chosen is not None:
        return chosen.absolute()
    return POLICY if POLICY.exists() else OBSERVE


def prepare(
    read: ReadPolicy,
    identify: Identify | None,
    *,
    password_set: bool = False,
    before: Enforced | None = None,
    cookie: int = 0,
    names: Mapping[str, NameFact] | None = None,
) -> Prepared:
    """Resolves and compiles a policy; ``names`` need no asking. Raises EngineError for one that is too large."""
    prints = Prints(application_words(read.policy)).take(walk=True)
    facts = gather(read.policy, identify, password_set=password_set, netns_cookie=cookie, names=names)
    accepted = Accepted(before.resolved.applications, before.digests) if before else Accepted()
    facts = keep_accepted(facts, accepted, read.policy.preferences.on_modified)
    resolved = resolve(read.policy, facts)
    resolved = replace(resolved, warnings=(*map(str, read.findings), *resolved.warnings))
    try:
        image = compile_image(resolved, before.counters if before else None)
    except TooManyRules as problem:
        raise EngineError(f"{read.snapshot.file}: {problem}; nothing was changed") from problem
    return Prepared(read, facts, image, prints)


def enforce(
    instance: Instance,
    read: ReadPolicy,
    identify: Identify,
    before: Enforced | None,
    home: int,
    names: Mapping[str, NameFact] | None = None,
) -> tuple[Enforced, MapImage]:
    """Makes a policy the one that is enforced; ``home`` is the cookie of the network namespace of ``up``.

    Raises EngineError; nothing was changed then.
    """
    ready = prepare(read, identify, password_set=password.is_set(instance), before=before, cookie=home, names=names)
    made = Enforced(
        generation=0,
        snapshot=read.snapshot,
        policy_sha256=read.policy.sha256,
        resolved=ready.image.policy,
        counters=dict(ready.image.counters),
        names=tuple(ready.facts.names.values()),
        name_grace=read.policy.preferences.name_grace,
        prints=ready.prints,
        digests=digests(ready.facts, before.digests if before else {}),
    )
    return switch(instance, made, ready.image, before), ready.image


def switch(instance: Instance, made: Enforced, image: MapImage, before: Enforced | None) -> Enforced:
    """Makes an image the active one and writes its record, with its generation. Raises EngineError."""
    known = before.counters if before else {}
    fresh = [number for rule, number in made.counters.items() if known.get(rule) != number]
    try:
        generation = apply(
            instance.pins,
            image,
            fresh,
            lambda generation: records.write(instance, replace(made, generation=generation)),
        )
    except OSError as problem:
        raise EngineError(
            f"the kernel's maps could not be filled: {problem.strerror}; run `kpf-ebpf status`; the old policy stands"
        ) from problem
    return replace(made, generation=generation)
