"""From a policy file to the kernel's active image: the pipeline once through, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kpf_ebpf.engine import last_good, password, records
from kpf_ebpf.engine.accepted import Accepted, digests, keep_accepted
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.follow import rows_of
from kpf_ebpf.engine.prints import Print, Prints
from kpf_ebpf.engine.records import Enforced, Pending
from kpf_ebpf.engine.snapshot import ReadPolicy, warnings
from kpf_ebpf.facts.files import Identify
from kpf_ebpf.facts.gather import EVERYTHING, HOSTS, Names, application_words, gather
from kpf_ebpf.facts.model import Facts, NameFact, Part, Session
from kpf_ebpf.facts.names import literals
from kpf_ebpf.facts.system import read_text
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.image.rows import TooManyRules
from kpf_ebpf.kernel.active import read_active, read_trial
from kpf_ebpf.kernel.apply import Contents, Manner, apply, spread
from kpf_ebpf.names.files import without_network
from kpf_ebpf.resolve.resolve import resolve


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy on its way into the kernel."""

    read: ReadPolicy
    facts: Facts
    image: MapImage
    prints: dict[str, Print]


@dataclass(frozen=True, slots=True)
class View:
    """How to look at the world: whom to ask for names; and, if not at everything, at which parts beside ``before``."""

    names: Names = literals
    before: Facts | None = None
    parts: frozenset[Part] = EVERYTHING


def prepare(
    read: ReadPolicy,
    identify: Identify | None,
    view: View,
    *,
    password_set: bool = False,
    before: Enforced | None = None,
    digests: Mapping[str, str] | None = None,
    cookie: int = 0,
) -> Prepared:
    """Resolves and compiles a policy. Raises EngineError for one that is too large.

    ``digests``: what was accepted at each path, where nothing is enforced ``before``.
    """
    prints = before.prints if before else {}
    if view.before is None or Part.APPLICATIONS in view.parts:
        prints = Prints(application_words(read.policy)).take(walk=True)
    facts = gather(
        read.policy,
        identify,
        password_set=password_set,
        netns_cookie=cookie,
        names=view.names,
        before=view.before,
        parts=view.parts,
    )
    accepted = Accepted(before.resolved.applications, before.digests) if before else Accepted(digests=digests or {})
    facts = keep_accepted(facts, accepted, read.policy.preferences.on_modified)
    facts = replace(facts, session=None)  # earlier facts may speak of one that is over: who wants it, adds it
    resolved = resolve(read.policy, facts)
    resolved = replace(resolved, warnings=(*warnings(read), *resolved.warnings))
    try:
        image = compile_image(resolved, before.counters if before else None)
    except TooManyRules as problem:
        raise EngineError(f"{read.snapshot.file}: {problem}; nothing was changed") from problem
    return Prepared(read, facts, image, prints)


Guard = Callable[[MapImage], Session | None]
"""Is shown an image before it counts: gives the session that it must let live, or raises EngineError."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a policy becomes the enforced one: on trial until a moment, and whose session must live on.

    ``final``: else there may be a way back to the image before, which is left in its place.
    """

    until: int | None = None
    guard: Guard = lambda image: None
    final: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """What was enforced, what is, what it was made from, and its image."""

    before: Enforced | None
    enforced: Enforced
    facts: Facts
    image: MapImage


