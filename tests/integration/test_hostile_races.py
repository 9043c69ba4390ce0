# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tenants that race root: names exchanged while they are changed and removed, locks that are replaced.

Each attack first wins against what a careful person writes by paths, then meets the engine doing the same.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import attack, module

APPLICATIONS = 100000  # of A1, in both places together
TENANT, OTHER = attack.TENANT, attack.OTHER


@pytest.fixture(scope="module", autouse=True)
def sysctls(attacked: None) -> None:
    print(attack.sysctls())


@pytest.mark.parametrize("target", ["data", "data/deep"])
def test_a01_rights_of_a_name_that_is_a_link_every_other_moment(theirs: str, target: str) -> None:
    attack.make(attack.make(theirs + "/data") + "/deep")
    path, victim = theirs + "/" + target, "/srv/victim"

    def by_islink() -> None:
        if not os.path.islink(theirs + "/data"):
            os.chown(path, TENANT, TENANT)

    def by_realpath() -> None:
        real = os.path.realpath(path)
        if real.startswith(theirs + "/"):
            os.chmod(real, 0o777)

    def times() -> list[int]:
        return [os.lstat(each).st_ctime_ns for each in (victim, victim + "/deep")]

    port = Node()
    wanted: list[dict[str, Any]] = [
        {"owner": TENANT, "group": TENANT, "mode": 0o700, "acl": ["u:5:rwx"], "default_acl": []},
        {"owner": OTHER, "group": OTHER, "mode": 0o2777, "acl": [], "default_acl": ["u:6:rwx"]},
    ]
    looks = [port.resolve(path, {"type": "directory", **each}) for each in wanted]
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(theirs + "/data", theirs + "/link")) as them:
        naive = attack.lost(by_islink, times), attack.lost(by_realpath, times)
        before = attack.picture(victim)
        for index in itertools.count():
            few = min(outcomes["ok"], outcomes["unsafe_path"]) <= 1000  # the scheduler may favour one of the two
            if index >= APPLICATIONS // 2 and (not few or index >= 4 * APPLICATIONS):
                break
            code = "ok"
            try:
                found = port.scan([path]).get(path)
                if isinstance(found, StorageError):
                    raise found
                port.put(path, found, port.merge(path, found, looks[index % 2]))  # type: ignore[arg-type]
            except StorageError as error:
                code = error.code
            outcomes[code] += 1
        whole: Counter[str] = Counter()
        for index in range(400):
            entry = {**wanted[index % 2], "path": target, "owner": str(wanted[index % 2]["owner"])}
            entry["group"] = entry["owner"]
            whole[attack.engine({"trees": [{"root": theirs, "entries": [entry]}]}, quick=bool(index % 4))["code"]] += 1
        for index in range(3):
            answer = module.run("tree", {"root": theirs, "entries": [{"path": target, "mode": "070%d" % index}]})
            whole[answer.result.get("code", "ok")] += 1
        exchanges = them.count
    assert attack.picture(victim) == before
    line = "A1 %s: %d applications (%s), %d runs (%s), %d exchanges, naive lost %d of %d and %d of %d, ours 0"
    counts = outcomes.total(), attack.told(outcomes), whole.total(), attack.told(whole), exchanges
    print(line % (target, *counts, *naive[0][::-1], *naive[1][::-1]))
    assert naive[0][1] and naive[1][1], "the attack is none"
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved"} and min(outcomes["ok"], outcomes["unsafe_path"]) > 1000
    assert whole.keys() <= {"ok", "unsafe_path", "moved", "did_not_settle"} and whole["unsafe_path"], whole


