"""Host names, kept true for as long as the Engine lives: asked for by DNS, and again before their time to live is over.

    retarget(names) -> Book -questions-> Asker -query-> resolver
                        ^                  |
    states() <----------+-----outcomes-----+

    model   the values: NameState, Counts, Pace, and the three outcomes of a question
    wire    a query's bytes; an answer's bytes, which are hostile until they are read
    link    one query on its way over UDP or TCP, never blocking
    asker   many questions at once: resolvers in turn, TCP after truncation, chains of aliases
    entry   one name's address set: refreshed, failing, living on grace
    book    all names: what is due when, /etc/hosts before DNS, no answer that means this host
    files   what /etc/hosts and /etc/resolv.conf say, and when they change
    keeper  NameKeeper: one thread that does all of it; no method of it waits for the network

How the Engine uses it::

    keeper = NameKeeper("system", grace=3600)
    keeper.retarget(names, known=facts_of_the_last_life, allowed_local={"router.example"}, own_addresses=own)
    if keeper.changed():
        facts = {name: state.fact() for name, state in keeper.states().items()}

Addresses are integers of the one 128-bit space. ``up`` itself asks nobody: ``without_network`` gives what is known.
"""

from kpf_ebpf.names.files import system_resolvers, without_network
from kpf_ebpf.names.keeper import NameKeeper
from kpf_ebpf.names.model import Counts, NameState, Pace, Resolver

__all__ = ["Counts", "NameKeeper", "NameState", "Pace", "Resolver", "system_resolvers", "without_network"]