def enforce(
    instance: Instance,
    read: ReadPolicy,
    identify: Identify,
    before: Enforced | None,
    home: int,
    view: View | None = None,
    terms: Terms | None = None,
) -> Made:
    """Makes a policy the one that is enforced; ``home`` is the cookie of the network namespace of ``up``.

    By default names are what is known at once. Without ``terms`` it is the same policy in a world that changed: a trial
    goes on, a session lives on, and where nothing changed the kernel is left alone. Raises EngineError; nothing was
    changed then.
    """
    view = view or View(known_names(before.names if before else ()))
    good = last_good.recall(instance) if before is None else None
    ready = prepare(
        read,
        identify,
        view,
        password_set=password.is_set(instance),
        before=before,
        digests=good.digests if good else {},
        cookie=home,
    )
    session = terms.guard(ready.image) if terms else before.session if before else None
    if session is not None:
        ready = _with_session(ready, session, before)
    made = Enforced(
        generation=before.generation if before else 0,
        snapshot=read.snapshot,
        policy_sha256=read.policy.sha256,
        resolved=ready.image.policy,
        counters=dict(ready.image.counters),
        names=tuple(ready.facts.names.values()),
        name_grace=read.policy.preferences.name_grace,
        prints=ready.prints,
        digests=digests(ready.facts, before.digests if before else good.digests if good else {}),
        contents=before.contents if before else {},
        rows=rows_of(ready.image),
        session=session,
        words=application_words(read.policy),
        resolvers=None if isinstance(resolvers := read.policy.preferences.resolvers, str) else resolvers,
    )
    if terms is None and before is not None and _means_the_same(made, before, instance):
        if made != before:
            records.write(instance, made)
        return Made(before, made, ready.facts, ready.image)
    if terms is None:
        trial = read_trial(instance.pins)
        until = trial.until if trial else None
    else:
        until = terms.until
        _write_pending(instance, before, until)
    switched = switch(instance, made, ready.image, before, until)
    if terms is None or terms.final:
        spread(instance.pins)
    return Made(before, switched, ready.facts, ready.image)


def _with_session(ready: Prepared, session: Session, before: Enforced | None) -> Prepared:
    """The same, with a rule for the session."""
    facts = replace(ready.facts, session=session)
    resolved = replace(resolve(ready.read.policy, facts), warnings=ready.image.policy.warnings)
    return replace(ready, facts=facts, image=compile_image(resolved, before.counters if before else None))


def _write_pending(instance: Instance, before: Enforced | None, until: int | None) -> None:
    """Before a trial begins: what it may end in. One that is on trial already ends in what was before that."""
    if until is None:
        return
    known = records.read(instance, Pending) if read_trial(instance.pins) else None
    records.write(instance, Pending(until, known.former if known else before))


def _means_the_same(made: Enforced, before: Enforced, instance: Instance) -> bool:
    """Whether the kernel has this already. (A command that died between record and switch left another generation.)"""
    return (
        replace(made.resolved, warnings=()) == replace(before.resolved, warnings=())
        and made.counters == before.counters
        and read_active(instance.pins).generation == before.generation
    )


def known_names(before: Iterable[NameFact] = ()) -> Names:
    """What is known of names at once: literals, what /etc/hosts says, and what was known before. Nobody is asked."""
    known = {fact.name: fact for fact in before}

    def names(wanted: tuple[str, ...]) -> dict[str, NameFact]:
        here = without_network(wanted, read_text(HOSTS) or "")
        return {name: fact if fact.addresses else known.get(name, fact) for name, fact in here.items()}

    return names


def switch(
    instance: Instance, made: Enforced, image: MapImage, before: Enforced | None, until: int | None = None
) -> Enforced:
    """Makes an image the active one and writes its record, with its generation. Raises EngineError.

    ``until``: on trial until this moment (ns of the monotonic clock).
    """
    counters = before.counters if before else {}
    fresh = [number for rule, number in made.counters.items() if counters.get(rule) != number]
    written = made

    def announce(generation: int, contents: Contents) -> None:
        nonlocal written
        written = replace(made, generation=generation, contents=dict(contents))
        records.write(instance, written)

    try:
        # a record of another generation tells nothing of the active slot
        is_told = before is not None and read_active(instance.pins).generation == before.generation
        known = before.contents if before and is_told else None
        apply(instance.pins, image, fresh, announce, Manner(made.resolved.on_failure == "open", until, known))
    except OSError as problem:
        raise EngineError(
            f"the kernel's maps could not be filled: {problem.strerror}; run `kpf-ebpf status`; the old policy stands"
        ) from problem
    if until is None:
        records.forget(instance, Pending)
    return written
