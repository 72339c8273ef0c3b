"""What `doctor` says of the proxy, from what the places said."""

from __future__ import annotations

from dataclasses import asdict

from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import examine_proxy, proxy_check
from kpf_ebpf.facts.proxy import PLACES
from kpf_ebpf.policy.model import Proxy
from tests.unit.facts.test_proxy import FILES, explain


def test_no_proxy_is_fine() -> None:
    """And the places that were asked go along."""
    check = proxy_check(explain())
    assert (check.ok, check.found, check.remedy, check.needed) == (True, "none found", "", False)
    assert len(check.places) == 1 + len(PLACES)


def test_a_proxy_is_told_with_its_source() -> None:
    """Without its password."""
    check = proxy_check(explain({"https_proxy": "http://me:secret@p:1"}, FILES), " (a note)")
    assert check.ok
    assert check.found == "p:1, from https_proxy in the environment (a note)"
    assert "secret" not in repr(asdict(check))


def test_the_policys_proxy_is_told_as_the_policys() -> None:
    """The policy is a place like any other, the first."""
    assert proxy_check(explain(policy=Proxy("p", 1))).found == "p:1, from preferences.proxy in the policy"


def test_a_script_is_a_no_with_the_way_out() -> None:
    """It is no reason to refuse, and the remedy is the setting that overrides it."""
    check = proxy_check(explain({"auto_proxy": "http://w/x.pac"}))
    assert not check.ok and not check.needed
    assert check.found == (
        "a proxy configuration script (PAC) cannot be evaluated here, from auto_proxy in the environment"
    )
    assert "preferences.proxy" in check.remedy


def test_a_script_past_which_the_server_goes_is_no_problem() -> None:
    """Nothing has to be evaluated then."""
    check = proxy_check(explain({"auto_proxy": "http://w/x.pac", "no_proxy": "kerio.com"}))
    assert check.ok and check.remedy == ""


def test_this_machine_can_be_examined_without_a_firewall() -> None:
    """No instance, no Engine: this command's environment stands for the Engine's."""
    check = examine_proxy(Instance("no-such-instance"))
    assert check.name == "proxy"
    assert check.places[1].place == "this command's environment"
