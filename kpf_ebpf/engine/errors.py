"""What can go wrong around the pipeline, as one line for a person."""

from __future__ import annotations


class EngineError(Exception):
    """The message is one line: what failed, why, and what to do next."""


class Busy(EngineError):
    """Another command is changing the instance."""
