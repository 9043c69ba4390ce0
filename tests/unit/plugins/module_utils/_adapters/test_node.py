# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  (a fixture is imported, and named again as an argument)
"""Directories, files and subvolumes on the real kernel, judged by stat(1), getfacl(1) and btrfs(8)."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nodechange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import CREATION, DataDir, Node
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
    state_of,
)
from ansible_collections.bulkhead.storage.tests.support.fuse import mounted
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    image,
    loop_device,
)

TENANT, OTHER = 64001, 64002
COLLECTIONS = str(Path(sys.modules[Node.__module__].__file__ or "").absolute()).rpartition("/ansible_collections/")[0]
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def converge(port: Node, target: str, declared: dict[str, Any] | None) -> str:
    """What the engine does with one cell: scan, compare, put, scan again. Returns the verb, raises the refusal."""
    port.want_entries = {target} if declared is None else set()
    now = port.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    declared = port.resolve(target, declared)
    if declared is None:
        after, verb = None, "removed" if now else "same"
    elif now is not None and port.same(target, now, declared):
        return "same"
    else:
        after, verb = port.merge(target, now, declared), "changed" if now else "created"
    if verb == "same":
        return verb
    if now is not None and port.replaces(target, now, after):
        port.put(target, now, None)
        now, after = None, port.merge(target, None, declared)
    error = port.refuse(target, now, after, set())
    if error is not None:
        raise error
    port.put(target, now, after)
    seen = port.scan([target]).get(target)
    if after is None:
        assert seen is None
    else:
        predicted = {k: v for k, v in state_of(after).items() if k not in CREATION and v is not UNKNOWN}
        assert {k: v for k, v in state_of(seen).items() if k in predicted} == predicted
        assert port.same(target, seen, declared)
    return verb


def refusal(act: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as exc:
        act()
    return exc.value


def stat(path: str, form: str = "%F %u:%g %a") -> str:
    return subprocess.run(["stat", "-c", form, path], check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def facl(path: str) -> str:
    out = subprocess.run(["getfacl", "-cnpE", path], check=True, stdout=subprocess.PIPE).stdout.decode()
    return " ".join(out.split())


def make(path: str, uid: int = 0, mode: int = 0o755) -> str:
    os.mkdir(path)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


def write(path: str, data: str = "", uid: int = 0, mode: int = 0o644) -> str:
    with open(path, "w") as f:
        f.write(data)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


def snapshot(path: str) -> tuple[str, str, list[str]]:
    return stat(path, "%F %u:%g %a %h"), facl(path), sorted(os.listdir(path)) if os.path.isdir(path) else []


@pytest.fixture
def theirs(arena: str) -> str:
    """A tenant's own directory."""
    return make(arena + "/theirs", TENANT)


@pytest.fixture
def btrfs(arena: str) -> Iterator[str]:
    with loop_device(image(arena + "/img", 128 << 20, "btrfs")) as device:
        top = make(arena + "/btrfs")
        subprocess.run(["mount", device, top], check=True)
        yield top
        subprocess.run(["umount", "-R", top], check=True)


# -- directories -------------------------------------------------------------------------------------------------------


def test_what_lies_beneath_nothing_is_absent_and_its_neighbours_are_seen(arena: str) -> None:
    for name in ("a-b", "c/d", "z"):
        os.makedirs("%s/%s" % (arena, name))
    os.symlink("nowhere", arena + "/e")
    names = ["a", "a-b", "a/b", "a/b/c", "c", "c/b", "c/b/x", "c/d", "e", "e/x", "y/a", "z"]
    seen = Node().scan(["%s/%s" % (arena, name) for name in names])
    there = {path[len(arena) + 1 :] for path, row in seen.items() if isinstance(row, dict)}
    assert there == {"a-b", "c", "c/d", "z"}
    assert {path[len(arena) + 1 :] for path in seen} - there == {"e"}, "a link is no absence"


def test_a_directory_by_default_is_roots_and_0755(arena: str) -> None:
    assert converge(Node(), arena + "/d", {"type": "directory"}) == "created"
    assert stat(arena + "/d") == "directory 0:0 755"
    assert converge(Node(), arena + "/d", {"type": "directory"}) == "same"
    assert converge(Node(), arena + "/d", None) == "removed"
    assert converge(Node(), arena + "/d", None) == "same"
    assert not os.listdir(arena)


@pytest.mark.parametrize("where", ["root", "tenant"])
def test_owner_mode_and_acls_are_what_others_see(arena: str, theirs: str, where: str) -> None:
    path = (theirs if where == "tenant" else arena) + "/d"
    declared = {
        "type": "directory",
        "owner": str(TENANT),
        "group": "daemon",
        "mode": 0o3710,
        "acl": ["u:daemon:rwX", "g:64003:r-x"],
        "default_acl": ["u:64002:r"],
    }
    assert converge(Node(), path, declared) == "created"
    assert stat(path) == "directory 64001:1 3770"
    want = "user::rwx user:1:rwx group::--x group:64003:r-x mask::rwx other::--- "
    want += "default:user::rwx default:user:64002:r-- default:group::--x default:mask::r-x default:other::---"
    assert facl(path) == want
    assert converge(Node(), path, declared) == "same"
    assert converge(Node(), path, {"mode": 0o2755, "default_acl": []}) == "changed"
    assert facl(path) == "user::rwx user:1:rwx group::r-x group:64003:r-x mask::rwx other::r-x"
    assert converge(Node(), path, {"acl": [], "owner": 0}) == "changed"
    assert (stat(path), facl(path)) == ("directory 0:1 2755", "user::rwx group::r-x other::r-x")


def test_only_what_is_declared_is_changed(arena: str) -> None:
    make(arena + "/d", TENANT, 0o2711)
    subprocess.run(["setfacl", "-m", "u:7:rwx,d:g:8:rx", arena + "/d"], check=True)
    before = facl(arena + "/d")
    assert converge(Node(), arena + "/d", {"group": 5}) == "changed"
    assert (stat(arena + "/d", "%u:%g"), facl(arena + "/d")) == (
        "64001:5",
        before.replace("default:group::r-x", "default:group::--x"),
    )
    assert converge(Node(), arena + "/d", {"mode": 0o2750}) == "changed"
    assert "user:7:rwx group::r-x mask::rwx other::---" in facl(arena + "/d")
    assert "default:group:8:r-x" in facl(arena + "/d")


def test_a_chmod_that_narrows_the_mask_is_seen_and_mended(arena: str) -> None:
    declared = {"type": "directory", "mode": 0o770, "acl": ["u:7:rwx"]}
    converge(Node(), arena + "/d", declared)
    os.chmod(arena + "/d", 0o750)
    assert converge(Node(), arena + "/d", declared) == "changed"
    assert facl(arena + "/d") == "user::rwx user:7:rwx group::rwx mask::rwx other::---"


