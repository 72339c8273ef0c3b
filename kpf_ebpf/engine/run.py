"""What the Engine does: events into the network log, until it is told to end. It enforces nothing: the kernel does."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from kpf_ebpf.engine import canary, memory, privilege, records, service, trial
from kpf_ebpf.engine.down import take_down
from kpf_ebpf.engine.errors import Busy, EngineError
from kpf_ebpf.engine.folders import ENGINE, Instance
from kpf_ebpf.engine.heart import Heart
from kpf_ebpf.engine.records import Attachment, EngineProcess, Losses
from kpf_ebpf.engine.refresh import Refresher
from kpf_ebpf.engine.rule_book import RuleBook, rule_names
from kpf_ebpf.engine.syslog import Syslog
from kpf_ebpf.events.collapse import Collapser
from kpf_ebpf.events.decode import RawEvent, decode
from kpf_ebpf.events.enrich import enrich, name_record
from kpf_ebpf.events.files import LogFile
from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.events.paths import PathFinder
from kpf_ebpf.facts.model import FileKey, NameFact
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import Watch
from kpf_ebpf.kernel.pack import pack_file
from kpf_ebpf.kernel.perf import EventReader

POLL_MS = 1670
"""Milliseconds between looks at what else is to do, if nothing happens: three of them in refresh.WALK_PERIOD.

