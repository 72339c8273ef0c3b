"""The network log's record: one line of the log, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Direction = Literal["in", "out"]
Action = Literal["permit", "deny"]
Hook = Literal["connect", "sendmsg", "egress", "ingress", "adapter-egress", "adapter-ingress", "names"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of the network log. ``line`` 0: not numbered yet. ``rule`` is the rule's description.

    ``hook`` "names": no flow, a host name's address set changed, as ``rule`` says.
    ``pid`` and ``user`` are None where they are not known. Points are written as ``decode.point_text`` writes them.
    """

    line: int
    count: int
    date: datetime
    rule: str
    id: str
    origin: str
    application: str
    pid: int | None
    user: str | None
    direction: Direction
    local: str
    remote: str
    protocol: str
    action: Action
    hook: Hook
    alert: bool