def test_a_mask_without_named_entries_goes_with_the_next_change(arena: str) -> None:
    make(arena + "/d")
    subprocess.run(["setfacl", "-m", "m::---", arena + "/d"], check=True)
    assert converge(Node(), arena + "/d", {"mode": 0o750}) == "changed"
    assert facl(arena + "/d") == "user::rwx group::r-x other::---"


def test_a_new_directory_inherits_nothing_it_was_not_declared_to(arena: str) -> None:
    top = make(arena + "/top", 0, 0o2755)
    os.chown(top, 0, 5)
    os.chmod(top, 0o2755)
    subprocess.run(["setfacl", "-m", "d:u:7:rwx,d:o::rwx", top], check=True)
    for kind, shown in (("directory", "directory 0:0 755"), ("file", "regular empty file 0:0 600")):
        assert converge(Node(), top + "/" + kind, {"type": kind}) == "created"
        assert stat(top + "/" + kind) == shown
        assert "7" not in facl(top + "/" + kind) and "default" not in facl(top + "/" + kind)


def test_a_default_acl_without_names_is_not_inherited_either(arena: str) -> None:
    top = make(arena + "/top")
    subprocess.run(["setfacl", "-m", "d:u::rwx,d:g::rwx,d:o::rwx", top], check=True)
    converge(Node(), top + "/d", {"type": "directory"})
    assert facl(top + "/d") == "user::rwx group::r-x other::r-x"


def test_removal_of_a_directory_that_is_not_empty_is_refused_and_by_put_too(arena: str) -> None:
    make(arena + "/d")
    write(arena + "/d/x")
    error = refusal(lambda: converge(Node(), arena + "/d", None))
    assert error.code == "would_destroy" and "'x'" in error.message and error.hint
    port = Node()
    now = port.scan([arena + "/d"])[arena + "/d"]
    assert refusal(lambda: port.put(arena + "/d", now, None)).code == "in_use"
    assert os.listdir(arena + "/d") == ["x"]


def test_undo_is_the_same_put_the_other_way_round(arena: str) -> None:
    port, target = Node(), arena + "/d"
    declared = port.resolve(
        target, {"type": "directory", "owner": 7, "mode": 0o2770, "acl": ["u:5:r"], "default_acl": ["g:6:r"]}
    )
    after = port.merge(target, None, declared)
    port.put(target, None, after)
    shown = snapshot(target)
    changed = port.merge(target, after, {"uid": 9, "mode": 0o700, "acl": (), "default_acl": ()})
    port.put(target, after, changed)
    assert snapshot(target) != shown
    port.put(target, changed, after)
    assert snapshot(target) == shown
    port.put(target, after, None)
    assert not os.path.exists(target)
    port.put(target, None, after)
    assert snapshot(target) == shown


def test_a_world_that_moved_is_not_overwritten(arena: str) -> None:
    port, target = Node(), arena + "/d"
    after = port.merge(target, None, {"type": "directory"})
    make(target, TENANT)
    assert refusal(lambda: port.put(target, None, after)).code == "moved"
    now = port.scan([target])[target]
    os.chmod(target, 0o711)
    assert refusal(lambda: port.put(target, now, {**now, "uid": 5})).code == "moved"
    assert refusal(lambda: port.put(target, now, None)).code == "moved" and os.path.isdir(target)
    os.rmdir(target)
    assert refusal(lambda: port.put(target, now, {**now, "uid": 5})).code == "moved"
    assert refusal(lambda: port.put(target, now, None)).code == "moved"
    write(target)
    assert refusal(lambda: port.put(target, now, None)).code == "moved"
    assert stat(target, "%u:%g %a") == "0:0 644"


def test_a_missing_parent_is_named(arena: str) -> None:
    port = Node()
    error = refusal(lambda: port.put(arena + "/a/b", None, port.merge("", None, {"type": "directory"})))
    assert error.code == "not_found" and arena + "/a" in error.message


def test_what_a_file_system_forgets_is_not_enforced(arena: str) -> None:
    make(arena + "/f")
    with mounted(arena + "/f", 0):
        for change, lost in (({"mode": 0o700}, "mode"), ({"owner": 7}, "uid"), ({"group": 7}, "gid")):
            error = refusal(lambda change=change: converge(Node(), arena + "/f/dir", change))  # type: ignore[misc]
            assert error.code == "not_enforced" and lost in error.message
        assert refusal(lambda: converge(Node(), arena + "/f/dir", {"acl": ["u:1:r"]})).code == "unsupported"
        assert converge(Node(), arena + "/f/dir", {"type": "directory", "mode": 0o755}) == "same"


def test_a_read_only_file_system_is_denied(arena: str) -> None:
    make(arena + "/d")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "x", arena + "/d"], check=True)
    assert refusal(lambda: converge(Node(), arena + "/d/x", {"type": "directory"})).code == "denied"


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_with_a_size_is_sparse_or_thick(arena: str) -> None:
    assert converge(Node(), arena + "/s", {"type": "file", "size": 1 << 20}) == "created"
    assert stat(arena + "/s", "%F %u:%g %a %s %b") == "regular file 0:0 600 1048576 0"
    assert converge(Node(), arena + "/t", {"type": "file", "size": 1 << 20, "thick": True, "owner": 7}) == "created"
    assert stat(arena + "/t", "%u %s %b") == "7 1048576 2048"
    assert converge(Node(), arena + "/t", {"type": "file", "size": 1 << 20, "thick": True}) == "same"
    assert converge(Node(), arena + "/t", {"type": "file", "size": 3 << 20}) == "changed"
    assert stat(arena + "/t", "%s") == "3145728"
    assert sorted(os.listdir(arena)) == ["s", "t"]


def test_a_file_shrinks_only_as_a_shrink(arena: str) -> None:
    port, target = Node(), write(arena + "/f", "x" * 100)
    now = port.scan([target])[target]
    after = port.merge(target, now, {"size": 10})
    assert (port.risk(target, now, after), port.lowers(target, now, after)) == (SHRINKS, True)
    assert port.consent(target, now, after) == ("allow_shrink", True)
    port.put(target, now, after)
    assert stat(target, "%s") == "10"


