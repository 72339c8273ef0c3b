"""How much a policy may hold: every size of what a user writes has a named bound, so no file can exhaust the Engine."""

from __future__ import annotations

MAX_POLICY_BYTES = 4 << 20
"""Bytes of a policy file."""

MAX_GROUP_BYTES = 64 << 20
"""Bytes of one group file."""

MAX_ALL_GROUP_BYTES = 256 << 20
"""Bytes of all group files of a policy together."""

MAX_GROUP_ENTRIES = 2_000_000
"""Addresses, networks and ranges in one group file."""

MAX_GROUP_LINE = 200
"""Characters of one entry of a group file, its comment not counted."""

MAX_GROUP_FINDINGS = 20
"""Bad lines of one group file that are reported one by one; the rest is a number."""

MAX_FINDINGS = 1_000
"""Findings of one policy; reading ends at the next."""

MAX_PACKET_FILTER = 20_000
"""[[packet-filter]] entries."""

MAX_APPLICATIONS = 20_000
"""[[application]] entries."""

MAX_TRUSTED = 1_000
"""[[trusted]] entries."""

MAX_GROUPS = 1_000
"""Entries of [groups]."""

MAX_WORDS = 1_000
"""Words in one list of a rule."""

MAX_GROUP_WORDS = 50_000
"""Words in one list of [groups]; longer lists belong in a file."""

MAX_RESOLVERS = 16
"""Name servers in preferences."""

MAX_DESCRIPTION = 200
"""Characters of a description or a label."""

MAX_GROUP_NAME = 64
"""Characters of a group's name."""

MAX_PATH = 4095
"""Bytes of a file or cgroup path (the kernel's PATH_MAX without its end mark)."""

MAX_PATH_PART = 255
"""Bytes of one component of a path (the kernel's NAME_MAX)."""

MAX_USER = 256
"""Characters of a user name."""

MAX_ADAPTER = 15
"""Bytes of an adapter's name (the kernel's IFNAMSIZ without its end mark)."""

MAX_HOST_NAME = 253
"""Characters of a host name."""

MAX_UID = (1 << 32) - 2
"""The highest user id; the one above means "none" to the kernel."""

MAX_NAME_GRACE = 366 * 86_400
"""Seconds a name may keep its last good addresses."""

MAX_KEY_PARTS = 40
"""Parts of one dotted key; TOML's reader needs quadratic time for more."""

MAX_PLACES = 1_000_000
"""Keys and list elements whose line numbers are remembered."""

MAX_SHOWN = 80
"""Characters of an offending word that a finding repeats."""
