"""What the programs decide by themselves, with no process of ours alive: the end of a trial, and opening on failure."""

from __future__ import annotations

import os
import threading
import time

import pytest

from kpf_ebpf.facts.gather import gather
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.active import (
    Active,
    Trial,
    Watch,
    beat,
    end_trial,
    may_open,
    read_active,
    read_effective,
    read_trial,
    write_active,
)
from kpf_ebpf.kernel.apply import Manner, apply
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve
from tests.kernel.conftest import Kernel

LATER = 1_000_000
"""Seconds: a moment that no test lives to see."""
TRY = """
import socket
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    print("sent" if made.sendto(b"x", ("127.0.0.1", 9)) else "")
except PermissionError:
    print("EPERM")
"""


def image(kernel: Kernel, action: str) -> MapImage:
    """A policy that permits or denies everything."""
    cells = "".join(f'{cell} = "{action}"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    text = f"[predefined]\nenabled = false\n[default]\n{cells}"
    policy, _ = parse(text.encode(), "test.toml", lambda path: b"", kernel.folder)
    made = compile_image(resolve(policy, gather(policy, kernel.programs.identify, netns_cookie=kernel.home)))
    kernel.counters = dict(made.counters)
    return made


def verdict(kernel: Kernel) -> str:
    """What happens to a datagram."""
    return kernel.run("any", TRY)


def moment(seconds: float) -> int:
    """A moment from now, on the kernel's monotonic clock."""
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.mark.parametrize("action", ["permit", "deny"])
def test_a_trial_that_nobody_confirms_is_what_was_before(kernel: Kernel, action: str) -> None:
    """Until its moment the new policy counts, after it the old one, whoever is alive; its slot was not touched."""
    pins, other = kernel.programs.pins, {"permit": "deny", "deny": "permit"}[action]
    words = {"permit": "sent", "deny": "EPERM"}
    apply(pins, image(kernel, other))
    former = read_active(pins)
    apply(pins, image(kernel, action), manner=Manner(until=moment(LATER)))
    assert verdict(kernel) == words[action]
    apply(pins, image(kernel, action), manner=Manner(until=moment(LATER)))  # names that are refreshed meanwhile
    trial = read_trial(pins)
    assert trial is not None and trial.instead == former and not trial.is_over()
    write_active(pins, trial.active, Trial(trial.active, trial.instead, moment(-1)))
    assert verdict(kernel) == words[other]
    assert read_effective(pins) == former
    end_trial(pins)
    assert verdict(kernel) == words[action], "confirmed after all"


def test_a_trial_of_another_word_means_nothing(kernel: Kernel) -> None:
    """What was on trial and is replaced for good does not come back when its time is over."""
    pins = kernel.programs.pins
    apply(pins, image(kernel, "permit"))
    apply(pins, image(kernel, "permit"), manner=Manner(until=moment(-1)))
    apply(pins, image(kernel, "deny"))
    assert read_trial(pins) is None
    assert verdict(kernel) == "EPERM"


def test_a_first_policy_on_trial_ends_in_nothing(kernel: Kernel) -> None:
    """Nothing was enforced before: nothing is afterwards."""
    pins = kernel.programs.pins
    write_active(pins, Active(read_active(pins).generation + 1, False, None))
    apply(pins, image(kernel, "deny"), manner=Manner(until=moment(LATER)))
    assert verdict(kernel) == "EPERM"
    trial = read_trial(pins)
    assert trial is not None
    write_active(pins, trial.active, Trial(trial.active, trial.instead, moment(-1)))
    assert verdict(kernel) == "sent"
    assert read_effective(pins).slot is None


def test_a_policy_that_opens_on_failure_needs_a_heartbeat(kernel: Kernel) -> None:
    """Open: it counts until the first beat is due, then as long as beats come; stop-all outlives the Engine."""
    pins, over = kernel.programs.pins, threading.Event()
    heartbeat = bpf.open_pinned(pins / "heartbeat")
    apply(pins, image(kernel, "deny"), manner=Manner(opens=True))
    assert may_open(pins)
    assert verdict(kernel) == "EPERM", "nobody has had the time to beat"

    def keep_beating() -> None:
        while not over.wait(0.05):
            beat(heartbeat)

    heart = threading.Thread(target=keep_beating)
    heart.start()
    try:
        beat(heartbeat)
        assert verdict(kernel) == "EPERM"
    finally:
        over.set()
        heart.join()
        os.close(heartbeat)
    until = time.monotonic() + 10
    while verdict(kernel) != "sent":
        assert time.monotonic() < until, "it stays closed without a heart"
    active = read_active(pins)
    write_active(pins, Active(active.generation + 1, True, active.slot, opens=True))
    try:
        assert verdict(kernel) == "EPERM"
    finally:
        write_active(pins, Active(active.generation + 2, False, active.slot, opens=True))


def test_a_trial_that_ends_in_a_policy_that_opens_needs_the_heartbeat_before(kernel: Kernel) -> None:
    """Whoever keeps the heart asks whether a policy may open: also the one that a trial ends in."""
    pins = kernel.programs.pins
    apply(pins, image(kernel, "deny"))
    assert not may_open(pins)
    apply(pins, image(kernel, "permit"), manner=Manner(opens=True))
    apply(pins, image(kernel, "deny"), manner=Manner(until=moment(LATER)))
    assert may_open(pins)
    end_trial(pins)
    assert not may_open(pins)
    apply(pins, image(kernel, "deny"))
    assert verdict(kernel) == "EPERM", "closed: nobody needs to live"


def test_who_watches_sees_what_is_active_and_on_trial(kernel: Kernel) -> None:
    """What is read by descriptors that stay open is what is read by opening them; also of maps pinned anew."""
    pins = kernel.programs.pins
    watch = Watch(pins)
    apply(pins, image(kernel, "permit"), manner=Manner(opens=True))
    apply(pins, image(kernel, "deny"), manner=Manner(until=moment(LATER)))
    for until in (LATER, -1):
        active = read_active(pins)
        write_active(pins, active, Trial(active, Active(1, False, 0, opens=True), moment(until)))
        seen = watch.look()
        assert seen is not None
        assert (seen.active, seen.trial) == (read_active(pins), read_trial(pins))
        assert (seen.is_unsettled, seen.may_open) == (until < 0, True)
    (pins / "trial").rename(pins / "elsewhere")
    assert watch.look() is None
    (pins / "elsewhere").rename(pins / "trial")
    end_trial(pins)
    seen = watch.look()
    assert seen is not None
    assert (seen.trial, seen.is_unsettled, seen.may_open) == (None, False, False)
    watch.close()
