"""Proxies in environment variables: of a process, of every login, of every service.

- ``/etc/environment``: NAME=value lines, read at every login (pam_env(8), pam_env.conf(5)).
- ``/etc/profile.d/*.sh``: sourced by login shells. They are programs, and not run here: only a line that is nothing but
  assignments of literal text, from its first column, is understood. A line in a block that a shell may skip is taken
  too, unless it is indented; one with $, ` or \\ never is.
- systemd's system manager: ``DefaultEnvironment=`` in system.conf and its drop-ins (systemd-system.conf(5)), and
  ``systemd.setenv=`` of the kernel command line (systemd(1)), which wins, are what every service is started with
  (systemd.exec(5), "Environment Variables in Spawned Processes"). Not asked, because services do not get them:
  ``ManagerEnvironment=`` and PID 1's own block (/proc/1/environ); and /etc/environment.d, which is for the users'
  managers only (environment.d(5)). ``systemctl set-environment`` is kept in PID 1's memory, and only its bus tells it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import MAX_LINE, PAC, ListFolder, Setting, World, parse_proxy, safe_names

ENVIRONMENT_FILE = "/etc/environment"
PROFILE_FOLDER = "/etc/profile.d"
SYSTEMD_FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
"""The first that has a file of a name has the one that counts."""
KERNEL_COMMAND_LINE = "/proc/cmdline"
MAX_LINES = 1_000
"""Lines of a file that are read."""

_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_SCRIPTS = ("auto_proxy", "AUTO_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
PROXY_VARIABLES = (*_PROXIES, *_SCRIPTS, *_EXCEPTIONS)
"""Every variable that has a say; who starts the Engine with a clean environment may want to pass these on."""

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_LITERAL = r"""(?:'[^']*'|"[^"$`\\]*"|[^\s'"$`\\;&|<>()~]*)"""
_ONE = re.compile(rf"({_NAME})=({_LITERAL})(?=[ \t]|$)")
_PLAIN = re.compile(
    rf"(?:export[ \t]++)?({_NAME}={_LITERAL}(?:[ \t]++{_NAME}={_LITERAL})*)"
    rf"[ \t]*+(?:;[ \t]*+(?:export(?:[ \t]++{_NAME})++[ \t]*+;?[ \t]*+)?)?(?:(?<=[ \t;])#.*)?"
)
"""Assignments, perhaps "; export NAME" and a comment. Possessive, so that no line takes long."""

Variables = Mapping[str, tuple[str, str]]
"""Name -> value, and where it is from."""


def process_setting(world: World) -> Setting | None:
    """Find what the process' own variables say."""
    return _setting({name: (value, "the environment") for name, value in world.environ.items()})


def environment_setting(world: World) -> Setting | None:
    """Find what /etc/environment says."""
    return _setting(_environment(world))


def profile_setting(world: World) -> Setting | None:
    """Find what the scripts of /etc/profile.d say; of several assignments the last counts, as for a shell."""
    return _setting(_profile(world))


def manager_setting(world: World) -> Setting | None:
    """Find what systemd gives to every service."""
    return _setting(_manager(world))


def all_variables(world: World) -> dict[str, str]:
    """Give every variable of these places; of two with one name, that of the earlier place."""
    places = (_manager(world), _profile(world), _environment(world))
    found = {name: value for place in places for name, (value, _) in place.items()}
    return found | dict(world.environ)


def environment_files(_: ListFolder) -> tuple[str, ...]:
    """List the files that ``environment_setting`` reads."""
    return (ENVIRONMENT_FILE,)


def profile_files(list_folder: ListFolder) -> tuple[str, ...]:
    """List the files that ``profile_setting`` reads, in the order of sh's ``*.sh``."""
    return tuple(f"{PROFILE_FOLDER}/{name}" for name in safe_names(list_folder(PROFILE_FOLDER), ".sh"))


def manager_files(list_folder: ListFolder) -> tuple[str, ...]:
    """List the files that ``manager_setting`` reads: main files, of which the first there counts, then drop-ins."""
    drop_ins: dict[str, str] = {}
    for folder in SYSTEMD_FOLDERS:
        for name in safe_names(list_folder(f"{folder}/system.conf.d"), ".conf"):
            drop_ins.setdefault(name, f"{folder}/system.conf.d/{name}")
    return (*(f"{folder}/system.conf" for folder in SYSTEMD_FOLDERS), *(drop_ins[name] for name in sorted(drop_ins)))