def test_no_space_leaves_nothing_behind(arena: str) -> None:
    make(arena + "/small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "x", arena + "/small"], check=True)
    declared = {"type": "file", "size": 8 << 20, "thick": True}
    assert refusal(lambda: converge(Node(), arena + "/small/f", declared)).code == "no_space"
    assert os.listdir(arena + "/small") == []


def test_setuid_survives_a_change_of_owner(arena: str) -> None:
    converge(Node(), arena + "/f", {"type": "file", "mode": 0o4755})
    assert converge(Node(), arena + "/f", {"owner": 7}) == "changed"
    assert stat(arena + "/f", "%u %a") == "7 4755"


def test_a_file_is_cloned_and_may_be_larger_but_not_smaller_than_its_source(arena: str) -> None:
    write(arena + "/src", "content", 5, 0o644)
    declared = {"type": "file", "source": arena + "/src", "owner": 7}
    assert converge(Node(), arena + "/a", declared) == "created"
    assert (stat(arena + "/a", "%u %a %s"), Path(arena, "a").read_text()) == ("7 600 7", "content")
    assert converge(Node(), arena + "/a", declared) == "same"
    assert converge(Node(), arena + "/b", {**declared, "size": 4096}) == "created"
    assert Path(arena, "b").read_text() == "content" + "\0" * 4089
    assert refusal(lambda: converge(Node(), arena + "/c", {**declared, "size": 3})).code == "would_shrink"
    assert refusal(lambda: converge(Node(), arena + "/c", {**declared, "source": arena + "/no"})).code == "not_found"
    assert refusal(lambda: converge(Node(), arena + "/c", {**declared, "source": arena})).code == "unsafe_path"
    assert sorted(os.listdir(arena)) == ["a", "b", "src"]


def test_a_swap_of_the_file_while_it_is_resized_is_noticed(theirs: str) -> None:
    port, target = Node(), write(theirs + "/f", "x", TENANT)
    now = port.scan([target])[target]
    write(theirs + "/g", "x", TENANT)
    os.rename(theirs + "/g", target)
    port.put(target, now, {**now, "size": 5})  # the same state: whichever file it is, it is the tenant's own
    assert stat(target, "%s") == "5"


# -- subvolumes --------------------------------------------------------------------------------------------------------


def test_subvolumes_are_made_cloned_and_removed(btrfs: str) -> None:
    assert converge(Node(), btrfs + "/s", {"type": "subvolume", "owner": 7, "mode": 0o2750}) == "created"
    assert stat(btrfs + "/s", "%i %u %a") == "256 7 2750"
    assert converge(Node(), btrfs + "/s", {"type": "subvolume"}) == "same"
    assert converge(Node(), btrfs + "/s", {"type": "directory"}) == "same"  # a subvolume is a directory
    assert converge(Node(), btrfs + "/s", {"type": "directory", "mode": 0o700}) == "changed"
    write(btrfs + "/s/f", "x", 9)
    assert converge(Node(), btrfs + "/c", {"type": "subvolume", "source": btrfs + "/s", "mode": 0o711}) == "created"
    assert (stat(btrfs + "/c", "%i %u %a"), Path(btrfs, "c/f").read_text()) == ("256 7 711", "x")
    shown = subprocess.run(["btrfs", "subvolume", "list", btrfs], check=True, stdout=subprocess.PIPE).stdout.decode()
    assert {line.split(" path ")[1] for line in shown.splitlines()} == {"s", "c"}
    port = Node()
    now = port.scan([btrfs + "/c"])[btrfs + "/c"]
    assert (now["type"], port.risk(btrfs + "/c", now, None)) == ("subvolume", DESTROYS)
    assert port.consent(btrfs + "/c", now, None) == ("absent", True)
    assert converge(port, btrfs + "/c", None) == "removed"
    assert not os.path.exists(btrfs + "/c")


def subvolumes(top: str) -> set[str]:
    shown = subprocess.run(["btrfs", "subvolume", "list", top], check=True, stdout=subprocess.PIPE).stdout.decode()
    return {line.split(" path ")[1] for line in shown.splitlines()}


def as_tenant(*argv: str) -> None:
    who = ["setpriv", "--reuid", str(TENANT), "--regid", str(TENANT), "--clear-groups"]
    subprocess.run([*who, *argv], check=True, stdout=subprocess.DEVNULL)


def nest(top: str, *inside: str) -> None:
    """What a tenant makes in a subvolume of its own: others in it, with a file in each, the last one read-only."""
    for name in inside:
        as_tenant("mkdir", "-p", os.path.dirname("%s/%s" % (top, name)))
        as_tenant("btrfs", "subvolume", "create", "%s/%s" % (top, name))
        as_tenant("sh", "-c", 'echo "$1" > "$2/f"', "sh", name, "%s/%s" % (top, name))
    as_tenant("btrfs", "property", "set", "%s/%s" % (top, inside[-1]), "ro", "true")


NESTED = ("n", "n/deep", "d/e/m", "d/e/m/in side", "ro")


@pytest.mark.parametrize("port", [Node, DataDir])
@pytest.mark.parametrize("kind", ["subvolume", "directory"])
def test_what_a_tenant_nested_goes_too(btrfs: str, port: Any, kind: str) -> None:
    """Read-only ones, too, whether others are nested in them or not: by descriptor, depth first."""
    if (port, kind) == (Node, "directory"):
        return  # only an empty one goes
    top = btrfs + "/s"
    converge(Node(), top, {"type": kind, "owner": TENANT, "group": TENANT})
    nest(top, *NESTED)
    as_tenant("btrfs", "property", "set", top + "/n", "ro", "true")
    as_tenant("btrfs", "subvolume", "snapshot", "-r", top + "/d/e/m", top + "/d/snap")
    if kind == "subvolume":
        as_tenant("btrfs", "property", "set", top, "ro", "true")
    assert len(subvolumes(btrfs)) == len(NESTED) + 1 + (kind == "subvolume")
    assert converge(port(), top, None) == "removed"
    assert (os.listdir(btrfs), subvolumes(btrfs)) == ([], set())


def test_a_removal_of_nested_ones_is_resumed(btrfs: str) -> None:
    """Killed while it takes them apart: what is left is found under the old name."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dirent import trash

    top, port = btrfs + "/s", DataDir()
    converge(Node(), top, {"type": "subvolume", "owner": TENANT, "group": TENANT})
    nest(top, *NESTED)
    os.rename(top, trash(top))
    seen = row(port, top)
    assert (seen["_trash"], seen["type"]) == (True, "subvolume")
    assert converge(port, top, None) == "removed"
    assert (os.listdir(btrfs), subvolumes(btrfs)) == ([], set())


def test_a_leftover_with_nested_ones_is_swept(btrfs: str) -> None:
    """As a clone leaves it that was killed halfway."""
    stale = btrfs + "/.bulkhead-0123456789abcdef"
    converge(Node(), btrfs + "/s", {"type": "subvolume", "owner": TENANT, "group": TENANT})
    nest(btrfs + "/s", *NESTED)
    os.rename(btrfs + "/s", stale)
    assert converge(Node(), btrfs + "/other", {"type": "directory"}) == "created"
    assert (os.listdir(btrfs), subvolumes(btrfs)) == (["other"], set())


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("above", ["", "/top"])
def test_a_clone_has_what_is_nested_in_its_source(btrfs: str, copied: bool, above: str) -> None:
    base = btrfs + above
    if above:
        converge(Node(), base, {"type": "subvolume"})
    converge(Node(), base + "/s", {"type": "subvolume", "owner": TENANT, "group": TENANT})
    nest(base + "/s", *NESTED)
    write(base + "/s/f", "x", TENANT)
    declared = {"type": "subvolume", "source": base + "/s", **({"copy": True} if copied else {})}
    assert converge(DataDir(), base + "/c", declared) == "created"
    for name in NESTED:
        assert Path(base, "c", name, "f").read_text() == name + "\n"
        assert stat("%s/c/%s" % (base, name), "%u") == str(TENANT)
    assert Path(base, "c/f").read_text() == "x"
    made = {path.partition("c/")[2] for path in subvolumes(btrfs) if "/c/" in "/" + path}
    assert made == (set() if copied else set(NESTED))
    if not copied:
        write(base + "/c/n/deep/f", "other")
        assert Path(base, "s/n/deep/f").read_text() == "n/deep\n"
    assert converge(DataDir(), base + "/c", None) == converge(DataDir(), base + "/s", None) == "removed"
    assert subvolumes(btrfs) == ({"top"} if above else set())


def test_the_root_of_a_mounted_btrfs_is_a_directory(btrfs: str) -> None:
    assert Node().scan([btrfs])[btrfs]["type"] == "directory"


def test_a_directory_does_not_become_a_subvolume(btrfs: str) -> None:
    make(btrfs + "/d")
    assert refusal(lambda: converge(Node(), btrfs + "/d", {"type": "subvolume"})).code == "conflict"
    assert refusal(lambda: converge(Node(), btrfs + "/d", {"type": "file"})).code == "conflict"


def test_a_subvolume_elsewhere_is_unsupported(arena: str) -> None:
    assert refusal(lambda: converge(Node(), arena + "/s", {"type": "subvolume"})).code == "unsupported"
    assert os.listdir(arena) == []


# -- what is declared --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared, code",
    [
        ({"type": "link"}, "invalid"),
        ({"mode": "0755"}, "invalid"),
        ({"mode": True}, "invalid"),
        ({"mode": 0o10000}, "invalid"),
        ({"mode": -1}, "invalid"),
        ({"type": "file", "size": -1}, "invalid"),
        ({"type": "file", "size": "1"}, "invalid"),
        ({"type": "file", "size": True}, "invalid"),
        ({"type": "directory", "size": 1}, "invalid"),
        ({"type": "directory", "thick": True}, "invalid"),
        ({"type": "file", "default_acl": ["u:1:r"]}, "invalid"),
        ({"colour": 1}, "invalid"),
        ({"owner": "no-such-user"}, "not_found"),
        ({"group": "no-such-group"}, "not_found"),
        ({"owner": 2**32 - 1}, "invalid"),
        ({"acl": ["u::rwx"]}, "invalid"),
        ({"default_acl": "u:1:r"}, "invalid"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(declared: dict[str, Any], code: str) -> None:
    error = refusal(lambda: Node().resolve("/x", declared))
    assert error.code == code and error.message


def test_names_become_ids_and_x_is_for_directories() -> None:
    port = Node()
    assert port.resolve("/x", None) is None
    found = port.resolve("/x", {"owner": "daemon", "group": "1", "acl": ["u:1:rX"], "default_acl": []})
    assert found == {"uid": 1, "gid": 1, "acl": ("u:1:r-x",), "default_acl": ()}
    assert port.resolve("/x", found | {"acl": []}) == found | {"acl": ()}
    assert port.resolve("/x", {"type": "file", "acl": ["u:1:rX"], "size": 5}) == {
        "type": "file",
        "acl": ("u:1:r--",),
        "size": 5,
    }
    assert port.resolve("/x", {"owner": None}) == {}


def test_targets_are_canonical_and_their_parents_implied() -> None:
    port = Node()
    assert port.canon("/a/b/") == "/a/b"
    assert refusal(lambda: port.canon("a")).code == "invalid"
    assert list(port.implies("/a/b", {"type": "file"})) == [("node", "/a", {"type": "directory"})]
    assert list(port.implies("/a/b", None)) == [("node", "/a", {"type": "directory"})]
    assert list(port.implies("/a", {})) == []
    assert list(DataDir().implies("/a/b", {})) == [("node", "/a", {"type": "directory"})]


def test_risks() -> None:
    port, data = Node(), DataDir()
    kinds = {kind: {"type": kind, "size": 5} for kind in ("directory", "file", "subvolume")}
    assert [port.risk("/x", kinds[k], None) for k in ("directory", "file", "subvolume")] == [
        REVERSIBLE,
        DESTROYS,
        DESTROYS,
    ]
    assert data.risk("/x", kinds["directory"], None) == DESTROYS
    assert data.consent("/x", kinds["directory"], None) == ("absent", True)
    assert port.risk("/x", None, kinds["file"]) == port.risk("/x", None, None) == REVERSIBLE
    copy = {"type": "directory", "source": "/y"}
    assert (port.risk("/x", None, copy), data.risk("/x", None, copy)) == (FORWARD, REVERSIBLE)
    assert port.risk("/x", kinds["file"], {**kinds["file"], "mode": 5}) == REVERSIBLE
    short, long = ({**kinds["file"], "size": size} for size in (1, 2))
    assert (port.risk("/x", short, long), port.risk("/x", long, short)) == (FORWARD, SHRINKS)
    assert port.risk("/x", long, {**long, "mode": 5}) == port.risk("/x", None, long) == REVERSIBLE
    assert port.lowers("/x", kinds["file"], None) and not port.lowers("/x", None, kinds["file"])
    assert not port.lowers("/x", kinds["file"], {**kinds["file"], "size": 6})
    assert port.lowers("/x", kinds["file"], {**kinds["file"], "size": 4})
    assert not port.lowers("/x", kinds["file"], {**kinds["file"], "size": UNKNOWN})


def test_the_whole_world_is_not_scanned() -> None:
    assert refusal(lambda: Node().scan(None)).code == "unsupported"


# -- what may go again -------------------------------------------------------------------------------------------------


def row(port: Node, target: str) -> dict[str, Any]:
    port.want_entries = {target}
    return port.scan([target])[target]


def test_only_an_implied_directory_vanishes_and_only_when_it_is_empty(arena: str) -> None:
    port, top = Node(), arena + "/top"
    converge(port, top, {"type": "directory"})
    assert port.vanishes(top, row(port, top), set())
    make(top + "/a")
    make(top + "/b")
    assert row(port, top)["_entries"] in (("a", "b"), ("b", "a"))
    assert not port.vanishes(top, row(port, top), {("node", top + "/a")})
    assert port.vanishes(top, row(port, top), {("node", top + "/a"), ("data", top + "/b")})
    assert not port.vanishes(top, row(port, top), {("node", top + "/a"), ("mount", top + "/b")})
    port.want_entries = set()
    seen = port.scan([top])[top]
    assert "_entries" not in seen and not port.vanishes(top, seen, set())
    assert not port.vanishes(arena, row(port, arena), {("node", top)})  # somebody else's
    converge(port, top, {"mode": 0o711})
    os.rmdir(top + "/a")
    os.rmdir(top + "/b")
    assert not port.vanishes(top, row(port, top), set())  # declared by somebody since
    converge(port, arena + "/own", {"type": "directory", "mode": 0o755})
    assert not port.vanishes(arena + "/own", row(port, arena + "/own"), set())


@pytest.mark.parametrize("name", ["\\040", "a b", "é", "\udcff", "-rf"])
def test_entries_are_the_very_names(arena: str, name: str) -> None:
    make(arena + "/top")
    os.mkdir(os.fsencode(arena) + b"/top/" + name.encode("utf-8", "surrogateescape"))
    assert row(Node(), arena + "/top")["_entries"] == (name,)


def test_what_a_mount_hides_cannot_be_looked_at(arena: str) -> None:
    """A private copy of a mount counts against fs.mount-max, and is refused with ENOSPC where that is reached."""
    script = DRIVER + "port.want_entries = {sys.argv[3]}\nprint(port.scan([sys.argv[3]])[sys.argv[3]].code)\n"
    run = [sys.executable, "-c", script, COLLECTIONS, "node", arena]
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=open_tree", "-e", "inject=open_tree:error=ENOSPC"]
    assert subprocess.run([*inject, *run], check=True, stdout=-1).stdout == b"unreadable\n"


def test_beneath_a_mount_the_hidden_directory_counts(arena: str) -> None:
    port, top = Node(), arena + "/top"
    converge(port, top, {"type": "directory"})
    subprocess.run(["mount", "-t", "tmpfs", "x", top], check=True)
    write(top + "/in-the-mount")
    seen = row(port, top)
    assert (seen["_entries"], seen["_mounted"], seen["_implied"]) == ((), True, True)
    assert port.refuse(top, seen, None, set()).code == "in_use"  # type: ignore[union-attr]
    assert port.refuse(top, seen, None, {("mount", top)}) is None
    assert port.vanishes(top, seen, {("mount", top)}) and not port.vanishes(top, seen, set()), "what is mounted stays"
    assert refusal(lambda: port.put(top, seen, None)).code == "in_use"
    subprocess.run(["umount", top], check=True)
    os.chmod(top, 0o711)  # what lies beneath has rights of its own
    port.put(top, seen, None)
    assert not os.path.exists(top)


def test_very_many_entries_are_counted_with_a_bound(arena: str) -> None:
    top = make(arena + "/top")
    for n in range(70000):
        os.mknod("%s/%d" % (top, n))
    seen = row(Node(), top)
    assert len(seen["_entries"]) == 65537 and seen["_entries"][-1] == "/"
    error = refusal(lambda: converge(Node(), top, None))
    assert error.code == "would_destroy" and len(error.message) < 300 and len(error.details["entries"]) == 32


def test_the_root_of_a_fresh_mount_is_adopted_and_left_to_its_mount(arena: str) -> None:
    port, top = Node(), make(arena + "/top")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "x", top], check=True)
    after = port.merge(top, None, port.resolve(top, {"type": "directory", "owner": 7, "mode": 0o2770}))
    port.put(top, None, after)
    assert stat(top) == "directory 7:0 2770"
    port.put(top, after, None)  # undo: the mount takes it along
    subprocess.run(["umount", top], check=True)
    assert os.path.isdir(top)


# -- leftovers ---------------------------------------------------------------------------------------------------------


def test_leftovers_are_swept_but_not_those_of_the_living(arena: str) -> None:
    top = make(arena + "/top")
    make(top + "/.bulkhead-0123456789abcdef")
    write(top + "/.bulkhead-0123456789abcdef/x")
    write(top + "/.bulkhead-1111111111111111")
    os.symlink("/etc", top + "/.bulkhead-2222222222222222")
    os.mkfifo(top + "/.bulkhead-3333333333333333")
    make(top + "/.bulkhead-trash-4444444444444444")
    write(top + "/.bulkhead-mine")
    make(top + "/.bulkhead-5555555555555555")
    held = os.open(top + "/.bulkhead-5555555555555555", os.O_RDONLY)
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)
    converge(Node(), top + "/d", {"type": "directory"})
    assert sorted(os.listdir(top)) == [".bulkhead-5555555555555555", ".bulkhead-mine", "d"]
    os.close(held)
    os.unlink(top + "/.bulkhead-mine")
    os.rmdir(top + "/d")
    assert row(Node(), top)["_entries"] == ()
    assert converge(Node(), top, None) == "removed"


def test_a_folder_is_swept_once_a_run(arena: str) -> None:
    """A run that makes a thousand things in one folder does not list it a thousand times."""
    port = Node()
    converge(port, arena + "/one", {"type": "directory"})
    make(arena + "/.bulkhead-0123456789abcdef")
    converge(port, arena + "/two", {"type": "directory"})
    assert os.path.isdir(arena + "/.bulkhead-0123456789abcdef")
    converge(Node(), arena + "/three", {"type": "directory"})
    assert sorted(os.listdir(arena)) == ["one", "three", "two"]


# -- the content goes too ----------------------------------------------------------------------------------------------


def test_a_data_directory_goes_with_its_content(arena: str) -> None:
    top = make(arena + "/v", TENANT)
    victim = make(arena + "/victim")
    write(victim + "/keep")
    os.symlink(victim, top + "/link")
    os.link(victim + "/keep", top + "/hard")
    make(top + "/a")
    make(top + "/a/b")
    write(top + "/a/b/f")
    before = snapshot(victim)
    assert converge(DataDir(), top, None) == "removed"
    assert sorted(os.listdir(arena)) == ["victim"]
    assert snapshot(victim)[2] == before[2]


def test_a_killed_removal_is_found_under_the_old_name(arena: str) -> None:
    top = make(arena + "/v")
    write(top + "/f")
    port = DataDir()
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dirent import trash

    os.rename(top, trash(top))
    assert port.scan([top]) == {}  # nobody asked whether it may go
    assert row(port, top)["_trash"] is True
    assert converge(DataDir(), top, {"type": "directory"}) == "created"  # which sweeps too
    assert os.listdir(arena) == ["v"]
    os.rename(top, trash(top))
    assert converge(DataDir(), top, None) == "removed"
    assert os.listdir(arena) == []
    make(top)
    make(trash(top))
    write(trash(top) + "/old")
    assert converge(DataDir(), top, None) == "removed"
    assert os.listdir(arena) == []


def test_trash_is_not_taken_for_the_thing_that_is_wanted(arena: str) -> None:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dirent import trash

    port, top = DataDir(), arena + "/v"
    make(trash(top))
    seen = row(port, top)
    declared = {"type": "directory"}
    assert not port.same(top, seen, declared)
    assert port.replaces(top, seen, port.merge(top, seen, declared)) and not port.replaces(top, seen, None)
    assert port.refuse(top, seen, port.merge(top, seen, declared), set()) is None


def test_a_foreign_mount_in_the_content_stops_the_removal_before_it_begins(arena: str) -> None:
    """A4."""
    top = make(arena + "/v", TENANT)
    make(top + "/a")
    write(top + "/a/f")
    make(top + "/m")
    outside = make(arena + "/outside")
    write(outside + "/keep")
    subprocess.run(["mount", "--bind", outside, top + "/m"], check=True)
    error = refusal(lambda: converge(DataDir(), top, None))
    assert error.code == "in_use" and top + "/m" in error.message and error.details["mounts"] == [top + "/m"]
    port = DataDir()
    seen = row(port, top)
    assert port.refuse(top, seen, None, {("mounts", top + "/m")}) is None
    assert port.refuse(top, seen, None, {("data", top + "/m")}) is not None
    error = refusal(lambda: port.put(top, seen, None))
    assert error.code == "in_use" and "foreign mount" in error.message
    assert sorted(os.listdir(top)) == ["a", "m"] and os.listdir(top + "/a") == ["f"]
    assert os.listdir(outside) == ["keep"]


# -- attacks -----------------------------------------------------------------------------------------------------------


def attacker(act: Callable[[], None]) -> int:
    """A process of the tenant that repeats something hostile until it is ended."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(TENANT)
            os.setuid(TENANT)
            while True:
                act()
        finally:
            os._exit(1)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def exchange(one: str, two: str) -> Callable[[], None]:
    a, b = os.fsencode(one), os.fsencode(two)

    def act() -> None:
        libc.renameat2(-100, a, -100, b, 2)

    return act


@pytest.mark.parametrize("target", ["data", "data/deep"])
def test_a1_a_directory_that_is_a_link_every_other_moment(arena: str, theirs: str, target: str) -> None:
    victim = make(arena + "/victim")
    make(victim + "/deep")
    make(theirs + "/data", TENANT)
    make(theirs + "/data/deep", TENANT)
    os.symlink(victim, theirs + "/link")
    os.lchown(theirs + "/link", TENANT, TENANT)
    before = snapshot(victim), snapshot(victim + "/deep")
    port, path = Node(), theirs + "/" + target
    looks = [
        port.resolve(
            path, {"type": "directory", "owner": TENANT, "mode": 0o700, "acl": ["u:5:rwx"], "default_acl": []}
        ),
        port.resolve(
            path, {"type": "directory", "owner": OTHER, "mode": 0o2777, "acl": [], "default_acl": ["u:6:rwx"]}
        ),
    ]
    outcomes: dict[str, int] = {}
    child = attacker(exchange(theirs + "/data", theirs + "/link"))
    try:
        for n in range(4000):
            try:
                found = port.scan([path]).get(path)
                if isinstance(found, StorageError):
                    raise found
                port.put(path, found, port.merge(path, found, looks[n % 2]))
                code = "ok"
            except StorageError as exc:
                code = exc.code
            outcomes[code] = outcomes.get(code, 0) + 1
    finally:
        end(child)
    assert (snapshot(victim), snapshot(victim + "/deep")) == before
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved"}
    assert outcomes["ok"] > 20 and outcomes["unsafe_path"] > 20, outcomes


def test_a1_a_directory_is_made_where_names_are_exchanged(arena: str, theirs: str) -> None:
    victim = make(arena + "/victim")
    before = snapshot(victim)
    make(theirs + "/sub", TENANT)
    os.symlink(victim, theirs + "/link")
    port, path = Node(), theirs + "/sub/new"
    after = port.merge(path, None, {"type": "directory", "uid": OTHER, "mode": 0o777})
    outcomes: dict[str, int] = {}
    child = attacker(exchange(theirs + "/sub", theirs + "/link"))
    try:
        for _n in range(2000):
            code = "ok"
            try:
                port.put(path, None, after)
            except StorageError as exc:
                code = exc.code
            outcomes[code] = outcomes.get(code, 0) + 1
            for each in ("sub", "link"):
                if os.path.isdir(theirs + "/" + each + "/new") and not os.path.islink(theirs + "/" + each):
                    try:
                        os.rmdir(theirs + "/" + each + "/new")
                    except OSError:
                        outcomes["left"] = outcomes.get("left", 0) + 1
    finally:
        end(child)
    assert snapshot(victim) == before
    assert outcomes.get("ok") and outcomes.get("unsafe_path"), outcomes


def test_a1_what_is_being_made_is_planted_over(arena: str, theirs: str) -> None:
    """The tenant watches its directory and puts links where our private name is."""
    victim = make(arena + "/victim")
    before = snapshot(victim)

    def act() -> None:
        for name in os.listdir(theirs):
            if name.startswith(".bulkhead-"):
                try:
                    os.rename(theirs + "/" + name, theirs + "/stolen")
                    os.symlink(victim, theirs + "/" + name)
                except OSError:
                    return

    port, path = Node(), theirs + "/new"
    declared = port.resolve(path, {"type": "directory", "owner": OTHER, "mode": 0o777, "acl": ["u:5:rwx"]})
    child = attacker(act)
    outcomes: dict[str, int] = {}
    try:
        for _n in range(1500):
            code = "ok"
            try:
                port.swept.clear()
                port.put(path, None, port.merge(path, None, declared))
            except StorageError as exc:
                code = exc.code
            outcomes[code] = outcomes.get(code, 0) + 1
            subprocess.run(["rm", "-rf", path, theirs + "/stolen"], check=True) if code != "ok" else os.rmdir(path)
    finally:
        end(child)
    assert snapshot(victim) == before
    assert outcomes.get("ok"), outcomes
    assert outcomes.keys() <= {"ok", "moved", "unsafe_path", "not_found", "in_use"}, outcomes


@pytest.mark.parametrize("port", [Node(), DataDir()])
def test_a2_a_directory_replaced_by_a_link_is_not_removed(arena: str, theirs: str, port: Node) -> None:
    victim = make(arena + "/victim")
    os.symlink(victim, theirs + "/d")
    error = refusal(lambda: converge(port, theirs + "/d", None))
    assert error.code == "unsafe_path" and theirs + "/d" in error.message
    make(theirs + "/real", TENANT)
    now = row(port, theirs + "/real")
    os.rename(theirs + "/d", theirs + "/l")
    os.rename(theirs + "/real", theirs + "/d")
    os.rename(theirs + "/l", theirs + "/real")
    assert refusal(lambda: port.put(theirs + "/real", now, None)).code == "unsafe_path"
    assert os.path.isdir(victim) and os.path.islink(theirs + "/real")


@pytest.mark.parametrize("what", ["other tenant", "root's", "given away"])
def test_a3_hard_links_are_not_handed_over(arena: str, theirs: str, what: str) -> None:
    secret = write(arena + "/secret", "s", {"other tenant": OTHER, "root's": 0, "given away": OTHER}[what], 0o600)
    os.link(secret, theirs + "/f")
    if what == "given away":
        os.unlink(secret)  # one name is left, but it is a stranger's
    before = stat(theirs + "/f"), facl(theirs + "/f")
    for change in ({"owner": TENANT}, {"mode": 0o666}, {"acl": ["u:%d:rw" % TENANT]}, {"size": 0}):
        error = refusal(lambda change=change: converge(Node(), theirs + "/f", {"type": "file", **change}))  # type: ignore[misc]
        assert error.code == "unsafe_path", change
        port = Node()
        now = port.scan([theirs + "/f"])[theirs + "/f"]
        after = port.merge("", now, port.resolve("", {"type": "file", **change}))
        assert refusal(lambda p=port, n=now, a=after: p.put(theirs + "/f", n, a)).code == "unsafe_path"  # type: ignore[misc]
    assert (stat(theirs + "/f"), facl(theirs + "/f")) == before
    assert converge(Node(), theirs + "/f", {"type": "file"}) == "same"
    error = refusal(
        lambda: converge(Node(), arena + "/leak", {"type": "file", "source": theirs + "/f", "owner": TENANT})
    )
    assert error.code == "unsafe_path" and not os.path.exists(arena + "/leak")


def test_a3_a_tenants_own_file_and_hard_links_of_root_are_fine(arena: str, theirs: str) -> None:
    write(theirs + "/f", "x", TENANT)
    assert converge(Node(), theirs + "/f", {"type": "file", "mode": 0o640}) == "changed"
    write(arena + "/f")
    os.link(arena + "/f", arena + "/g")
    assert converge(Node(), arena + "/g", {"type": "file", "mode": 0o640}) == "changed"


def test_a4_a_mount_in_tenant_territory_is_not_touched(arena: str, theirs: str) -> None:
    outside = make(arena + "/outside")
    make(theirs + "/m", TENANT)
    subprocess.run(["mount", "--bind", outside, theirs + "/m"], check=True)
    before = snapshot(outside)
    assert converge(Node(), theirs + "/m", {"type": "directory"}) == "same"
    for change in ({"owner": TENANT}, {"mode": 0o777}, {"acl": ["u:1:rwx"]}, {"default_acl": ["u:1:rwx"]}):
        error = refusal(lambda change=change: converge(Node(), theirs + "/m", change))  # type: ignore[misc]
        assert error.code == "unsafe_path" and "foreign mount" in error.message
        port = Node()
        now = port.scan([theirs + "/m"])[theirs + "/m"]
        after = port.merge("", now, port.resolve("", change))
        assert refusal(lambda p=port, n=now, a=after: p.put(theirs + "/m", n, a)).code == "unsafe_path"  # type: ignore[misc]
    assert refusal(lambda: converge(Node(), theirs + "/m/in", {"type": "directory"})).code == "unsafe_path"
    assert refusal(lambda: converge(Node(), theirs + "/m", None)).code == "in_use"
    assert snapshot(outside) == before


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "link", "dangling"])
@pytest.mark.parametrize("port", [Node(), DataDir()])
def test_a7_what_is_neither_file_nor_directory_does_not_hang(arena: str, theirs: str, kind: str, port: Node) -> None:
    path = theirs + "/x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    else:
        os.symlink("/etc" if kind == "link" else "/nowhere", path)
    start = time.monotonic()
    for declared in ({"type": "directory"}, {"type": "file", "mode": 0o777}, None):
        error = refusal(lambda declared=declared: converge(port, path, declared))  # type: ignore[misc]
        assert error.code == "unsafe_path" and path in error.message
    after = port.merge(path, None, {"type": "directory"})
    assert refusal(lambda: port.put(path, None, after)).code == "unsafe_path"
    if kind not in ("link", "dangling"):
        error = refusal(lambda: converge(port, arena + "/copy", {"type": "file", "source": path}))
        assert error.code == "unsafe_path"
    assert time.monotonic() - start < 5


