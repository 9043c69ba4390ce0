# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

HOLD = """
import sys, time
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
with Lock(base=sys.argv[1], what=sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""
# Two of these must never be inside together: each enters by making a directory that only one can make.
RACE = """
import os, sys
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
base, rounds = sys.argv[1], int(sys.argv[2])
for _ in range(rounds):
    with Lock(base=base + "/run", timeout=60):
        os.mkdir(base + "/inside")
        os.rmdir(base + "/inside")
        if sys.argv[3] == "unlinking":
            os.unlink(base + "/run/host.lock")
"""


def start(code, *argv):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    return subprocess.Popen([sys.executable, "-B", "-c", code, *argv], stdout=subprocess.PIPE, env=env)


@pytest.fixture
def holder(arena):
    process = start(HOLD, arena + "/run/bulkhead", "a play\n\x1b[31m")
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def error_of(call, *args, **kwargs):
    with pytest.raises(StorageError) as caught:
        call(*args, **kwargs)
    return caught.value


def enter(*args, **kwargs):
    with Lock(*args, **kwargs):
        pass


def test_holder_is_named(arena, holder):
    start_time = time.monotonic()
    error = error_of(enter, base=arena + "/run/bulkhead", timeout=0.3)
    assert 0.25 < time.monotonic() - start_time < 5
    assert error.code == "locked"
    assert error.details["pid"] == holder.pid
    assert error.details["what"] == "a play\\n\\x1b[31m" and "\x1b" not in str(error)
    assert error.details["since"].startswith("20") and error.details["since"].endswith("Z")


def test_zero_timeout_tries_once(arena, holder):
    assert error_of(enter, base=arena + "/run/bulkhead", timeout=0).code == "locked"


def test_killed_holder_frees_it_and_its_text_does_not_mislead(arena, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    path = arena + "/run/bulkhead/host.lock"
    with open(path) as f:
        assert f.read().startswith("%d " % holder.pid)  # left behind
    with Lock(base=arena + "/run/bulkhead", timeout=0), open(path) as f:
        assert f.read().split()[0] == str(os.getpid())
    # held by somebody who has not written: the dead process is not blamed
    with open(path, "r+") as f:
        f.write("%d 2020-01-01T00:00:00Z gone" % holder.pid)
        f.flush()
        fcntl.flock(f, fcntl.LOCK_EX)
        error = error_of(enter, base=arena + "/run/bulkhead", timeout=0)
    assert error.code == "locked" and "no name" in error.message and "pid" not in error.details


def test_longer_text_of_a_killed_holder_is_overwritten(arena):
    enter(base=arena + "/b")
    with open(arena + "/b/host.lock", "w") as f:
        f.write("x" * 400)
    with Lock(base=arena + "/b", what="me") as lock, open(lock.path) as f:
        assert f.read().split()[0::2] == [str(os.getpid()), "me"]


def test_text_is_gone_after_release(arena):
    enter(base=arena + "/run/bulkhead")
    assert os.stat(arena + "/run/bulkhead/host.lock").st_size == 0


def test_modes_and_missing_parents(arena):
    old = os.umask(0)
    try:
        with Lock("ceph:1/2", base=arena + "/no/run/bulkhead") as lock:
            out = subprocess.check_output(["stat", "-c", "%a %U", arena + "/no/run/bulkhead", lock.path])
            assert out == b"700 root\n600 root\n"
            assert os.path.dirname(lock.path) == arena + "/no/run/bulkhead"
            assert not os.get_inheritable(lock._fd)
    finally:
        os.umask(old)


def test_other_names_are_other_locks(arena):
    with Lock("a/b", base=arena + "/r"), Lock("a%2fb", base=arena + "/r"), Lock("a_b", base=arena + "/r"):
        assert len(os.listdir(arena + "/r")) == 3


@pytest.mark.parametrize("what", ["owner", "group", "other", "link", "file"])
def test_unsafe_base_is_refused(arena, what):
    base = arena + "/b"
    if what == "link":
        os.mkdir(arena + "/real", 0o700)
        os.symlink(arena + "/real", base)
    elif what == "file":
        open(base, "w").close()
    else:
        os.mkdir(base, 0o700)
        os.chmod(base, {"group": 0o720, "other": 0o702}.get(what, 0o700))
        os.chown(base, 1000 if what == "owner" else 0, 0)
    assert error_of(enter, base=base).code == "unsafe_path"


def test_what_is_unsafe_is_seen_before_anything_is_made(arena):
    os.mkdir(arena + "/good", 0o700)
    os.mkdir(arena + "/theirs", 0o700)
    os.chown(arena + "/theirs", 1000, 0)
    os.symlink(arena + "/good", arena + "/link")
    open(arena + "/file", "w").close()
    names = ("good", "missing", "missing/deeper", "theirs", "link", "file", "file/deeper")
    found = Lock().unready([arena + "/" + name for name in names])
    assert [(e.code, e.message.split(" is ")[0].replace(arena, "")) for e in found[:3]] == [
        ("unsafe_path", "/theirs"), ("unsafe_path", "/link"), ("unsafe_path", "/file")
    ]  # fmt: skip
    assert len(found) == 4 and "cannot look at" in found[3].message
    assert sorted(os.listdir(arena)) == ["file", "good", "link", "theirs"]


def test_lock_file_that_is_a_link_is_refused(arena):
    os.mkdir(arena + "/b", 0o700)
    os.symlink(arena + "/victim", arena + "/b/host.lock")
    assert error_of(enter, base=arena + "/b").code == "unsafe_path"
    assert not os.path.exists(arena + "/victim")


def test_deleted_lock_file_never_gives_two_holders(arena):
    """A28: a waiter that opened the old file must not take it for the lock."""
    base = arena + "/b"
    with Lock(base=base) as lock:
        stale = os.open(lock.path, os.O_RDWR)
        os.unlink(lock.path)
        os.close(os.open(lock.path, os.O_CREAT | os.O_RDWR, 0o600))
    fcntl.flock(stale, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the old inode guards nothing
    enter(base=base, timeout=0)
    os.close(stale)


@pytest.mark.parametrize("how", ["plain", "unlinking"])
def test_racing_processes_are_never_both_inside(arena, how):
    rounds = 40
    racers = [start(RACE, arena, str(rounds), how) for _racer in range(3)]
    assert [racer.wait(120) for racer in racers] == [0, 0, 0]


def test_read_only_place_is_denied(arena):
    os.mkdir(arena + "/ro")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "ro", "x", arena + "/ro"])
    assert error_of(enter, base=arena + "/ro/b").code == "denied"


def test_full_place_takes_the_name_not_the_lock(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=4k", "x", arena + "/small"])
    enter(base=arena + "/small/b")
    with open(arena + "/small/fill", "wb", buffering=0) as f:
        f.write(b"x" * 4096)
    with Lock(base=arena + "/small/b"):
        error = error_of(enter, base=arena + "/small/b", timeout=0)
    assert error.code == "locked" and "no name" in error.message
    enter(base=arena + "/small/b", timeout=0)


def test_details_are_plain(arena, holder):
    json.dumps(error_of(enter, base=arena + "/run/bulkhead", timeout=0).as_dict())


def test_who_only_looks_waits_for_the_holder_and_leaves_no_trace(arena, holder):
    base = arena + "/run/bulkhead"
    shared = Lock(base=base, timeout=0.2, shared=True)
    error = error_of(shared.__enter__)
    assert error.code == "locked" and str(holder.pid) in error.message
    holder.kill()
    holder.wait()
    before = os.stat(base), os.stat(base + "/host.lock")
    with shared, Lock(base=base, timeout=0, shared=True):
        assert error_of(Lock(base=base, timeout=0).__enter__).code == "locked"
    assert (os.stat(base), os.stat(base + "/host.lock")) == before
    with Lock(base=base, timeout=0):
        pass


def test_without_a_file_nobody_is_at_work(arena):
    for base in (arena + "/none", arena):
        with Lock(base=base, timeout=0, shared=True):
            assert os.listdir(arena) == []
