# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  (a fixture is imported, and named again as an argument)
"""Where root's territory ends, and what the walk does beyond."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.fuse import mounted

TENANT = 64001


def fds() -> dict[str, str]:
    return {
        n: os.readlink("/proc/self/fd/" + n)
        for n in os.listdir("/proc/self/fd")
        if os.path.lexists("/proc/self/fd/" + n)
    }


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = set(fds())
    yield
    assert set(fds()) == before


def make(path: str, uid: int = 0, mode: int = 0o755) -> str:
    os.mkdir(path)
    os.chown(path, uid, 0)
    os.chmod(path, mode)
    return path


def code(path: str, flags: int = os.O_PATH) -> str:
    """What opening a path comes to: ``ok`` or the code of the refusal, whose message must name a component of it."""
    with Walk() as walk:
        try:
            os.close(walk.open(path, flags))
        except StorageError as exc:
            assert any(part in exc.message for part in (path, *path.split("/")[-3:]))
            return exc.code
        return "ok"


def trusted(path: str) -> bool:
    with Walk() as walk:
        return walk.parent(path)[2]


# -- territory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid, mode, theirs",
    [
        (0, 0o755, False),
        (0, 0o700, False),
        (0, 0o2755, False),
        (TENANT, 0o755, True),
        (TENANT, 0o700, True),
        (0, 0o775, True),
        (0, 0o757, True),
        (0, 0o1777, True),
        (0, 0o1755, False),
    ],
)
def test_where_roots_territory_ends(arena: str, uid: int, mode: int, theirs: bool) -> None:
    make(arena + "/d", uid, mode)
    make(arena + "/d/sub")
    assert trusted(arena + "/d/x") is not theirs
    assert trusted(arena + "/d/sub/x") is not theirs  # everything beneath, whoever owns it


def test_an_acl_that_lets_somebody_write_ends_it(arena: str) -> None:
    make(arena + "/d")
    subprocess.run(["setfacl", "-m", "u:%d:rwx" % TENANT, arena + "/d"], check=True)
    assert not trusted(arena + "/d/x")


def test_tmp_is_not_trusted_and_run_is() -> None:
    assert trusted("/run/x") and trusted("/etc/x") and trusted("/x") and not trusted("/tmp/x")


@pytest.mark.parametrize("to", ["absolute", "relative", "up", "chain"])
def test_in_roots_territory_roots_links_are_followed(arena: str, to: str) -> None:
    make(arena + "/real")
    make(arena + "/real/deep")
    make(arena + "/a")
    make(arena + "/a/b")
    goal = {"absolute": arena + "/real", "relative": "../../real", "up": "../.././/real/deep/..", "chain": "../l2"}[to]
    os.symlink(goal, arena + "/a/b/link")
    os.symlink("real", arena + "/l2")
    if to == "chain":
        os.unlink(arena + "/a/b/link")
        os.symlink("../../l2", arena + "/a/b/link")
    with Walk() as walk:
        for path in (arena + "/a/b/link/deep", arena + "/a/b/link"):
            fd = walk.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                assert os.path.samestat(os.fstat(fd), os.stat(path))
            finally:
                os.close(fd)
        assert walk.real(arena + "/a/b/link/deep/x") == arena + "/real/deep/x"
        assert walk.follow(arena + "/a/b/link") == arena + "/real"


def test_a_dotdot_in_a_link_is_the_real_parent_as_in_the_kernel(arena: str) -> None:
    make(arena + "/x")
    make(arena + "/x/y")
    make(arena + "/x/goal")
    os.symlink("x/y", arena + "/short")
    os.symlink("short/../goal", arena + "/link")
    with Walk() as walk:
        assert walk.follow(arena + "/link") == arena + "/x/goal" == os.path.realpath(arena + "/link")


def test_a_link_of_root_into_tenant_territory_loses_trust_there(arena: str) -> None:
    make(arena + "/t", TENANT)
    make(arena + "/t/in")
    os.symlink("/etc", arena + "/t/evil")
    os.symlink(arena + "/t", arena + "/link")
    assert not trusted(arena + "/link/x")
    assert code(arena + "/link/in") == "ok"
    assert code(arena + "/link/evil/passwd") == "unsafe_path"
    os.symlink(arena + "/t/evil", arena + "/hop")
    assert code(arena + "/hop/passwd") == "unsafe_path"
    assert code(arena + "/hop") == "unsafe_path"
    os.symlink(arena + "/t/evil/..", arena + "/hop2")
    assert code(arena + "/hop2") == "unsafe_path"


def test_a_tenants_link_that_stayed_in_roots_directory_is_not_followed(arena: str) -> None:
    os.symlink("/etc", arena + "/old")
    os.lchown(arena + "/old", TENANT, 0)
    assert code(arena + "/old/passwd") == "unsafe_path"
    assert code(arena + "/old") == "unsafe_path"


def test_links_in_a_circle_are_unsafe(arena: str) -> None:
    os.symlink("b", arena + "/a")
    os.symlink("a", arena + "/b")
    os.symlink(".", arena + "/self")
    assert code(arena + "/a/x") == code(arena + "/a") == "unsafe_path"
    assert code(arena + "/self/self/self") == "ok"


@pytest.mark.parametrize("uid, mode", [(TENANT, 0o755), (0, 0o777), (0, 0o1777), (0, 0o775)])
def test_in_tenant_territory_no_link_is_followed_whoever_made_it(arena: str, uid: int, mode: int) -> None:
    top = make(arena + "/t", uid, mode)
    make(top + "/dir")
    os.symlink("dir", top + "/inside")
    os.symlink("/etc", top + "/outside")
    for link in ("inside", "outside"):
        assert code(top + "/" + link) == "unsafe_path"
        assert code(top + "/" + link + "/x") == "unsafe_path"
    assert code(top + "/dir") == "ok"
    assert code(top + "/dir/../../x") in ("invalid", "unsafe_path")
    assert code(top + "/..") == "unsafe_path"


def test_mounts_are_crossed_in_roots_territory_only(arena: str) -> None:
    make(arena + "/m")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "x", arena + "/m"], check=True)
    make(arena + "/m/in")
    assert code(arena + "/m/in") == "ok" and trusted(arena + "/m/in")
    make(arena + "/t", TENANT)
    make(arena + "/t/m", TENANT)
    make(arena + "/t/bind", TENANT)
    subprocess.run(["mount", "--bind", arena + "/m", arena + "/t/m"], check=True)
    subprocess.run(["mount", "--bind", arena + "/t/bind", arena + "/t/bind"], check=True)  # the same st_dev
    for name in ("m", "bind"):
        assert code(arena + "/t/" + name) == "unsafe_path"
        assert code(arena + "/t/" + name + "/in") == "unsafe_path"


def test_not_a_directory_is_unsafe_only_where_others_write(arena: str) -> None:
    open(arena + "/f", "w").close()
    make(arena + "/t", TENANT)
    open(arena + "/t/f", "w").close()
    assert code(arena + "/f/x") == "failed"
    assert code(arena + "/t/f/x") == "unsafe_path"


def test_absent_is_enoent_and_nothing_else(arena: str) -> None:
    make(arena + "/t", TENANT)
    for path in ("/x", "/x/y", "/t/x", "/t/x/y"):
        assert code(arena + path) == "not_found"


@pytest.mark.parametrize(
    "path", ["a/b", "x", "", "//a/b", "/etc/../etc/passwd", "/etc//x/y", "/etc/./x/y", "/etc/a\0b/c", "/e\ntc/x"]
)
def test_a_path_that_is_not_plain_is_never_absent(path: str) -> None:
    assert code(path) in ("invalid", "unsafe_path")


def test_a_nul_does_not_cut_a_name(arena: str) -> None:
    make(arena + "/a")
    assert code(arena + "/a\0b") == "failed"


# -- beneath -----------------------------------------------------------------------------------------------------------


def test_beneath_stays_beneath(arena: str) -> None:
    make(arena + "/in")
    os.symlink("in", arena + "/link")
    make(arena + "/m")
    subprocess.run(["mount", "-t", "tmpfs", "x", arena + "/m"], check=True)
    anchor = os.open(arena, os.O_PATH)
    try:
        fd = openat2.beneath(anchor, "in", os.O_RDONLY)
        assert not os.get_inheritable(fd)
        os.close(fd)
        for bad in ("..", "in/../..", "/etc", "link", "m", "m/x"):
            with pytest.raises(StorageError) as exc:
                openat2.beneath(anchor, bad, os.O_PATH)
            assert exc.value.code == "unsafe_path" and bad in exc.value.message
        with pytest.raises(StorageError) as exc:
            openat2.beneath(anchor, "nothing", os.O_PATH)
        assert exc.value.code == "not_found"
        os.close(openat2.beneath(anchor, "m", os.O_PATH, openat2.LINKLESS))
    finally:
        os.close(anchor)


def test_a_renamer_does_not_make_dotdot_fail_for_ever(arena: str) -> None:
    make(arena + "/a")
    make(arena + "/a/b")
    anchor = os.open(arena + "/a", os.O_PATH)
    child = os.fork()
    if not child:
        try:
            while True:
                os.rename(arena + "/a", arena + "/c")
                os.rename(arena + "/c", arena + "/a")
        finally:
            os._exit(1)
    good = 0
    try:
        for _round in range(2000):
            try:
                os.close(openat2.openat2(anchor, b"b/../b/../b", os.O_PATH))
                good += 1
            except OSError as exc:
                assert exc.errno == errno.EAGAIN
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(anchor)
    assert good > 1000


@pytest.mark.parametrize(
    "number, tenant, expected",
    [
        (errno.ELOOP, True, "unsafe_path"),
        (errno.EXDEV, True, "unsafe_path"),
        (errno.ENOTDIR, True, "unsafe_path"),
        (errno.ENOTDIR, False, "failed"),
        (errno.ENOTEMPTY, False, "in_use"),
        (errno.EBUSY, False, "in_use"),
        (errno.ETXTBSY, True, "in_use"),
        (errno.EAGAIN, True, "in_use"),
        (errno.ENOSPC, True, "no_space"),
        (errno.EDQUOT, False, "no_space"),
        (errno.EACCES, False, "denied"),
        (errno.EROFS, False, "denied"),
        (errno.EEXIST, False, "moved"),
        (errno.EOPNOTSUPP, False, "unsupported"),
        (errno.ENOENT, True, "not_found"),
        (errno.EIO, True, "unreadable"),
    ],
)
def test_errno_to_code(number: int, tenant: bool, expected: str) -> None:
    error = openat2.refused(OSError(number, os.strerror(number)), "/some/where", tenant)
    assert error.code == expected and "/some/where" in error.message and error.details["errno"] == number


# -- the walk ----------------------------------------------------------------------------------------------------------


def test_parents_are_opened_once_and_closed_at_the_end(arena: str) -> None:
    make(arena + "/d")
    with Walk() as walk:
        first = walk.parent(arena + "/d/1")
        held = len(fds())
        for n in range(50):
            assert walk.parent("%s/d/%d" % (arena, n))[0] == first[0]
        assert len(fds()) == held
        assert first[1:] == (b"1", True)
        assert os.path.samestat(os.fstat(first[0]), os.stat(arena + "/d"))
        assert walk.parent("/")[1] == b"." and os.path.samestat(os.fstat(walk.parent("/")[0]), os.stat("/"))


def test_thousands_of_parents_do_not_use_up_the_descriptors(arena: str) -> None:
    for n in range(600):
        make("%s/%d" % (arena, n))
    with Walk() as walk:
        most = 0
        for n in range(600):
            fd = walk.parent("%s/%d/x" % (arena, n))[0]
            assert os.path.samestat(os.fstat(fd), os.stat("%s/%d" % (arena, n)))
            most = max(most, len(fds()))
        assert most < 400
        os.close(walk.open(arena + "/5", os.O_PATH))


def test_open_makes_a_file_of_the_given_mode(arena: str) -> None:
    with Walk() as walk:
        os.close(walk.open(arena + "/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with pytest.raises(StorageError) as exc:
            walk.open(arena + "/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    assert exc.value.code == "moved"
    assert subprocess.check_output(["stat", "-c", "%a", arena + "/f"]) == b"600\n"


def test_what_a_program_shows_is_not_trusted_however_much_it_claims_to_be_roots(arena: str) -> None:
    make(arena + "/f")
    with mounted(arena + "/f", 0):
        seen = os.stat(arena + "/f")
        assert (seen.st_uid, seen.st_mode & 0o777) == (0, 0o755)
        assert (
            os.path.samefile(arena + "/f/link", "/etc")
            and os.stat(arena + "/f/link", follow_symlinks=False).st_uid == 0
        )
        assert not trusted(arena + "/f/x")
        assert not trusted(arena + "/f/dir/x")
        assert code(arena + "/f/dir") == "ok"
        assert code(arena + "/f/link") == "unsafe_path"
        assert code(arena + "/f/link/passwd") == "unsafe_path"