def test_a7_a_lease_of_the_tenant_does_not_block_us(theirs: str) -> None:
    import fcntl

    path = write(theirs + "/f", "x", TENANT)
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        os.setuid(TENANT)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fd = os.open(path, os.O_RDWR)
        fcntl.fcntl(fd, 1024, fcntl.F_WRLCK)  # F_SETLEASE
        os.write(go, b"x")
        time.sleep(60)
        os._exit(0)
    try:
        os.read(ready, 1)
        start = time.monotonic()
        found = Node().scan([path])[path]
        assert isinstance(found, StorageError) and found.code == "in_use"
        assert time.monotonic() - start < 5
    finally:
        end(child)
        os.close(ready)
        os.close(go)


NAMES = [
    "a b",
    "\\040",
    "-rf",
    "--help",
    "%n%s",
    "$(id)",
    ";",
    "é",
    "e\u0301",
    "\udcff",
    "#x",
    "'",
    '"',
    "x//deleted".replace("/", ":"),
    "n" * 255,
    "*",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a8_hostile_names_are_names(arena: str, name: str) -> None:
    for port in (Node(), DataDir()):
        path = port.canon(arena + "/" + name)
        declared = {"type": "directory", "owner": 7, "acl": ["u:5:rwx"]}
        assert converge(port, path, declared) == "created"
        assert os.listdir(os.fsencode(arena)) == [name.encode("utf-8", "surrogateescape")]
        assert stat(path, "%u") == "7"
        assert converge(port, path, declared) == "same"
        assert converge(port, path, {"mode": 0o700}) == "changed"
        assert converge(port, path, None) == "removed"
        assert os.listdir(arena) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/../b", "a//b", "a\nb", "a\tb", "a\0b", "\u202e", "\u2028", "\x1b[31m", "n" * 256]
)
def test_a8_what_is_no_name_is_invalid(name: str) -> None:
    assert refusal(lambda: Node().canon("/srv//" + name if not name else "/srv/" + name)).code == "invalid"


