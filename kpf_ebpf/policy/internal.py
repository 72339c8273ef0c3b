"""The internal rules as data: what the firewall's own parts may always do, whatever the user's rules say.

``INTERNAL_RULES`` is in order of evaluation, narrow rows first, so that the narrowest gets the credit. All permit.
How the rows of the source table are read here:

- A direction says who initiates; answers pass by state. So DNS, "both" in the source, is OUT: a datagram that merely
  comes from port 53 is nobody's answer.
- The port is that of the side connected to: an incoming row's is local, whatever the column is called.
- Remote administration counts as on only with a password set; off, only this host may connect.
- The GUI's row is local only, as the note beside it says: towards another host the GUI is an ordinary application.
- The logging of pop-ups is permitted always; whether anybody listens is another matter.
- Proxy and direct rows exclude each other, by whether a proxy is in use.
- The update check through a proxy repeats the registration's row and never gets the credit; it is here because the
  source has it.
- The Engine may ask the resolvers it uses at their own ports and by TCP, since a cut answer is fetched again by TCP.
  These two rows share the id of the Engine's DNS row.
- "localhost" means two addresses of this host, over the loopback device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kpf_ebpf.policy.model import Direction

Component = Literal["engine", "gui", "assist", "any"]
PortSide = Literal["local", "remote", "any"]
Port = Literal["administration", "popup", "dns", "resolvers", "registration", "proxy", "syslog", "any"]
Address = Literal["any", "localhost", "crash-server", "registration-server", "proxy", "syslog", "resolvers"]
Condition = Literal[
    "always",
    "remote-administration-on",
    "remote-administration-off",
    "crash-dumps",
    "proxy",
    "no-proxy",
    "syslog",
]

_TCP, _UDP = 6, 17


@dataclass(frozen=True, slots=True)
class InternalRule:
    """One row: ``component`` may initiate (OUT) or accept (IN) flows of ``protocols``.

    ``port`` on ``port_side`` and the remote ``address`` are symbols that stand for settings of the policy and for what
    names, the proxy and the resolvers turn out to be ("dns" is port 53). A rule is active while ``condition`` holds.
    ``id`` is without "internal/"; several rules may share one. ``quote`` is the row of the source table.
    """

    id: str
    component: Component
    direction: Direction
    protocols: tuple[int, ...]
    port_side: PortSide
    port: Port
    address: Address
    condition: Condition
    quote: str


_ENGINE_DNS = "Unconditional | kpf4ss.exe | both | UDP | 53 | any"

INTERNAL_RULES: tuple[InternalRule, ...] = (
    InternalRule(
        id="remote-config/on",
        component="engine",
        direction=Direction.IN,
        protocols=(_TCP, _UDP),
        port_side="local",
        port="administration",
        address="any",
        condition="remote-administration-on",
        quote="Rem. adm. enabled | kpf4ss.exe | incoming | TCP+UDP | 44334 | any",
    ),
    InternalRule(
        id="remote-config/off",
        component="engine",
        direction=Direction.IN,
        protocols=(_TCP, _UDP),
        port_side="local",
        port="administration",
        address="localhost",
        condition="remote-administration-off",
        quote="Rem. adm. disabled | kpf4ss.exe | incoming | TCP+UDP | 44334 | localhost",
    ),
    InternalRule(
        id="gui-to-engine",
        component="gui",
        direction=Direction.OUT,
        protocols=(_TCP, _UDP),
        port_side="remote",
        port="administration",
        address="localhost",
        condition="always",
        quote="Unconditional | kpf4gui.exe | outgoing | TCP+UDP | 44334 | any",
    ),
    InternalRule(
        id="popup-log",
        component="any",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="remote",
        port="popup",
        address="localhost",
        condition="always",
        quote="Unconditional | any | outgoing | TCP | 44501 | localhost",
    ),
    InternalRule(
        id="dns/engine",
        component="engine",
        direction=Direction.OUT,
        protocols=(_UDP,),
        port_side="remote",
        port="dns",
        address="any",
        condition="always",
        quote=_ENGINE_DNS,
    ),
    InternalRule(
        id="dns/engine",
        component="engine",
        direction=Direction.OUT,
        protocols=(_UDP,),
        port_side="remote",
        port="resolvers",
        address="resolvers",
        condition="always",
        quote=_ENGINE_DNS,
    ),
    InternalRule(
        id="dns/engine",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="remote",
        port="resolvers",
        address="resolvers",
        condition="always",
        quote=_ENGINE_DNS,
    ),
    InternalRule(
        id="dns/gui",
        component="gui",
        direction=Direction.OUT,
        protocols=(_UDP,),
        port_side="remote",
        port="dns",
        address="any",
        condition="always",
        quote="Unconditional | kpf4gui.exe | both | UDP | 53 | any",
    ),
    InternalRule(
        id="syslog",
        component="engine",
        direction=Direction.OUT,
        protocols=(_UDP,),
        port_side="remote",
        port="syslog",
        address="syslog",
        condition="syslog",
        quote="Syslog enabled | kpf4ss.exe | outgoing | UDP | sslg_port* | sslg_ip*",
    ),
    InternalRule(
        id="crash-dumps",
        component="assist",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="any",
        port="any",
        address="crash-server",
        condition="crash-dumps",
        quote="Sending allowed | assist.exe | outgoing | TCP | any | crashes.kerio.com",
    ),
    InternalRule(
        id="registration/proxy",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="remote",
        port="proxy",
        address="proxy",
        condition="proxy",
        quote="Proxy server | kpf4ss.exe | outgoing | TCP | prx_port* | prx_ip*",
    ),
    InternalRule(
        id="registration/direct",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="remote",
        port="registration",
        address="registration-server",
        condition="no-proxy",
        quote="Direct access | kpf4ss.exe | outgoing | TCP | 443 | secure.kerio.com",
    ),
    InternalRule(
        id="update-check/proxy",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="remote",
        port="proxy",
        address="proxy",
        condition="proxy",
        quote="Proxy server | kpf4ss.exe | outgoing | TCP | proxy_port* | proxy_ip*",
    ),
    InternalRule(
        id="engine-to-gui/off",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP, _UDP),
        port_side="any",
        port="any",
        address="localhost",
        condition="remote-administration-off",
        quote="Rem. adm. disabled | kpf4ss.exe | outgoing | TCP+UDP | any | localhost",
    ),
    InternalRule(
        id="update-check/direct",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP,),
        port_side="any",
        port="any",
        address="any",
        condition="no-proxy",
        quote="Direct access | kpf4ss.exe | outgoing | TCP | any | any",
    ),
    InternalRule(
        id="engine-to-gui/on",
        component="engine",
        direction=Direction.OUT,
        protocols=(_TCP, _UDP),
        port_side="any",
        port="any",
        address="any",
        condition="remote-administration-on",
        quote="Rem. adm. enabled | kpf4ss.exe | outgoing | TCP+UDP | any | any",
    ),
)
"""All internal rules, in order of evaluation."""
