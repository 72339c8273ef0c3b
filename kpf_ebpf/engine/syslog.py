"""The network log to a syslog server, by UDP. What cannot be sent is counted; the log file has it anyway."""

from __future__ import annotations

import logging
from logging.handlers import SysLogHandler

from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.events.render import json_line
from kpf_ebpf.policy.addresses import address_text


class _Handler(SysLogHandler):
    append_nul = False
    ident = "kpf-ebpf: "
    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:
        """Counts instead of writing to standard error."""
        self.lost += 1


class Syslog:
    """Sends records to one server; to none until ``retarget`` names one. ``lost`` counts what could not be sent."""

    def __init__(self) -> None:
        self._target: tuple[int, int] | None = None
        self._handler: _Handler | None = None
        self._lost_before = 0

    @property
    def lost(self) -> int:
        """Records that could not be sent."""
        return self._lost_before + (self._handler.lost if self._handler else 0)

    def retarget(self, target: tuple[int, int] | None) -> None:
        """Sends to this (address in the 128-bit space, port) from now on; None: to nobody."""
        if target == self._target:
            return
        self._lost_before = self.lost
        if self._handler:
            self._handler.close()
        self._target, self._handler = target, None

    def send(self, record: LogRecord) -> None:
        """Sends a record as a JSON line, facility local0; a denial is a notice, all else information."""
        if self._target is None:
            return
        try:
            if self._handler is None:
                address = (address_text(self._target[0]), self._target[1])
                self._handler = _Handler(address=address, facility=SysLogHandler.LOG_LOCAL0)
        except OSError:
            self._lost_before += 1
            return
        level = logging.WARNING if record.action == "deny" else logging.INFO
        self._handler.emit(logging.LogRecord("kpf-ebpf", level, "", 0, json_line(record), None, None))