def test_a9_containment_is_by_component(arena: str) -> None:
    """What begins alike does not lie beneath: /top and /top2."""
    port = Node()
    converge(port, arena + "/top", {"type": "directory"})
    converge(port, arena + "/top2", {"type": "directory"})
    converge(port, arena + "/top/2", {"type": "directory"})
    seen = row(port, arena + "/top")
    assert not port.vanishes(arena + "/top", seen, {("node", arena + "/top2")})
    assert port.vanishes(arena + "/top", seen, {("node", arena + "/top/2")})


@pytest.mark.parametrize("uid, mode", [(0, 0o777), (0, 0o1777), (0, 0o775), (TENANT, 0o755)])
def test_links_beneath_what_others_can_write_are_unsafe(arena: str, uid: int, mode: int) -> None:
    top = make(arena + "/top", 0, mode)
    os.chown(top, uid, 0)
    victim = make(arena + "/victim")
    os.symlink(victim, top + "/link")
    before = snapshot(victim)
    for path in (top + "/link", top + "/link/new"):
        assert (
            refusal(lambda path=path: converge(Node(), path, {"type": "directory", "mode": 0o777})).code
            == "unsafe_path"
        )  # type: ignore[misc]
    assert snapshot(victim) == before


def test_roots_own_link_stands_for_its_directory_but_is_not_removed(arena: str) -> None:
    make(arena + "/real")
    os.symlink("real", arena + "/link")
    assert converge(Node(), arena + "/link", {"type": "directory", "mode": 0o700}) == "changed"
    assert stat(arena + "/real", "%a") == "700"
    assert converge(Node(), arena + "/link/sub", {"type": "directory"}) == "created"
    assert refusal(lambda: converge(Node(), arena + "/link", None)).code == "unsafe_path"
    port = Node()
    os.rmdir(arena + "/real/sub")
    assert refusal(lambda: port.put(arena + "/link", row(port, arena + "/link"), None)).code == "unsafe_path"
    os.rmdir(arena + "/real")
    error = refusal(lambda: converge(Node(), arena + "/link", {"type": "directory"}))
    assert error.code == "unsafe_path" and "not there" in error.message
    write(arena + "/file", "x")
    os.symlink("file", arena + "/flink")
    assert converge(Node(), arena + "/flink", {"type": "file", "size": 9}) == "changed"
    assert stat(arena + "/file", "%s") == "9"


