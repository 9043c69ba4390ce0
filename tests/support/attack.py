# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real attackers: processes of a tenant that repeat something hostile, and the engine that works beside them.

with attack.tenant(attack.exchange(one, two)) as them:
    attack.engine(document)
assert them.count
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import time
import traceback
from collections import Counter
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.tests.support import host as hosts

TENANT, OTHER = 1000, 1001
LONGEST = 120  # seconds an attacker lives, should everything else fail
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _NEWNS, _NEWUSER, _EXCHANGE = 1, 4, 0x00020000, 0x10000000, 2
_DETACH, _NOFOLLOW = 2, 8
libc = ctypes.CDLL(None, use_errno=True)


def sysctls() -> str:
    """What this host does against such attacks by itself, in one line."""
    words = []
    for name in ("fs/protected_symlinks", "fs/protected_hardlinks", "fs/protected_fifos", "user/max_user_namespaces"):
        with open("/proc/sys/" + name, encoding="ascii") as stream:
            words.append("%s=%s" % (name.rpartition("/")[2], stream.read().strip()))
    return " ".join(words)


def become(uid: int, namespaces: bool = False) -> None:
    """This process is somebody else's from now on, and dies with the one that made it."""
    parent = os.getppid()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user would forget it
    if namespaces:
        libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self would be root's
        if libc.unshare(_NEWUSER | _NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (("setgroups", b"deny"), ("uid_map", b"0 %d 1" % uid), ("gid_map", b"0 %d 1" % uid)):
            with open("/proc/self/" + name, "wb") as stream:  # a codec might lie where only root may read
                stream.write(text)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    signal.alarm(LONGEST)


class Attacker:
    """A process of a tenant; ``count`` is how often it has done what it does."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 16)
        self.pid = 0

    @property
    def count(self) -> int:
        return int(struct.unpack_from("=Q", self._shared)[0])

    @property
    def errno(self) -> int:
        return int(struct.unpack_from("=Q", self._shared, 8)[0])

    def start(self, act: Callable[[], object], uid: int, namespaces: bool) -> None:
        self.pid = os.fork()
        if not self.pid:
            try:
                become(uid, namespaces)
                done = 0
                while True:
                    try:
                        act()
                    except OSError as error:
                        struct.pack_into("=Q", self._shared, 8, error.errno or 0)
                        continue
                    done += 1
                    struct.pack_into("=Q", self._shared, 0, done)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """They do nothing meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def tenant(act: Callable[[], object], uid: int = TENANT, namespaces: bool = False) -> Iterator[Attacker]:
    """A tenant repeats ``act`` until the end of the block, in a user and mount namespace of its own if asked to."""
    them = Attacker()
    them.start(act, uid, namespaces)
    try:
        deadline = time.monotonic() + 10
        while not them.count:
            assert time.monotonic() < deadline, "the attacker does not get to work: %s" % os.strerror(them.errno)
            time.sleep(0.001)
        yield them
    finally:
        them.end()


def once(act: Callable[[], object], uid: int = TENANT) -> int:
    """What a tenant does once; 0, or the errno it met."""
    child = os.fork()
    if not child:
        code = 255
        try:
            become(uid)
            act()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def exchange(one: str, two: str) -> Callable[[], None]:
    """Two names change places in one step, and again: renameat2(2)."""
    a, b = os.fsencode(one), os.fsencode(two)

    def act() -> None:
        if libc.renameat2(-100, a, -100, b, _EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")

    return act


def make(path: str, uid: int = TENANT, mode: int = 0o755) -> str:
    os.mkdir(path)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


def write(path: str, data: bytes = b"x", uid: int = TENANT, mode: int = 0o644) -> str:
    with open(path, "wb") as stream:
        stream.write(data)
    os.chown(path, uid, uid)
    os.chmod(path, mode)
    return path


@contextlib.contextmanager
def territory() -> Iterator[str]:
    """A tenant's own directory, with a link of the tenant to root's ``/srv/victim``, which leaves no mount."""
    top, victim = make("/srv/blue"), make("/srv/victim", 0)
    write(make(victim + "/deep", 0) + "/precious", uid=0)
    os.symlink("../victim", top + "/link")
    os.lchown(top + "/link", TENANT, TENANT)
    try:
        yield top
    finally:
        taken_down(top)
        subprocess.run(["rm", "-rf", top, victim], check=True)


@pytest.fixture(scope="module")
def attacked(private_mounts: None) -> Iterator[None]:
    """The host that all attacks of a file are made on."""
    with hosts.host():
        yield


@pytest.fixture
def theirs(attacked: None) -> Iterator[str]:
    with territory() as path:
        yield path


def lost(act: Callable[[], object], victim: Callable[[], object], seconds: float = 10.0) -> tuple[int, int]:
    """How often a naive act was tried, and how often the victim was another afterwards; three are enough."""
    tries = count = 0
    end = time.monotonic() + seconds
    before = victim()
    while count < 3 and time.monotonic() < end:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            act()
        tries += 1
        now = victim()
        count, before = count + (now != before), now
    return tries, count


def taken_down(beneath: str) -> int:
    """Unmount what is mounted at or beneath a path, wherever the tenant has moved it; how much it was."""
    count = 0
    for _try in range(10000):
        points = mounted(beneath)
        if not points:
            return count
        for point in reversed(points):
            count += libc.umount2(os.fsencode(point), _DETACH | _NOFOLLOW) == 0
    raise AssertionError("mounts cannot be taken down: %s" % mounted(beneath))


def picture(top: str) -> dict[str, Any]:
    """All that stands at and beneath a path; a change that was taken back is seen too, by the time of the change."""
    paths = [top] + [os.path.join(at, name) for at, folders, files in os.walk(top) for name in (*folders, *files)]
    seen = {}
    for path in paths:
        about = os.lstat(path)
        keys = [] if os.path.islink(path) else sorted(os.listxattr(path))
        rights = about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_size, about.st_ctime_ns
        seen[path] = (*rights, [(key, os.getxattr(path, key)) for key in keys])
    return seen


def mounted(beneath: str) -> list[str]:
    """Mount points at or beneath a path, as the kernel writes them."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        points = [line.split(" ")[4] for line in stream]
    return [point for point in points if point == beneath or point.startswith(beneath + "/")]


def engine(document: dict[str, Any], check: bool = False, quick: bool = False) -> dict[str, Any]:
    """The engine with the real adapters in this process; ``quick``: without lock and journal, for many runs."""
    # Ansible, which a guest of the lab does not have
    from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell

    entries, errors = _kinds.entries(document, {"allow_unstable_device": False}, set())
    ports = _kinds.ports([name for name in _kinds.LISTS if document.get(name)])
    held: dict[str, Any] = {} if quick else {"lock": lambda: _shell._lock(30), "journal": Journal}
    options = reconcile.Options(check=check, workers=1, **held)
    try:
        report = reconcile.fulfil(entries, errors, ports, options)
    except Refusals as refused:
        found = [error.as_dict() for error in refused.errors]
    except StorageError as error:
        found = [error.as_dict()]
    else:
        found = [error.as_dict() for error in report.errors]
        return {"errors": found, "code": found[0]["code"] if found else "ok", "summary": report.summary}
    return {"errors": found, "code": found[0]["code"], "summary": {}}


def told(outcomes: Counter[str]) -> str:
    return ", ".join("%d %s" % (count, code) for code, count in outcomes.most_common())