def parse_environment(text: str) -> dict[str, str]:
    """Parse the text of /etc/environment: NAME=value lines, perhaps quoted or with "export"; # starts a comment."""
    variables = {}
    for line in text.splitlines()[:MAX_LINES]:
        if match := _ASSIGNMENT.fullmatch(line):
            value = match[2].strip()
            is_quoted = value[:1] in ("'", '"')
            variables[match[1]] = value[1:].partition(value[0])[0] if is_quoted else value.partition(" #")[0].strip()
    return variables


def parse_profile(text: str) -> dict[str, str]:
    """Parse a shell script's plain assignments of literal text, exported or not; every other line is skipped."""
    variables = {}
    for line in text.split("\n")[:MAX_LINES]:
        if len(line) <= MAX_LINE and (plain := _PLAIN.fullmatch(line.rstrip())):
            for name, value in _ONE.findall(plain[1]):
                variables[name] = value[1:-1] if value[:1] in ("'", '"') else value
    return variables


def parse_manager(text: str) -> list[str | None]:
    """Parse a system.conf's NAME=value words of DefaultEnvironment= in [Manager]; None: all before count no more.

    systemd.syntax(7): # and ; begin a comment line, \\ at its end continues a line; %% is a %.
    """
    words: list[str | None] = []
    section = ""
    for line in _joined(text):
        key, mark, value = line.partition("=")
        if line.startswith("["):
            section = line
        elif section == "[Manager]" and mark and key.strip() == "DefaultEnvironment":
            words += [word.replace("%%", "%") for word in _words(value)] if value.strip() else [None]
    return words


def parse_block(block: bytes) -> dict[str, str]:
    """Parse a process' environment as /proc/PID/environ has it (proc(5))."""
    pairs = (entry.decode("utf-8", "replace").partition("=") for entry in block.split(b"\0"))
    return {name: value for name, mark, value in pairs if mark}


def _setting(variables: Variables) -> Setting | None:
    """Find what variables say: https before http before all, lower case first; a script only where no proxy is."""
    exceptions = tuple((name, variables[name][0]) for name in _EXCEPTIONS if name in variables)
    for name in (*_PROXIES, *_SCRIPTS):
        value, place = variables.get(name, ("", ""))
        value = value.strip(" \t")
        if value:
            source = f"{name} in {place}"
            is_script = name in _SCRIPTS
            fact = ProxyFact(source=source, problem=PAC) if is_script else parse_proxy(value, source)
            return Setting(fact, exceptions)
    return None


def _environment(world: World) -> Variables:
    variables = parse_environment(world.text(ENVIRONMENT_FILE))
    return {name: (value, ENVIRONMENT_FILE) for name, value in variables.items()}


def _profile(world: World) -> Variables:
    found: dict[str, tuple[str, str]] = {}
    for path in profile_files(world.list_folder):
        found |= {name: (value, path) for name, value in parse_profile(world.text(path)).items()}
    return found


def _manager(world: World) -> Variables:
    found: dict[str, tuple[str, str]] = {}
    files = manager_files(world.list_folder)
    mains, drop_ins = files[: len(SYSTEMD_FOLDERS)], files[len(SYSTEMD_FOLDERS) :]
    main = next((path for path in mains if world.read(path) is not None), mains[0])
    for path in (main, *drop_ins):
        for word in parse_manager(world.text(path)):
            if word is None:
                found.clear()
            else:
                name, mark, value = word.partition("=")
                found |= {name: (value, path)} if mark else {}
    for word in _words(world.text(KERNEL_COMMAND_LINE)):
        name, mark, value = word.removeprefix("systemd.setenv=").partition("=")
        if mark and word.startswith("systemd.setenv="):
            found[name] = (value, "systemd.setenv= of the kernel command line")
    return found


def _joined(text: str) -> Iterator[str]:
    """Give a systemd file's lines, continued ones joined, without comments."""
    held = ""
    for line in text.split("\n")[:MAX_LINES]:
        stripped = line.strip()
        if stripped.startswith(("#", ";")):
            continue
        if stripped.endswith("\\"):
            held = f"{held}{stripped[:-1]} "[: MAX_LINE + 1]
            continue
        whole, held = held + stripped, ""
        if len(whole) <= MAX_LINE:
            yield whole


def _words(text: str) -> list[str]:
    """Split into words, quotes taken off; none if a quote is left open."""
    if len(text) > MAX_LINE:
        return []
    try:
        return shlex.split(text)
    except ValueError:
        return []
