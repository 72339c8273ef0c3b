"""A cgroup path has a mark; a cgroup has that of the nearest path above it, a rule those of all below its own."""

from __future__ import annotations

import pytest

from kpf_ebpf.resolve.cgroups import mark_of, marks_below, normalised, resolve_cgroups


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "//a//b"])
def test_a_path_is_written_as_the_kernel_writes_it(path: str) -> None:
    """However a policy writes it, it is one path with one mark."""
    assert normalised(path) == "/a/b"
    assert mark_of(path) == mark_of("/a/b") != mark_of("/a")
    assert normalised("/") == "/"


def test_a_rule_is_for_what_lies_below_its_path_too() -> None:
    """Descendants are included; a path that only begins alike is not below."""
    named = ["/a", "/a/b", "/ab", "/c"]
    assert marks_below("/a", named) == {mark_of("/a"), mark_of("/a/b")}
    assert marks_below("/a/b", named) == {mark_of("/a/b")}
    assert marks_below("/", named) == {mark_of(path) for path in ["/", *named]}


def test_a_cgroup_has_the_nearest_path() -> None:
    """Of two named paths above a cgroup the longer one is its own; each cgroup has one mark."""
    found = {"/a": (1, 2, 3, 4), "/a/b": (3, 4), "/gone": ()}
    resolved = {one.path: one.ids for one in resolve_cgroups(found)}
    assert resolved == {"/a": (1, 2), "/a/b": (3, 4), "/gone": ()}
