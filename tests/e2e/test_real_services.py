"""The internal rules against the real thing: a name server, an HTTPS server, a proxy, a syslog server; changing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .bench import DENY_ALL, INTERPRETER, SERVER, Bench
from .tools import eventually, system
from .zone import more_addresses, name_server

CURL, LOGGER = "/usr/bin/curl", "/usr/bin/logger"
SECOND = "192.0.2.33"
SECURE, CRASHES = "secure.kerio.com", "crashes.kerio.com"
HTTPS = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200); self.end_headers(); self.wfile.write(b"welcome")
    do_POST = do_GET
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@contextmanager
def service(bench: Bench, *command: str, ready: bytes = b"") -> Iterator[None]:
    """Run a server in the server namespace."""
    inside = ("nsenter", f"--net=/run/netns/{bench.namespaces['server']}", *asking_here(bench))
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*inside, *command], stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as server:
        try:
            assert server.stdout is not None
            if ready:
                assert server.stdout.readline().strip() == ready
            yield
        finally:
            server.kill()


@contextmanager
def web(bench: Bench, port: int, *certificate: str) -> Iterator[None]:
    """Run a web server, with TLS if it has a certificate."""
    with service(bench, str(INTERPRETER), "-I", "-c", HTTPS, str(port), *certificate, ready=b"ready"):
        yield


def certificate(bench: Bench) -> tuple[str, str]:
    """Return a certificate for the two Kerio names, and its key."""
    made, key = str(bench.folder / "certificate"), str(bench.folder / "key")
    names = f"subjectAltName=DNS:{SECURE},DNS:{CRASHES}"
    system("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-subj", "/CN=test", "-addext", names, "-days", "2", "-keyout", key, "-out", made)  # fmt: skip
    return made, key


def policy(component: str, path: str, **preferences: Any) -> str:
    """Return a policy where a program of the system is a component, and nobody else may do anything."""
    lines = {"proxy": "none", "resolvers": [SERVER], **preferences}
    text = "".join(f"{key.replace('_', '-')} = {str(value)!r}\n" if isinstance(value, str) else
                   f"{key.replace('_', '-')} = {value}\n" for key, value in lines.items())  # fmt: skip
    return f'[preferences]\n{text}[components]\n{component} = "{Path(path).resolve()}"\n{DENY_ALL}'


def asking_here(bench: Bench) -> tuple[str, ...]:
    """Return the words that let a command have the test's name server as the system's."""
    own = bench.folder / "resolv.conf"
    own.write_text(f"nameserver {SERVER}\noptions timeout:2 attempts:1\n")
    return ("unshare", "--mount", "sh", "-c", f'mount --bind {own} /etc/resolv.conf && exec "$@"', "sh")


def curl(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """Run curl in the firewalled cgroup."""
    return bench.real(*asking_here(bench), "curl", "--silent", "--show-error", "--max-time", "8", *words)


def test_registration_over_tls_by_a_name_that_moves(bench: Bench) -> None:
    """dns/engine asks for secure.kerio.com, registration/direct reaches where it is, also after it moved."""
    more_addresses(bench, SECOND)
    made = certificate(bench)
    with web(bench, 443, *made), name_server(bench, {SECURE: (SERVER,), CRASHES: (SERVER,)}) as zone:
        bench.up(policy=policy("engine", CURL))
        assert eventually(lambda: address_of(bench, SECURE) == [SERVER])
        for number, address in enumerate((SERVER, SECOND), 1):
            zone.answer({SECURE: (address,), CRASHES: (SERVER,)})
            assert eventually(lambda address=address: address_of(bench, SECURE) == [address])  # type: ignore[misc]
            found = curl(bench, "--cacert", made[0], f"https://{SECURE}/")
            assert found.stdout == "welcome", found
            bench.expect_hits("internal/registration/direct", number)
            bench.expect_hits("internal/dns/engine", number)
        assert bench.hits("internal/update-check/direct") == 0


def test_a_crash_dump_over_tls_goes_where_the_name_is_and_nowhere_else(bench: Bench) -> None:
    """crash-dumps: Assist to crashes.kerio.com; its old address is denied once it moved, the new one permitted."""
    more_addresses(bench, SECOND)
    made = certificate(bench)
    with web(bench, 443, *made), name_server(bench, {CRASHES: (SERVER,)}) as zone:
        bench.up(policy=policy("assist", CURL))

        def dump(address: str) -> str:
            words = ("--cacert", made[0], "--data", "dump", "--resolve", f"{CRASHES}:443:{address}")
            return curl(bench, *words, f"https://{CRASHES}/upload").stdout

        assert eventually(lambda: dump(SERVER) == "welcome")
        assert dump(SECOND) == ""
        zone.answer({CRASHES: (SECOND,)})
        assert eventually(lambda: dump(SECOND) == "welcome")
        assert dump(SERVER) == ""
        bench.expect_hits("internal/crash-dumps", 2)


def test_a_real_proxy_is_used_and_excludes_the_direct_way(bench: Bench) -> None:
    """registration/proxy: to the proxy by its name; direct traffic of the Engine falls through, and is denied."""
    settings = bench.folder / "tinyproxy.conf"
    settings.write_text(f"Port 3128\nListen {SERVER}\nTimeout 30\nMaxClients 20\nAllow 192.0.2.0/24\n")
    names = {"proxy.example": (SERVER,), SECURE: (SERVER,)}
    with (
        web(bench, 8080),
        service(bench, "tinyproxy", "-d", "-c", str(settings)),
        name_server(bench, names),
    ):
        bench.up(policy=policy("engine", CURL, proxy="http://proxy.example:3128"))
        words = ("--proxy", "http://proxy.example:3128", f"http://{SECURE}:8080/")
        assert eventually(lambda: curl(bench, *words).stdout == "welcome")
        bench.expect_hits("internal/registration/proxy")
        assert "welcome" not in curl(bench, f"http://{SECURE}:8080/").stdout
        bench.expect_log(action="deny", application=str(Path(CURL).resolve()), remote=f"{SERVER}:8080")


def test_a_real_syslog_server_gets_the_log(bench: Bench) -> None:
    """The Engine's own lines, and the syslog row: by name, UDP to the configured port, and to no other."""
    received = bench.folder / "received"
    settings = bench.folder / "rsyslog.conf"
    settings.write_text(
        f'module(load="imudp")\ninput(type="imudp" address="{SERVER}" port="5514")\n'
        f'*.* action(type="omfile" file="{received}")\n'
    )
    with (
        service(bench, "rsyslogd", "-n", "-f", str(settings), "-i", str(bench.folder / "rsyslog.pid")),
        name_server(bench, {"logs.example": (SERVER,)}),
    ):
        log = '[preferences.syslog]\nenabled = true\nserver = "logs.example"\nport = 5514\n'
        bench.up(policy=policy("engine", LOGGER).replace("[components]", f"{log}[components]"))
        assert eventually(lambda: address_of(bench, "logs.example") == [SERVER])

        def line(port: int) -> bool:
            bench.real("logger", "--udp", "--server", SERVER, "--port", str(port), "from the component")
            return received.exists() and "from the component" in received.read_text()

        assert not line(5515)
        bench.expect_hits("default/internet-out")
        assert eventually(lambda: line(5514))
        bench.expect_hits("internal/syslog")
        wanted = '"id": "default/internet-out"'
        assert eventually(lambda: wanted in received.read_text()), "the Engine's own record did not arrive"


def address_of(bench: Bench, name: str) -> list[str]:
    """Return what status says of a name."""
    return next(list(one["addresses"]) for one in bench.status()["names"] if one["name"] == name)
