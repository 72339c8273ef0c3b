"""The network adapters of this network namespace, by netlink."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from kpf_ebpf.facts import netlink
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.model import Adapter
from kpf_ebpf.policy.model import V4_BASE

MAX_ADDRESSES = 100_000
"""Addresses read of all adapters together."""

EVENTS_AT_A_TIME = 10_000
"""Messages of netlink read at one look."""
_MESSAGE_BYTES = 65_536
_LINKS, _IPV4_ADDRESSES, _IPV6_ADDRESSES = 1 << 0, 1 << 4, 1 << 8  # RTMGRP_... of linux/rtnetlink.h

_V4_BITS = 32
_SMALLEST_WITH_BROADCAST = 30


def find_adapters() -> tuple[Adapter, ...]:
    """Read all adapters of the current network namespace, by index. Raises OSError if netlink does not answer."""
    try:
        return adapters_of(netlink.links(), netlink.addresses())
    except OSError as error:
        raise OSError(error.errno, f"netlink refuses to list them: {error}") from error


def adapters_of(links: Iterable[Any], addresses: Iterable[Any]) -> tuple[Adapter, ...]:
    """Make adapters of netlink's link and address messages (mappings with an ``attrs`` list of pairs).

    A directed broadcast is the one set for an address, and the last address of its network, as the kernel has both.
    """
    own: dict[int, set[int]] = {}
    broadcasts: dict[int, set[int]] = {}
    for count, message in enumerate(addresses):
        if count == MAX_ADDRESSES:
            break
        attributes = dict(message["attrs"])
        address = number(str(attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")))
        if address is None:
            continue
        own.setdefault(message["index"], set()).add(address)
        broadcasts.setdefault(message["index"], set()).update(_broadcasts(address, message, attributes))
    found = []
    for link in links:
        index = link["index"]
        name = str(dict(link["attrs"]).get("IFLA_IFNAME", ""))
        found.append(Adapter(name, index, tuple(sorted(own.get(index, ()))), tuple(sorted(broadcasts.get(index, ())))))
    return tuple(sorted(found, key=lambda adapter: adapter.index))


def _broadcasts(address: int, message: Mapping[str, Any], attributes: Mapping[str, Any]) -> set[int]:
    if address >> _V4_BITS != V4_BASE >> _V4_BITS:
        return set()
    found = set()
    if message["prefixlen"] <= _SMALLEST_WITH_BROADCAST:
        found.add(address | (1 << (_V4_BITS - message["prefixlen"])) - 1)
    told = number(str(attributes.get("IFA_BROADCAST", "")))
    if told is not None:
        found.add(told)
    return found - {V4_BASE + 0xFFFFFFFF}


class AdapterEvents:
    """Hears when an adapter or an address comes, changes or goes in the network namespace it was made in.

    What happened is not read: whoever hears it looks at everything, so that nothing that was lost matters.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _LINKS | _IPV4_ADDRESSES | _IPV6_ADDRESSES))

    def heard(self) -> bool:
        """Whether something happened since the last call. Does not wait."""
        found = False
        for _ in range(EVENTS_AT_A_TIME):
            try:
                self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:  # more happened than there was room for
                    raise
            found = True
        return found

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()