Most of what the Engine costs at rest is that it wakes: its code and data are in no cache then.
"""
MUCH_WORK = 0.05
"""Seconds of processor time, after which memory is given back."""
CANARY_PERIOD = 60.0
"""Seconds between proofs of enforcement."""
REMEMBERED = 8
"""Generations whose rules are remembered, for events that come late."""


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str | None:
    """A user's name; None: it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def clock(nanoseconds: int) -> datetime:
    """The date of a moment of the kernel's monotonic clock."""
    ago = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - nanoseconds
    return (datetime.now(UTC) - timedelta(microseconds=ago // 1000)).astimezone()


class Engine:
    """Reads the perf buffers of an instance, keeps its log, and its policy true."""

    def __init__(self, instance: Instance) -> None:
        memory.spare()
        # some distributions' kernels open perf buffers for nobody who has given up everything else
        self._reader = EventReader(instance.pins / "events", self._take)
        privilege.drop()
        self._malformed = 0
        self._losses = Losses()
        self._instance, self._pins = instance, instance.pins
        self._ended = False
        self._rules: dict[int, RuleBook] = {}
        self._read_at = self._registered_at = 0
        self._watch = Watch(instance.pins)
        self._paths_map = bpf.open_pinned(instance.pins / "paths")
        self._paths = PathFinder(self._path_text)
        self._collapser = Collapser()
        self._log = LogFile(instance.log)
        self._syslog = Syslog()
        self._unproven: tuple[str, ...] = ()
        self._canary_counters: dict[str, int] = {}
        self._canary_due = time.monotonic() + CANARY_PERIOD
        self._watchdog = service.Watchdog()
        self._refresher = Refresher(instance, self._name_changed)
        self._refresh()

    def run(self) -> None:
        """Works until SIGTERM or SIGINT; then writes what is held back."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        with Heart(self._pins) as heart:
            while not self._ended:
                heart.go_on()
                self._watchdog.look(time.monotonic())
                self._reader.poll(POLL_MS)
                self._write(self._collapser.flush(time.monotonic()))
                opens = self._look_at_trial()
                if self._ended or self._is_relieved():
                    break
                self._refresh()
                heart.matters(opens)
                self._look_around()
                self._prove(time.monotonic())
                self._tell_losses()
        self._reader.poll(0)
        self._write(self._collapser.drain())
        self._refresher.close()
        self._log.close()

    def _look_around(self) -> None:
        """Looks at what the policy speaks of; where that was much work, it was a policy resolved anew."""
        began = time.thread_time()
        self._refresher.look(time.monotonic())
        if time.thread_time() - began > MUCH_WORK:
            memory.give_back()

    def _look_at_trial(self) -> bool:
        """The programs ended a trial: that is written down. Nothing was there before it: then the Engine ends, too.

        Also where a command has written it down already: commands leave the rest to `up`, or to the Engine. Returns
        whether what is enforced may open on failure.
        """
        seen = self._watch.look()
        if seen is not None and seen.is_unsettled:
            with contextlib.suppress(Busy):
                self._settle()
        return seen is not None and seen.may_open

    def _settle(self) -> None:
        with self._instance.locked(ENGINE):
            if trial.is_unsettled(self._pins) and trial.settle(self._instance) is None:
                place = records.read(self._instance, Attachment)
                take_down(self._instance, place.folder if place else None, own=True)
                self._ended = True

    def _is_relieved(self) -> bool:
        """Whether another Engine has been registered: one that `up` could not find to end it ends by itself."""
        changed = records.changed_at(self._instance, EngineProcess)
        if changed == self._registered_at:
            return False
        try:
            known = records.read(self._instance, EngineProcess)
        except EngineError:
            return False  # damaged: `up` writes it anew
        self._registered_at = changed
        return known is not None and known.pid != os.getpid()

    def _prove(self, now: float) -> None:
        """Sends the canary out, if it is time to; what it complains of stands in ``status`` until it does not."""
        if now < self._canary_due:
            return
        self._canary_due = now + CANARY_PERIOD
        place = records.read(self._instance, Attachment)
        if place is None or not self._canary_counters:
            return
        sung = canary.prove(self._instance.pins, Path(place.folder), self._canary_counters)
        complaint = () if sung.ok else (f"the canary found at {datetime.now():%H:%M:%S}: {sung.detail}",)
        if complaint and not self._unproven:
            print(complaint[0], file=sys.stderr, flush=True)
        self._unproven = complaint

    def _end(self, *_: object) -> None:
        self._ended = True

    def _take(self, raw: bytes) -> None:
        try:
            event = decode(raw)
        except ValueError:
            self._malformed += 1
            return
        if event.log or event.alert:
            record = enrich(event, self._rules_of(event), self._paths.path_of, user_name, clock)
            self._write(self._collapser.push(record, time.monotonic()))

    def _write(self, finished: list[LogRecord]) -> None:
        for record in finished:
            self._syslog.send(self._log.append(record))

    def _name_changed(self, before: NameFact, after: NameFact) -> None:
        self._write([name_record(before, after, datetime.now().astimezone())])

    def _tell_losses(self) -> None:
        """Writes down what could not be done with events, for ``status`` to show."""
        refused = (*self._refresher.refused, *self._unproven)
        losses = Losses(self._malformed, self._log.lost, self._syslog.lost, refused)
        if losses != self._losses:
            records.write(self._instance, losses)
            self._losses = losses

    def _rules_of(self, event: RawEvent) -> RuleBook:
        generation = event.active >> 8
        if generation not in self._rules:
            self._refresh()
        known = [number for number in self._rules if number <= generation]
        return self._rules[max(known)] if known else RuleBook({})

    def _refresh(self) -> None:
        """Reads what is enforced now, if it changed: the rules by counter, and where the syslog goes."""
        changed = records.changed_at(self._instance)
        if changed == self._read_at:
            return
        enforced = records.enforced(self._instance)
        if enforced is None:
            return
        self._read_at = changed
        self._canary_counters = canary.counters_of(enforced.counters)
        self._rules[enforced.generation] = rule_names(enforced, self._rules.get(max(self._rules, default=0)))
        while len(self._rules) > REMEMBERED:
            del self._rules[min(self._rules)]
        self._syslog.retarget(enforced.resolved.syslog)
        self._refresher.retarget(enforced)
        del enforced
        memory.give_back()

    def _path_text(self, key: FileKey) -> str | None:
        data = bpf.lookup(self._paths_map, pack_file(key), abi.PATH_BYTES)
        return data.split(b"\0")[0].decode("utf-8", "surrogateescape") if data else None