def test_a01_a_directory_made_beneath_such_a_name(theirs: str) -> None:
    attack.make(theirs + "/data")
    path, victim = theirs + "/data/new", "/srv/victim"

    def by_makedirs() -> None:
        if os.path.realpath(theirs + "/data") == theirs + "/data":
            os.makedirs(path, exist_ok=True)
            os.chown(path, TENANT, TENANT)

    made = 0

    def in_victim() -> int:
        nonlocal made
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(victim + "/new")
            made += 1
        return made

    document = {"trees": [{"root": theirs, "entries": [{"path": "data/new", "owner": str(TENANT), "mode": "0777"}]}]}
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(theirs + "/data", theirs + "/link")) as them:
        naive = attack.lost(by_makedirs, in_victim)
        before = attack.picture(victim)
        end = time.monotonic() + 2
        while outcomes.total() < 1000 or time.monotonic() < end:
            outcomes[attack.engine(document, quick=True)["code"]] += 1
            with contextlib.suppress(OSError):
                fd = os.open(theirs + "/data", os.O_RDONLY | os.O_NOFOLLOW)
                with contextlib.suppress(OSError):
                    os.rmdir("new", dir_fd=fd)
                os.close(fd)
        exchanges = them.count
    assert attack.picture(victim) == before
    line = "A1 made: %d runs (%s), %d exchanges, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[::-1]))
    assert naive[1] and outcomes["ok"] and outcomes["unsafe_path"]
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved", "did_not_settle", "not_found"}, outcomes


def test_a02_a_directory_that_becomes_a_link_while_it_is_removed(theirs: str) -> None:
    """The name, and a name in it that the tenant exchanges by a descriptor it has kept."""
    path, victim = theirs + "/data", "/srv/victim"
    renameat2 = attack.libc.renameat2

    outside = attack.exchange(path, theirs + "/link")

    def act() -> None:
        if os.path.islink(path):
            outside()
        elif not os.path.islink(theirs + "/link"):  # a careless root has removed the link instead
            subprocess.run(["rm", "-rf", theirs + "/link"], check=False)
            os.symlink("../victim", theirs + "/link")
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir("sub", dir_fd=fd)
                os.symlink("../../victim/deep", "away", dir_fd=fd)
            for index in range(9):
                os.close(os.open("f%d" % index, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, dir_fd=fd))
                renameat2(fd, b"sub", fd, b"away", 2)
                outside()
        finally:
            os.close(fd)

    def by_path(top: str) -> None:
        if os.path.islink(top):
            os.unlink(top)
            return
        for name in os.listdir(top):
            inner = os.path.join(top, name)
            by_path(inner) if os.path.isdir(inner) and not os.path.islink(inner) else os.unlink(inner)
        os.rmdir(top)

    def naive() -> None:
        if not os.path.islink(path):
            by_path(path)

    fallen = 0

    def generation() -> int:
        """Put up again what has fallen, and count."""
        nonlocal fallen
        if not os.path.exists(victim + "/deep/precious"):
            fallen += 1
            os.makedirs(victim + "/deep", exist_ok=True)
            attack.write(victim + "/deep/precious", uid=0)
        return fallen

    outcomes: Counter[str] = Counter()
    removed = 0
    with attack.tenant(act) as them:
        beaten = attack.lost(naive, generation, 20)
        before = attack.picture(victim)
        end = time.monotonic() + 4
        document = {"trees": [{"root": theirs, "confirm": theirs, "entries": [{"path": "data", "type": "absent"}]}]}
        while outcomes.total() < 1000 or time.monotonic() < end:
            answer = attack.engine(document, quick=True)
            outcomes[answer["code"]] += 1
            removed += answer["summary"].get("applied", 0)
        exchanges = them.count
    assert attack.picture(victim) == before
    line = "A2: %d removals (%s; %d did remove), %d rounds of the tenant, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), removed, exchanges, *beaten[::-1]))
    assert beaten[1] and removed > 20 and outcomes["unsafe_path"]


def overlaps(enter: Callable[[], Any], rounds: int) -> int:
    """How often two of three processes were inside at the same time."""
    shared = mmap.mmap(-1, 64)
    children = []
    for place in range(3):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                for _round in range(rounds):
                    with enter():
                        shared[place] = 1
                        time.sleep(0.0005)
                        if sum(shared[:3]) > 1:
                            count = struct.unpack_from("=Q", shared, 8 + 8 * place)[0]
                            struct.pack_into("=Q", shared, 8 + 8 * place, count + 1)
                        shared[place] = 0
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    return sum(struct.unpack_from("=QQQ", shared, 8))


