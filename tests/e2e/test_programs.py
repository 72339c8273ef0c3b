"""Programs that people use: curl, ncat, dig against a real name server, ping; each decided by its own file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench
from .tools import eventually

VERSIONS = pytest.mark.parametrize("server", [SERVER, SERVER6])


def only(program: str) -> str:
    """Return a policy where one program may initiate, and nobody else may do anything."""
    path = Path(program).resolve()
    return DENY_ALL + f'[[application]]\npath = "{path}"\ntrusted-out = "permit"\ninternet-out = "permit"\nlog = true\n'


def in_brackets(address: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


@pytest.fixture
def dnsmasq(bench: Bench) -> Iterator[None]:
    """Run a name server in the server namespace that knows where answer.example is."""
    address = f"--address=/answer.example/{SERVER}"
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", address]
    command += ["--user=root", "--pid-file", "--listen-address", f"{SERVER},{SERVER6}", "--bind-interfaces"]
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{bench.namespaces['server']}", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    probe = ("dig", "+short", "+tries=1", "+time=1", f"@{SERVER}", "answer.example")
    try:
        assert eventually(lambda: bench.real(*probe, netns="server", cgroup=False).stdout.strip() == SERVER)
        yield
    finally:
        server.kill()
        server.wait(10)


@VERSIONS
def test_curl_is_permitted_and_ncat_is_not(bench: Bench, server: str) -> None:
    """Application rules: curl's own file decides for curl; ncat is any other application."""
    bench.up(policy=only("/usr/bin/curl"))
    bench.peer("tcp-echo", "::", 80, "--dual")
    fetched = bench.real("curl", "--silent", "--http0.9", "--max-time", "5", f"http://{in_brackets(server)}/hello")
    assert "GET /hello" in fetched.stdout, fetched
    refused = bench.real("ncat", "-w", "3", "--send-only", server, "80")
    assert refused.returncode != 0 and "Operation not permitted" in refused.stderr, refused
    bench.expect_log(application="/usr/bin/ncat", id="default/internet-out", action="deny", protocol="tcp")


@VERSIONS
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_asks_a_real_name_server(bench: Bench, dnsmasq: None, server: str, transport: str) -> None:
    """The answer of a name server is state, over UDP and TCP; another program gets none."""
    bench.up(policy=only("/usr/bin/dig"))
    query = (transport, "+short", "+tries=1", "+time=3", f"@{server}", "answer.example")
    assert bench.real("dig", *query).stdout.strip() == SERVER
    bench.reload(only("/usr/bin/curl"))
    assert bench.real("dig", *query).returncode != 0
    bench.expect_log(application="/usr/bin/dig", action="deny", remote=f"{in_brackets(server)}:53")


@VERSIONS
def test_predefined_dns_lets_any_program_ask(bench: Bench, dnsmasq: None, server: str) -> None:
    """Predefined dns: out, UDP and TCP, remote port 53, before the application rules; the answer is state."""
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true"))
    query = ("+short", "+tries=1", "+time=3", f"@{server}", "answer.example")
    assert bench.real("dig", *query).stdout.strip() == SERVER
    assert bench.real("dig", "+tcp", *query).stdout.strip() == SERVER
    bench.expect_hits("predefined/dns/internet", 2)


@VERSIONS
def test_ping_gets_its_answers(bench: Bench, server: str) -> None:
    """ICMP echo of a real ping: the request by ping's own rule, the replies by state; one flow for three packets."""
    bench.up(policy=only("/usr/bin/ping"))
    done = bench.real("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", server)
    assert done.returncode == 0 and "3 received" in done.stdout, done
    path = Path("/usr/bin/ping").resolve()
    assert bench.hits(f"application/{path}/internet-out") == 1
    bench.reload(DENY_ALL)
    done = bench.real("ping", "-n", "-c", "1", "-W", "1", server)
    assert done.returncode != 0, done
    bench.expect_log(application=str(path), action="deny", direction="out")


@VERSIONS
def test_ncat_serves_where_its_in_cell_permits(bench: Bench, server: str) -> None:
    """A real listener: reached by the cell Internet/in of its own rule, and not once that denies."""
    path = Path("/usr/bin/ncat").resolve()
    rule = f'[[application]]\npath = "{path}"\ninternet-in = "permit"\n'
    bench.up(policy=DENY_ALL + rule)
    local = CLIENT6 if ":" in server else CLIENT
    enter = f'echo $$ >"{bench.cgroup}/cgroup.procs" && exec ncat --listen --keep-open {local} 7001'
    listener = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{bench.namespaces['client']}", "sh", "-c", enter],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: bench.outsider("tcp-connect", local, 7001).ok)
        bench.expect_hits(f"application/{path}/internet-in")
        bench.reload(DENY_ALL)
        assert not bench.outsider("tcp-connect", local, 7001).ok
    finally:
        listener.kill()
        listener.wait(10)
