"""Lets the tests import the command line: cli/ lies beside kpf_ebpf/ and is a part of it only once it is installed."""

from __future__ import annotations

from pathlib import Path

import kpf_ebpf

kpf_ebpf.__path__.append(str(Path(__file__).resolve().parents[2]))
