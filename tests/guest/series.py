"""Which kernel this is: some things are new in some series."""

from __future__ import annotations

import os
import re


def series() -> tuple[int, int]:
    """Return the kernel's major and minor number."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found
    return int(found[1]), int(found[2])