# -- cost --------------------------------------------------------------------------------------------------------------

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, Node
port = {"node": Node, "data": DataDir}[sys.argv[2]]()
"""
SCAN = (
    DRIVER
    + """
found = port.scan(["%s/%d" % (sys.argv[3], n) for n in range(int(sys.argv[4]))])
print(len(found), sum(isinstance(v, dict) for v in found.values()))
"""
)
CONVERGE = (
    DRIVER
    + """
target, declared = sys.argv[3], eval(sys.argv[4])
port.want_entries = {target} if declared is None else set()
now = port.scan([target]).get(target)
declared = port.resolve(target, declared)
if declared is None:
    if now is not None:
        port.put(target, now, None)
elif now is None or not port.same(target, now, declared):
    port.put(target, now, port.merge(target, now, declared))
"""
)


def calls(arena: str, top: str, count: int) -> int:
    argv = [
        "strace",
        "-f",
        "-qq",
        "-o",
        arena + "/trace",
        sys.executable,
        "-c",
        SCAN,
        COLLECTIONS,
        "node",
        top,
        str(count),
    ]
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
    assert out == b"%d %d\n" % ((count, count) if os.listdir(top) else (0, 0))
    return Path(arena, "trace").read_bytes().count(b"\n")


def test_a_thousand_siblings_cost_five_calls_each(arena: str) -> None:
    top = make(arena + "/tenants")
    for n in range(1000):
        make("%s/%d" % (top, n), 70000 + n)
    entries = "u:1:rwx,u:2:rwx,u:3:r,d:u:1:rwx,d:u:2:rwx,d:u:3:r"
    subprocess.run(["setfacl", "-m", entries, *["%s/%d" % (top, n) for n in range(1000)]], check=True)
    assert (calls(arena, top, 1000) - calls(arena, top, 1)) / 999 <= 5.1


def test_a_thousand_absent_siblings_cost_one_call_each(arena: str) -> None:
    top = make(arena + "/tenants")
    assert (calls(arena, top, 1000) - calls(arena, top, 1)) / 999 <= 1.1


# -- killed at every call that changes something -----------------------------------------------------------------------

MUTATING = "mkdirat,mkdir,symlinkat,linkat,fchown,fsetxattr,fchmod,ftruncate,fallocate,fsync,"
MUTATING += "renameat2,unlinkat,unlink,rmdir,flock,ioctl"
SCENES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "a directory": (
        "node",
        {"type": "directory", "owner": 7, "mode": 0o2770, "acl": ["u:5:rwx"], "default_acl": ["g:6:rx"]},
    ),
    "an implied directory": ("node", {"type": "directory"}),
    "a file": ("node", {"type": "file", "owner": 7, "size": 65536, "thick": True}),
    "a change": ("node", {"type": "directory", "owner": 8, "mode": 0o1711, "acl": ["u:9:r"], "default_acl": []}),
    "a cloned file": ("node", {"type": "file", "source": "@/src/f"}),
    "a cloned tree": ("data", {"type": "directory", "source": "@/src", "mode": 0o700}),
    "a removed tree": ("data", None),
    "a removed directory": ("node", None),
}


def world(place: str) -> dict[str, Any]:
    found = {}
    for base, dirs, files in os.walk(place):
        for name in dirs + files:
            path = os.path.join(base, name)
            found[path[len(place) :]] = stat(path, "%F %u:%g %a %s"), facl(path)
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_killed_anywhere_the_next_run_comes_to_the_same_world(arena: str, scene: str) -> None:
    name, declared = SCENES[scene]

    def prepare(where: str) -> tuple[str, str]:
        make(where)
        make(where + "/src")
        write(where + "/src/f", "content", 9)
        make(where + "/src/d", 9, 0o711)
        make(where + "/in")
        if scene in ("a change", "a removed directory"):
            make(where + "/in/t", 3, 0o2755)
            if scene == "a change":
                subprocess.run(["setfacl", "-m", "u:4:rwx,d:u:4:rwx", where + "/in/t"], check=True)
        if scene == "a removed tree":
            for sub in ("/in/t", "/in/t/a", "/in/t/a/b"):
                make(where + sub)
                write(where + sub + "/f", "x")
        text = repr(declared).replace("@", where)
        return where + "/in/t", text

    def run(where: str, prefix: list[str]) -> int:
        target, text = prepared[where]
        argv = [*prefix, sys.executable, "-c", CONVERGE, COLLECTIONS, name, target, text]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False).returncode

    prepared = {arena + "/clean": prepare(arena + "/clean")}
    trace = arena + "/trace"
    assert run(arena + "/clean", ["strace", "-f", "-qq", "-o", trace, "-e", "trace=" + MUTATING]) == 0
    wanted = {k: v for k, v in world(arena + "/clean").items() if not k.startswith("/src")}
    assert not [k for k in wanted if ".bulkhead" in k]
    done: dict[str, int] = {}
    points = []
    for line in Path(trace).read_text().splitlines():
        call = re.sub(r"^\d+\s+", "", line).split("(")[0]
        done[call] = done.get(call, 0) + 1
        points.append((call, done[call]))
    points = [p for p in points if p[0] != "ioctl" or p[1] > done["ioctl"] - 4]
    points = [p for p in points if not p[0].startswith("syscall_")]  # newer than strace, which shows it unasked
    for n, (call, when) in enumerate(points):
        where = "%s/%d" % (arena, n)
        prepared[where] = prepare(where)
        rc = run(
            where, ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=%s:signal=KILL:when=%d" % (call, when)]
        )
        assert rc in (-9, 137), (call, when, rc)
        assert run(where, []) == 0, (call, when)
        assert {k: v for k, v in world(where).items() if not k.startswith("/src")} == wanted, (call, when)
        subprocess.run(["rm", "-rf", where], check=True)
    assert len(points) >= (1 if scene == "a removed directory" else 5), points


@pytest.mark.parametrize("name", [b"nowhere", b"."])
def test_a_look_beneath_a_mount_that_fails_leaves_no_descriptor(arena, name):
    at = os.open(arena, os.O_PATH | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    try:
        nodechange.look_inside({"_mounted": True}, at, name, at, arena)
    except OSError as error:
        assert name == b"nowhere" and error.errno == errno.ENOENT
    assert os.listdir("/proc/self/fd") == before
    os.close(at)