def test_a28_a_lock_file_that_is_deleted_and_replaced() -> None:
    """Where a tenant may, no lock file can hold: ours is not used there. Where only root may, somebody tidies up."""
    open_to_all, ours_alone = attack.make("/srv/locks", 0, 0o777), "/run/bulkhead/made"

    @contextlib.contextmanager
    def by_flock() -> Iterator[None]:
        with open(open_to_all + "/host.lock", "a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def replace() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(open_to_all + "/host.lock")
        time.sleep(0.0002)

    @contextlib.contextmanager
    def tidy_by_flock() -> Iterator[None]:
        with open(ours_alone + "/naive.lock", "a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ours_alone + "/naive.lock")

    class Eager(Lock):
        """Without the pause between two tries, which makes the moment that matters rare."""

        def __enter__(self) -> Lock:
            while not self._try():
                pass
            return self

    @contextlib.contextmanager
    def tidy() -> Iterator[None]:
        with Eager(base=ours_alone):
            yield
            os.unlink(ours_alone + "/host.lock")

    with attack.tenant(replace) as them:
        stolen = overlaps(by_flock, 100)
        with pytest.raises(StorageError) as refused:
            Lock("host", base=open_to_all, timeout=0).__enter__()
        replaced = them.count
    subprocess.run(["rm", "-rf", open_to_all], check=True)
    assert refused.value.code == "unsafe_path"
    with Lock(base=ours_alone):
        about = os.stat(ours_alone)
        assert (about.st_uid, about.st_mode & 0o777) == (0, 0o700)
        denied = errno.EACCES
        assert attack.once(lambda: os.unlink(ours_alone + "/host.lock")) == denied
        assert attack.once(lambda: os.rename(ours_alone, "/run/bulkhead/other")) == denied
        assert attack.once(lambda: os.close(os.open(ours_alone + "/host.lock", os.O_RDONLY))) == denied
    naive, ours = overlaps(tidy_by_flock, 100), overlaps(tidy, 200)
    line = "A28: %d replacements, naive two at once %d of 300; deleted by the holder: naive %d of 300, ours %d of 600"
    print(line % (replaced, stolen, naive, ours))
    assert stolen and naive and not ours


def test_no_attacker_outlives_a_test_that_is_killed() -> None:
    code = "import os, sys, time\nfrom ansible_collections.bulkhead.storage.tests.support import attack\n"
    code += "for spaces in (False, True):\n"
    code += "    them = attack.Attacker()\n    them.start(lambda: time.sleep(0.01), 1000, spaces)\n"
    code += "    print(them.pid, flush=True)\ntime.sleep(60)\n"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        pids = [int(child.stdout.readline()) for _each in range(2)]
        time.sleep(0.3)
        uids = [os.stat("/proc/%d" % pid).st_uid for pid in pids]
        child.send_signal(signal.SIGKILL)
    assert uids == [TENANT, TENANT]
    end = time.monotonic() + 10
    while any(os.path.exists("/proc/%d" % pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a01_a_table_that_is_a_link_every_other_moment_gives_nobodys_rights(theirs: str) -> None:
    """What replaces a file has its owner and mode: those of the file, not of what a link in its place leads to."""
    path, link, tool = theirs + "/table", theirs + "/other", "/srv/victim/tool"
    attack.write(tool, uid=0)
    os.chmod(tool, 0o4711)

    def plant() -> None:
        for name in (path, link):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        attack.write(path)
        os.symlink("../victim/tool", link)

    def by_path() -> bool:
        return not os.path.islink(path) and bool(os.stat(path).st_mode & stat.S_ISUID)

    def given() -> bool:
        found = [os.lstat(theirs + "/" + name) for name in os.listdir(theirs)]
        return any(stat.S_ISREG(seen.st_mode) and (seen.st_mode & stat.S_ISUID or not seen.st_uid) for seen in found)

    plant()
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + 4
    with attack.tenant(attack.exchange(path, link)) as them:
        naive = sum(by_path() for _try in range(20000))
        while time.monotonic() < end:
            try:
                atomic.replace(path, b"ours")
                outcomes["ok"] += 1
            except StorageError as error:
                outcomes[error.code] += 1
            assert not given(), outcomes
            if not any(os.path.islink(name) for name in (path, link)):
                plant()
        exchanges = them.count
    line = "A1 table: %d replacements (%s), %d exchanges, naive lost %d of 20000, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, naive))
    assert naive and outcomes["ok"] > 20 and outcomes["unsafe_path"] > 20
