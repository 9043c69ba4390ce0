# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  (a fixture is imported, and named again as an argument)
"""Copies compared with ``rsync``-like listings of find(1), getfacl(1) and getfattr(1); removal against traps."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import clone
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    image,
    loop_device,
)

TENANT = 64001


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def sh(*argv: str, cwd: str = "/") -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, cwd=cwd).stdout.decode()


def listing(top: str) -> list[str]:
    """Kind, mode, owner, links, size, times, target and content of everything, as find(1) and sha256sum(1) see it."""
    found = sh("find", ".", "-printf", "%P %y %m %U:%G %n %T@ %l\n", cwd=top).splitlines()
    found += sh("find", ".", "-type", "f", "-printf", "%P %s\n", cwd=top).splitlines()
    found += sh("find", ".", "-type", "f", "-exec", "sha256sum", "{}", "+", cwd=top).splitlines()
    found += sh("getfacl", "-Rnp", ".", cwd=top).split("\n\n")
    found += sh("getfattr", "-Rdhm", "^user", ".", cwd=top).split("\n\n")
    return sorted(found)


def write(path: str, data: bytes = b"", uid: int = 0, mode: int = 0o644) -> str:
    with open(path, "wb") as f:
        f.write(data)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


def build(top: str) -> str:
    os.mkdir(top)
    for sub in ("", "/a", "/a/b", "/a/é \n"):
        if sub:
            os.mkdir(top + sub)
        write(top + sub + "/f", os.urandom(5000), 7, 0o640)
    write(top + "/suid", b"x", 5, 0o4711)
    os.chown(top + "/a", 9, 8)
    os.chmod(top + "/a", 0o3711)
    os.symlink("/etc", top + "/outside")
    os.lchown(top + "/outside", 3, 3)
    os.symlink("f", top + "/a/inside")
    os.link(top + "/f", top + "/a/b/same")
    sh("setfacl", "-m", "u:7:rwx,d:u:8:r", top + "/a/b", top + "/a")
    sh("setfacl", "-m", "u:7:rw", top + "/f")
    os.setxattr(top + "/f", "user.colour", b"\0red")
    os.setxattr(top + "/a/b", "user.empty", b"")
    with open(top + "/sparse", "wb") as f:
        f.truncate(50 << 20)
        f.seek(20 << 20)
        f.write(b"middle")
    for n, path in enumerate(sorted(os.path.join(b, x) for b, d, fs in os.walk(top) for x in d + fs)):
        os.utime(path, ns=(10**18 + n * 7, 10**18 + n * 1234567), follow_symlinks=False)
    os.utime(top, ns=(5, 123456789))
    return top


def copy(source: str, target: str) -> None:
    os.mkdir(target, 0o700)
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        clone.tree(a, b)
    finally:
        os.close(a)
        os.close(b)


def remove(path: str) -> None:
    folder, _slash, name = path.rpartition("/")
    at = os.open(folder, os.O_RDONLY)
    try:
        clone.remove(at, os.fsencode(name), path)
    finally:
        os.close(at)


def refusal(act) -> StorageError:  # type: ignore[no-untyped-def]
    with pytest.raises(StorageError) as exc:
        act()
    return exc.value


@pytest.mark.parametrize("fstype", ["tmpfs", "ext4", "btrfs"])
def test_a_copy_is_the_same_tree(arena: str, fstype: str) -> None:
    top = arena + "/fs"
    os.mkdir(top)
    if fstype == "tmpfs":
        sh("mount", "-t", "tmpfs", "x", top)
        top_and_copy(top)
        sh("umount", top)
        return
    with loop_device(image(arena + "/img", 128 << 20, fstype)) as device:
        sh("mount", device, top)
        try:
            top_and_copy(top)
        finally:
            sh("umount", top)


def top_and_copy(top: str) -> None:
    build(top + "/src")
    before = listing(top + "/src")
    copy(top + "/src", top + "/dst")
    assert listing(top + "/dst") == listing(top + "/src") == before
    assert os.path.samefile(top + "/dst/f", top + "/dst/a/b/same") and not os.path.samefile(
        top + "/dst/f", top + "/src/f"
    )
    assert int(sh("stat", "-c", "%b", top + "/dst/sparse")) < 1000
    write(top + "/dst/suid", b"changed")
    assert Path(top + "/src/suid").read_bytes() == b"x"


def test_a_reflink_shares_its_blocks(arena: str) -> None:
    with loop_device(image(arena + "/img", 128 << 20, "btrfs")) as device:
        top = arena + "/fs"
        os.mkdir(top)
        sh("mount", device, top)
        write(top + "/a", os.urandom(30 << 20))
        sh("sync", "-f", top)
        free = os.statvfs(top).f_bfree
        a, b = os.open(top + "/a", os.O_RDONLY), os.open(top + "/b", os.O_RDWR | os.O_CREAT)
        clone.file(a, b)
        os.close(a)
        os.close(b)
        sh("sync", "-f", top)
        assert (free - os.statvfs(top).f_bfree) * os.statvfs(top).f_frsize < 1 << 20
        sh("cmp", top + "/a", top + "/b")
        sh("umount", top)


@pytest.mark.parametrize(
    "size, data", [(0, b""), (1, b"x"), (3 << 20, b""), (1 << 20, b"y" * (1 << 20)), ((1 << 20) + 1, b"z" * 4096)]
)
def test_a_file_of_any_shape(arena: str, size: int, data: bytes) -> None:
    with open(arena + "/a", "wb") as f:
        f.truncate(size)
        f.write(data)
    with open(arena + "/a", "rb") as a, open(arena + "/b", "w+b") as b:
        clone.file(a.fileno(), b.fileno())
    sh("cmp", arena + "/a", arena + "/b")
    assert sh("stat", "-c", "%s", arena + "/b") == "%d\n" % max(size, len(data))


def test_a_full_disk_is_said(arena: str) -> None:
    os.mkdir(arena + "/small")
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "x", arena + "/small")
    os.mkdir(arena + "/src")
    write(arena + "/src/f", b"x" * 100000)
    assert refusal(lambda: copy(arena + "/src", arena + "/small/dst")).code == "no_space"


def test_sockets_and_fifos_stay_out_and_devices_are_unsupported(arena: str) -> None:
    os.mkdir(arena + "/src")
    os.mkfifo(arena + "/src/fifo")
    write(arena + "/src/f", b"x")
    copy(arena + "/src", arena + "/dst")
    assert os.listdir(arena + "/dst") == ["f"]
    os.mknod(arena + "/src/dev", 0o600 | 0o020000, os.makedev(1, 3))
    error = refusal(lambda: copy(arena + "/src", arena + "/dst2"))
    assert error.code == "unsupported" and "dev" in error.message


def test_a_mount_in_the_source_is_not_copied(arena: str) -> None:
    os.mkdir(arena + "/src")
    os.mkdir(arena + "/src/m")
    sh("mount", "--bind", "/etc", arena + "/src/m")
    error = refusal(lambda: copy(arena + "/src", arena + "/dst"))
    assert error.code == "unsafe_path" and "m" in error.message
    assert not os.path.exists(arena + "/dst/m/passwd")


def test_a_path_that_is_too_long_is_said(arena: str) -> None:
    os.mkdir(arena + "/src")
    deepen(arena + "/src", 30, "n" * 200)
    assert refusal(lambda: copy(arena + "/src", arena + "/dst")).code in ("failed", "invalid", "limit_exceeded")
    remove(arena + "/src")
    remove(arena + "/dst")


def test_what_disappears_or_becomes_a_link_meanwhile_does_not_leak(arena: str) -> None:
    os.mkdir(arena + "/victim")
    write(arena + "/victim/secret", b"secret")
    os.mkdir(arena + "/src")
    os.mkdir(arena + "/src/d")
    write(arena + "/src/d/secret", b"mine")
    child = os.fork()
    if not child:
        try:
            while True:
                os.rename(arena + "/src/d", arena + "/src/e")
                os.symlink(arena + "/victim", arena + "/src/d")
                os.unlink(arena + "/src/d")
                os.rename(arena + "/src/e", arena + "/src/d")
        finally:
            os._exit(1)
    codes = set()
    try:
        for n in range(400):
            try:
                copy(arena + "/src", "%s/dst%d" % (arena, n))
                codes.add("ok")
            except StorageError as exc:
                codes.add(exc.code)
            for each in ("d", "e"):
                path = "%s/dst%d/%s" % (arena, n, each)
                if not os.path.islink(path) and os.path.exists(path + "/secret"):
                    assert Path(path + "/secret").read_bytes() == b"mine"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert "ok" in codes and codes <= {"ok", "unsafe_path", "moved"}


# -- removal -----------------------------------------------------------------------------------------------------------


def deepen(top: str, levels: int, name: str = "d") -> None:
    at = os.open(top, os.O_RDONLY)
    for _n in range(levels):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def test_removal_takes_everything_and_follows_nothing(arena: str) -> None:
    os.mkdir(arena + "/victim")
    write(arena + "/victim/keep")
    build(arena + "/t")
    os.symlink(arena + "/victim", arena + "/t/a/link")
    os.mkfifo(arena + "/t/fifo")
    remove(arena + "/t")
    assert os.listdir(arena) == ["victim"] and os.listdir(arena + "/victim") == ["keep"]
    remove(arena + "/t")  # gone is gone
    os.symlink("victim", arena + "/l")
    remove(arena + "/l")
    write(arena + "/f")
    remove(arena + "/f")
    assert os.listdir(arena) == ["victim"]


def test_removal_of_a_very_deep_tree_needs_few_descriptors(arena: str) -> None:
    import resource

    os.mkdir(arena + "/t")
    deepen(arena + "/t", 5000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        remove(arena + "/t")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(arena) == []


def test_removal_of_a_very_wide_tree(arena: str) -> None:
    os.mkdir(arena + "/t")
    for n in range(10000):
        os.mknod("%s/t/%d" % (arena, n))
    for n in range(1000):
        os.makedirs("%s/t/d%d/x" % (arena, n))
    remove(arena + "/t")
    assert os.listdir(arena) == []


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "file"])
def test_a4_nothing_past_a_foreign_mount_is_removed(arena: str, kind: str) -> None:
    os.makedirs(arena + "/t/a/m")
    os.mkdir(arena + "/outside")
    write(arena + "/outside/keep", b"x")
    if kind == "bind":
        sh("mount", "--bind", arena + "/outside", arena + "/t/a/m")
    elif kind == "tmpfs":
        sh("mount", "-t", "tmpfs", "x", arena + "/t/a/m")
        write(arena + "/t/a/m/keep", b"x")
    else:
        os.rmdir(arena + "/t/a/m")
        write(arena + "/t/a/m")
        sh("mount", "--bind", arena + "/outside/keep", arena + "/t/a/m")
    with pytest.raises(StorageError) as exc:
        clone.no_mounts(arena + "/t")
    assert exc.value.code == "in_use" and exc.value.details["mounts"] == [arena + "/t/a/m"]
    clone.no_mounts(arena + "/t2")
    clone.no_mounts(arena + "/outside")
    error = refusal(lambda: remove(arena + "/t"))
    assert error.code == "unsafe_path" and "foreign mount" in error.message and "m" in error.message
    keep = {"bind": "/outside/keep", "tmpfs": "/t/a/m/keep", "file": "/t/a/m"}[kind]
    assert Path(arena + keep).read_bytes() == b"x"
    sh("umount", arena + "/t/a/m")
    remove(arena + "/t")
    assert os.listdir(arena) == ["outside"]


def test_what_an_nfs_client_keeps_is_cut_off_unless_it_is_somewhere_else_too(arena: str) -> None:
    """Its name for a file that was removed, while that is open. A mount is as busy, and nothing of it is touched."""
    os.mkdir(arena + "/top")
    kept, away = write(arena + "/top/.nfs01", b"kept"), write(arena + "/away", b"away")
    sh("mount", "--bind", away, kept)
    error = refusal(lambda: remove(arena + "/top"))
    assert error.code == "in_use" and "still open on this host" in error.message
    assert Path(away).read_bytes() == b"away"
    sh("umount", kept)
    os.link(kept, arena + "/another")
    clone._cut(os.open(kept, os.O_WRONLY))
    assert Path(kept).read_bytes() == b"kept"
    os.unlink(arena + "/another")
    clone._cut(os.open(kept, os.O_WRONLY))
    assert Path(kept).read_bytes() == b""


def test_an_immutable_file_is_said(arena: str) -> None:
    with loop_device(image(arena + "/img", 16 << 20, "ext4")) as device:
        os.mkdir(arena + "/fs")
        sh("mount", device, arena + "/fs")
        os.mkdir(arena + "/fs/t")
        write(arena + "/fs/t/fixed")
        sh("chattr", "+i", arena + "/fs/t/fixed")
        error = refusal(lambda: remove(arena + "/fs/t"))
        assert error.code == "denied" and "fixed" in error.message and "lsattr" in error.hint
        sh("chattr", "-i", arena + "/fs/t/fixed")
        sh("umount", arena + "/fs")


def writer(folder: str, uid: int, pause: float) -> int:
    """A process that fills a directory which it holds open; it ends when it can no longer, or with its parent."""
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        at, n = os.open(folder, os.O_RDONLY), 0
        os.setuid(uid)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        try:
            while True:
                n += 1
                os.close(os.open("w%d" % n, os.O_CREAT | os.O_WRONLY, dir_fd=at))
                time.sleep(pause)
        finally:
            os._exit(0)
    while not os.listdir(folder):
        time.sleep(0.001)
    return child


@pytest.mark.parametrize("uid, pause, outcome", [(TENANT, 0, {"ok"}), (0, 0.0002, {"ok", "in_use"})])
def test_who_keeps_writing_does_not_keep_us_for_ever(arena: str, uid: int, pause: float, outcome: set[str]) -> None:
    os.mkdir(arena + "/t")
    os.mkdir(arena + "/t/d")
    os.chown(arena + "/t/d", uid, uid)
    child = writer(arena + "/t/d", uid, pause)
    start, code = time.monotonic(), "ok"
    try:
        remove(arena + "/t")
        assert not os.path.exists(arena + "/t")
    except StorageError as exc:
        code = exc.code
        assert "writing" in exc.message
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert code in outcome and time.monotonic() - start < 20


def test_directories_moved_away_under_us_are_not_left_for_others(arena: str) -> None:
    """A tenant moves a directory out of the tree while we are in it: we never go on in the place it went to."""
    os.mkdir(arena + "/victim")
    write(arena + "/victim/keep")
    codes = set()
    for n in range(40):
        os.makedirs(arena + "/t/a/b/c")
        for m in range(50):
            os.mknod("%s/t/a/b/c/%d" % (arena, m))
        child = os.fork()
        if not child:
            try:
                while True:
                    try:
                        os.rename(arena + "/t/a/b", arena + "/victim/b")
                        os.rename(arena + "/victim/b", arena + "/t/a/b")
                    except OSError:
                        if not os.path.exists(arena + "/t"):
                            break
            finally:
                os._exit(0)
        time.sleep(0.002 * (n % 3))
        try:
            remove(arena + "/t")
            codes.add("ok")
        except StorageError as exc:
            codes.add(exc.code)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert "keep" in os.listdir(arena + "/victim")
        remove(arena + "/t")
        remove(arena + "/victim/b")
    assert codes <= {"ok", "moved", "unsafe_path", "in_use"}, codes
