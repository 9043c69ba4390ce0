# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import stat
import subprocess
import sys

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import KEPT, Journal
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

ACTIONS = [{"kind": "tmpfs", "target": "/a\n\u2028é\udcff", "after": {"size": 1}}, {"kind": "mount", "target": "/b"}]


@pytest.fixture
def journal(arena):
    return Journal(arena + "/lib/bulkhead/journal")


def lines(path):
    with open(path, "rb") as f:
        return f.read().split(b"\n")


def test_whole_plan_before_the_first_step(journal):
    path = journal.begin(ACTIONS, "abc")
    assert len(lines(path)) == 4 and lines(path)[-1] == b""
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{8}\.jsonl", os.path.basename(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    journal.step(0, "done", False)
    (open_one,) = journal.unfinished()
    assert open_one["digest"] == "abc" and open_one["actions"] == ACTIONS and open_one["end"] is None
    assert [row["outcome"] for row in open_one["steps"]] == ["done"]
    journal.end({"applied": 2})
    assert journal.unfinished() == []
    assert journal.last()["end"] == {"applied": 2} and journal.last()["path"] == path


def test_nothing_there(journal):
    assert journal.last() is None and journal.unfinished() == []
    assert not os.path.exists(journal.base)


def test_torn_last_line(journal):
    path = journal.begin(ACTIONS, "abc")
    journal.step(0, "done", False)
    whole = os.path.getsize(path)
    journal.end({"applied": 2})
    for size in (whole + 1, whole + 5, os.path.getsize(path) - 2, whole - 1, whole - 9):
        with open(path, "r+b") as f:
            f.truncate(size)
        found = journal.last()
        assert found["actions"] == ACTIONS and found["end"] is None
        assert len(found["steps"]) == (1 if size >= whole else 0) or size == whole - 1
    with open(path, "ab") as f:
        f.write(b'\xff\n{"end": {"applied": 1}}\n')
    assert journal.last()["end"] == {"applied": 1}
    with open(path, "wb"):
        pass
    assert journal.last()["actions"] == []


def test_keeps_the_newest(journal):
    os.makedirs(journal.base, 0o700)
    os.chmod(os.path.dirname(journal.base), 0o700)
    old = ["20200101T000000.%06d-00000000.jsonl" % n for n in range(KEPT + 5)]
    for name in [*old, "note.txt", "20200101T000000.jsonl"]:
        open(os.path.join(journal.base, name), "w").close()
    path = journal.begin([], "x")
    journal.end({})
    left = set(os.listdir(journal.base))
    assert left == {*old[6:], "note.txt", "20200101T000000.jsonl", os.path.basename(path)}


def test_sorts_by_time(journal):
    paths = []
    for number in range(5):
        paths.append(journal.begin([], str(number)))
        journal.end({})
    assert paths == sorted(paths) and len(set(paths)) == 5


def test_plan_is_synced_once_and_steps_only_when_asked(arena):
    code = (
        "import sys; from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal\n"
        "j = Journal(sys.argv[1] + '/j/j'); j.begin([{'a': 1}] * 500, 'd')\n"
        "[j.step(n, 'done', False) for n in range(9)]; j.step(9, 'begin', True); j.end({})"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    trace = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o", arena + "/trace"]
    subprocess.check_call([*trace, sys.executable, "-B", "-c", code, arena], env=env)
    with open(arena + "/trace") as f:
        calls = [line for line in f if arena in line]
    synced = [line for line in calls if "sync(" in line]
    assert len(synced) == 3 and ".jsonl" in synced[0] and ".jsonl" not in synced[1] and ".jsonl" in synced[2]
    assert "write(" in calls[0] and calls[1] == synced[0] and calls[2] == synced[1]


def test_full_disk_refuses_before_the_first_put(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=16k", "x", arena + "/small"])
    journal = Journal(arena + "/small/a/j")
    with pytest.raises(StorageError) as caught:
        journal.begin([{"a": "x" * 100}] * 1000, "d")
    assert caught.value.code == "no_space"


def test_full_disk_later_stops_only_what_must_be_synced(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=16k", "x", arena + "/small"])
    journal = Journal(arena + "/small/a/j")
    journal.begin([], "d")
    with open(arena + "/small/fill", "wb", buffering=0) as f, pytest.raises(OSError):
        for _row in range(99):
            f.write(b"x" * 4096)
    for number in range(200):
        journal.step(number, "done", False)
    assert "space" in journal.broken
    with pytest.raises(StorageError) as caught:
        journal.step(200, "begin", True)
    assert caught.value.code == "no_space"
    journal.end({})
    os.unlink(arena + "/small/fill")
    assert journal.last()["steps"][0]["step"] == 0


REMOVES = [{"kind": "tmpfs", "target": "/a", "before": {}, "after": None}]


def test_full_disk_holds_up_no_plan_that_only_removes(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=16k", "x", arena + "/small"])
    os.makedirs(arena + "/small/a/j", 0o700)
    os.chmod(arena + "/small/a", 0o700)
    with open(arena + "/small/fill", "wb", buffering=0) as f, pytest.raises(OSError):
        for _row in range(99):
            f.write(b"x" * 4096)
    journal = Journal(arena + "/small/a/j")
    for some in (ACTIONS, [*REMOVES, ACTIONS[0]], []):
        with pytest.raises(StorageError) as caught:
            journal.begin(some, "d")
        assert caught.value.code == "no_space" and os.listdir(journal.base) == []
    assert journal.begin(REMOVES, "d") == "" and "space" in journal.broken
    journal.step(0, "begin", True)
    journal.end({})
    assert os.listdir(journal.base) == [] and journal.last() is None


def test_full_disk_later_holds_up_no_plan_that_only_removes(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=16k", "x", arena + "/small"])
    journal = Journal(arena + "/small/a/j")
    assert journal.begin(REMOVES, "d") and journal.broken == ""
    with open(arena + "/small/fill", "wb", buffering=0) as f, pytest.raises(OSError):
        for _row in range(99):
            f.write(b"x" * 4096)
    for number in range(200):
        journal.step(number, "begin", True)
    assert "space" in journal.broken
    journal.end({})


def test_only_a_full_disk_is_passed_over(arena):
    os.mkdir(arena + "/j", 0o700)
    os.chown(arena + "/j", 1000, 1000)
    with pytest.raises(StorageError) as caught:
        Journal(arena + "/j").begin(REMOVES, "d")
    assert caught.value.code == "unsafe_path"


def test_read_only_refuses_before_the_first_put(arena):
    os.makedirs(arena + "/m")
    subprocess.check_call(["mount", "-t", "tmpfs", "x", arena + "/m"])
    Journal(arena + "/m/a/j").begin([], "d")
    subprocess.check_call(["mount", "-o", "bind", arena + "/m", arena + "/m"])
    subprocess.check_call(["mount", "-o", "remount,bind,ro", arena + "/m"])
    with pytest.raises(StorageError) as caught:
        Journal(arena + "/m/a/j").begin([], "d")
    assert caught.value.code == "denied"


def test_no_descriptor_is_left(journal):
    before = len(os.listdir("/proc/self/fd"))
    journal.begin([], "d")
    journal.end({})
    assert len(os.listdir("/proc/self/fd")) == before


def test_unsafe_folder(arena):
    os.mkdir(arena + "/j", 0o700)
    os.chown(arena + "/j", 1000, 1000)
    with pytest.raises(StorageError) as caught:
        Journal(arena + "/j").begin([], "d")
    assert caught.value.code == "unsafe_path"
