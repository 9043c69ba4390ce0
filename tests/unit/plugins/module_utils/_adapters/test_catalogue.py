# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import catalogue
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, state_of
from ansible_collections.bulkhead.storage.tests.support import namespace

VOLUME = ("volume", "default/data")


@pytest.fixture
def record(arena):
    return Record(arena + "/lib/bulkhead", timeout=5)


def code_of(call, *args):
    with pytest.raises(StorageError) as caught:
        call(*args)
    return caught.value.code


def outside(record, query, *args):
    db = sqlite3.connect(record.path)
    try:
        return db.execute(query, args).fetchall()
    finally:
        db.close()


def start(code, *argv):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    head = "import sys\nfrom ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import *\n"
    return subprocess.Popen([sys.executable, "-B", "-c", head + code, *argv], env=env, stdout=subprocess.PIPE)


def test_put_scan_change_remove(record):
    record.put(VOLUME, None, record.merge(VOLUME, None, {"size": 5, "pool": "default", "labels": {"a": "é"}}))
    ((text,),) = outside(record, "SELECT value FROM rows WHERE kind = 'volume' AND key = 'default/data'")
    row = json.loads(text)
    assert row["size"] == 5 and row["labels"] == {"a": "é"}
    assert re.fullmatch("[0-9a-f]{32}", row["id"]) and re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["created_at"]
    )
    now = record.scan([VOLUME, ("volume", "no")])
    assert list(now) == [VOLUME] and state_of(now[VOLUME]) == row and now[VOLUME]["_rev"] == 1
    after = record.merge(VOLUME, now[VOLUME], {"size": 7})
    record.put(VOLUME, now[VOLUME], after)
    again = record.scan(None)[VOLUME]
    assert again["size"] == 7 and again["id"] == row["id"] and again["created_at"] == row["created_at"]
    assert again["_rev"] == 2
    record.put(VOLUME, after, None)
    assert record.scan(None) == {} and outside(record, "SELECT * FROM rows") == []
    record.put(VOLUME, None, row)  # undo of a removal: the same volume comes back
    assert state_of(record.scan([VOLUME])[VOLUME]) == row


def test_change_without_the_id_keeps_it(record):
    record.put(VOLUME, None, {"size": 1})
    now = record.scan([VOLUME])[VOLUME]
    record.put(VOLUME, now, {"size": 2})
    assert record.scan([VOLUME])[VOLUME]["id"] == now["id"]


def test_undo_of_a_creation_whose_id_was_unknown(record):
    after = record.merge(VOLUME, None, {"size": 1})
    assert after["id"] is UNKNOWN and after["created_at"] is UNKNOWN
    record.put(VOLUME, None, after)
    record.put(VOLUME, after, None)
    assert record.scan(None) == {}


def test_only_volumes_pools_and_snapshots_are_born_with_an_id(record):
    record.put(("made", "node:/srv/x"), None, {"by": "me"})
    assert state_of(record.scan(None)[("made", "node:/srv/x")]) == {"by": "me"}


def test_moved(record):
    record.put(VOLUME, None, {"size": 1, "id": "i", "created_at": "c"})
    was = {"size": 1, "id": "i", "created_at": "c"}
    assert code_of(record.put, VOLUME, None, {"size": 2}) == "moved"
    assert code_of(record.put, VOLUME, {**was, "size": 3}, {"size": 2}) == "moved"
    assert code_of(record.put, VOLUME, {**was, "more": 1}, {"size": 2}) == "moved"
    assert code_of(record.put, ("volume", "no"), was, {"size": 2}) == "moved"
    record.put(VOLUME, None, was)  # somebody else was first, with the same
    assert state_of(record.scan(None)[VOLUME]) == was
    record.put(("volume", "no"), was, None)  # gone already


def test_pool_shows_its_volumes(record):
    record.put(("pool", "p"), None, {"backend": "loop"})
    for number in range(20):
        record.put(("volume", "n/v%02d" % number), None, {"pool": "p", "size": 2**62})
    record.put(("volume", "n/other"), None, {"pool": "pp", "size": 1})
    pool = record.scan([("pool", "p")])[("pool", "p")]
    assert pool["_volumes"] == ["n/v%02d" % n for n in range(16)]
    assert pool["_volume_count"] == 20 and pool["_provisioned"] == 20 * 2**62
    assert state_of(pool).keys() == {"backend", "id", "created_at"}


def test_all_snapshots_of_a_volume(record):
    for key in ("default/data/b", "default/data/a", "default/data2/c", "default/dat/d"):
        record.put(("snapshot", key), None, {"pool": "default", "size": 5})
    found = record.scan([("snapshots", "default/data"), VOLUME])
    assert sorted(key for _kind, key in found) == ["default/data/a", "default/data/b"]
    assert record.scan([("snapshots", "default/none")]) == {}


def test_scan_of_many(record):
    for number in range(520):
        record.put(("made", "d%d" % number), None, {"n": number})
    asked = [("made", "d%d" % n) for n in range(510)] + [("made", "no"), ("pool", "d1")]
    assert set(record.scan(asked)) == set(asked[:510])


@pytest.mark.parametrize("key", ["a'; DROP TABLE rows; --", "é/\u2028", "%", "_", "x" * 5000, ""])
def test_hostile_keys(record, key):
    record.put(("made", key), None, {"by": key})
    record.put(("made", "neighbour"), None, {})
    assert record.scan([("made", key)])[("made", key)]["by"] == key


def test_hostile_base(arena):
    record = Record(arena + "/a b?mode=memory#x%41")
    record.put(("made", "x"), None, {})
    assert set(os.listdir(record.base)) == {"catalogue.sqlite", "catalogue.reserve"}
    assert Record(record.base).scan(None)


def test_modes(record):
    old = os.umask(0)
    try:
        record.put(("made", "x"), None, {})
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(record.base).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(record.path).st_mode) == 0o600
    os.chmod(record.base, 0o777)
    assert code_of(record.put, ("made", "y"), None, {}) == "unsafe_path"


def test_planning_writes_nothing(record):
    assert record.scan(None) == {} and record.scan([VOLUME]) == {}
    assert not os.path.exists(record.base)
    record.put(VOLUME, None, {"size": 1})
    before = os.stat(record.base), os.stat(record.path), os.listdir(record.base)
    record.scan(None)
    assert (os.stat(record.base), os.stat(record.path), os.listdir(record.base))[2] == before[2]
    for now, then in zip((os.stat(record.base), os.stat(record.path)), before):
        assert (now.st_mtime_ns, now.st_ctime_ns, now.st_ino) == (then.st_mtime_ns, then.st_ctime_ns, then.st_ino)


def test_planning_on_a_read_only_filesystem(arena):
    os.mkdir(arena + "/m")
    subprocess.check_call(["mount", "-t", "tmpfs", "x", arena + "/m"])
    record = Record(arena + "/m/b")
    record.put(VOLUME, None, {"size": 1})
    subprocess.check_call(["mount", "-o", "remount,ro", arena + "/m"])
    assert record.scan(None)[VOLUME]["size"] == 1
    assert code_of(record.put, ("made", "x"), None, {}) == "denied"
    assert code_of(Record(arena + "/m/other").put, ("made", "x"), None, {}) == "denied"


@pytest.mark.parametrize("damage", ["empty", "garbage", "head", "half", "foreign", "directory"])
def test_damaged_file_is_unreadable_and_left_alone(record, damage):
    for number in range(200):
        record.put(("made", "d%d" % number), None, {"x": "y" * 100})
    if damage == "foreign":
        os.unlink(record.path)
        db = sqlite3.connect(record.path)
        db.execute("CREATE TABLE rows (kind, key, rev, grp, number, value)")
        db.commit()
        db.close()
    elif damage == "directory":
        os.unlink(record.path)
        os.mkdir(record.path)
    else:
        with open(record.path, "r+b") as f:
            if damage == "garbage":
                f.write(os.urandom(4096))
            elif damage == "head":
                f.write(b"\0" * 100)
            else:
                f.truncate(0 if damage == "empty" else os.path.getsize(record.path) // 8192 * 4096)
    size = os.path.getsize(record.path)
    expected = {"unreadable", "denied"} if damage == "directory" else {"unreadable"}
    assert code_of(record.scan, None) in expected
    assert code_of(record.put, ("made", "new"), None, {}) in expected
    assert os.path.getsize(record.path) == size


def test_newer_schema(record):
    record.put(("made", "x"), None, {})
    outside(record, "PRAGMA user_version = 99")
    assert code_of(record.scan, None) == "unsupported"
    assert code_of(record.put, ("made", "y"), None, {}) == "unsupported"


def test_migration_is_one_transaction(record, arena):
    record.put(("made", "x"), None, {"n": 1})
    code = (
        "import ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue as c\n"
        "c.MIGRATIONS += (('ALTER TABLE rows ADD COLUMN note TEXT', sys.argv[2]),)\n"
        "Record(sys.argv[1]).scan(None)\n"
        "c._connect = Record(sys.argv[1])._connect('rw').close()"
    )
    assert start(code, record.base, "broken sql").wait(30) == 1
    assert outside(record, "PRAGMA user_version") == [(1,)]
    assert "note" not in outside(record, "SELECT sql FROM sqlite_master WHERE name = 'rows'")[0][0]
    assert start(code, record.base, "UPDATE rows SET note = 'hi'").wait(30) == 0
    assert outside(record, "SELECT key, note FROM rows") == [("x", "hi")]


def test_allocate_lowest_free(record):
    assert [record.allocate("project", n, 100, 103) for n in "abc"] == [100, 101, 102]
    assert record.allocate("project", "b", 100, 103) == 101
    assert record.allocate("uid", "a", 100, 103) == 100
    record.put(("id", "project:b"), {"id": 101}, None)
    assert record.allocate("project", "d", 100, 103) == 101
    assert record.allocate("project", "e", 100, 103) == 103
    assert code_of(record.allocate, "project", "f", 100, 103) == "limit_exceeded"
    assert record.allocate("project", "f", 50, 103) == 50
    assert record.scan([("id", "project:d")])[("id", "project:d")]["id"] == 101
    assert code_of(record.put, ("id", "project:z"), None, {"id": 100}) == "conflict"
    assert outside(record, "SELECT key FROM rows WHERE kind = 'id' AND number = 100 AND grp = 'project'") == [
        ("project:a",)
    ]


def test_two_writers(record):
    code = "r = Record(sys.argv[1])\nfor n in range(60): r.allocate('project', sys.argv[2] + str(n), 1, 500)"
    writers = [start(code, record.base, name) for name in "ab"]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert outside(record, "SELECT count(*), count(DISTINCT number), min(number), max(number) FROM rows") == [
        (120, 120, 1, 120)
    ]


def test_busy_is_bounded_and_typed(record):
    record.put(("made", "x"), None, {})
    db = sqlite3.connect(record.path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    quick = Record(record.base, timeout=0.2)
    assert code_of(quick.put, ("made", "y"), None, {}) == "locked"
    assert quick.scan(None)  # a reader does not mind
    db.execute("ROLLBACK")
    db.close()
    quick.put(("made", "y"), None, {})


def test_killed_in_a_transaction(record):
    """A hot journal: what was committed stays, the half transaction goes, a scan is enough to see that."""
    record.put(("made", "kept"), None, {"n": 1})
    code = (
        "r = Record(sys.argv[1])\n"
        "with r._session('rw') as db:\n"
        "    db.execute('PRAGMA cache_size = 1'); db.execute('PRAGMA cache_spill = 1')\n"
        "    db.execute(\"UPDATE rows SET value = '{}'\")\n"
        "    row = 'INSERT INTO rows VALUES (?, ?, 1, NULL, NULL, ?)'\n"
        "    for n in range(500): db.execute(row, ('made', str(n), 'x' * 900))\n"
        "    print('in', flush=True); time.sleep(60)\n"
    )
    writer = start(code, record.base)
    assert writer.stdout.readline() == b"in\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert os.path.getsize(record.path + "-journal") > 0
    assert {k: state_of(v) for k, v in record.scan(None).items()} == {("made", "kept"): {"n": 1}}
    assert subprocess.check_output(["sqlite3", record.path, "PRAGMA integrity_check"]) == b"ok\n"


def test_hot_journal_on_a_read_only_filesystem_is_not_guessed(arena):
    os.mkdir(arena + "/m")
    subprocess.check_call(["mount", "-t", "tmpfs", "x", arena + "/m"])
    record = Record(arena + "/m/b")
    test_killed = "r = Record(sys.argv[1])\nr.put(('made', 'kept'), None, {})\n"
    code = test_killed + (
        "with r._session('rw') as db:\n"
        "    db.execute('PRAGMA cache_size = 1'); db.execute('PRAGMA cache_spill = 1')\n"
        "    row = 'INSERT INTO rows VALUES (?, ?, 1, NULL, NULL, ?)'\n"
        "    for n in range(500): db.execute(row, ('made', str(n), 'x' * 900))\n"
        "    import os; os.kill(os.getpid(), 9)\n"
    )
    assert start(code, record.base).wait(30) == -9
    subprocess.check_call(["mount", "-o", "remount,ro", arena + "/m"])
    assert code_of(record.scan, None) in ("denied", "unreadable")


def test_killed_while_the_file_is_made(record, arena):
    os.makedirs(record.base, 0o700)
    os.chmod(os.path.dirname(record.base), 0o755)
    with open(record.base + "/.catalogue-stale", "wb") as f:
        f.write(b"half")
    assert record.scan(None) == {}
    record.put(("made", "x"), None, {})
    assert set(os.listdir(record.base)) == {"catalogue.sqlite", "catalogue.reserve"}


def test_killed_after_the_file_has_its_name(record, arena):
    """No second name is left, which nobody would look for again."""
    os.makedirs(record.base, 0o700)
    os.chmod(os.path.dirname(record.base), 0o755)
    code = (
        "import os, signal\n"
        "def die(*args, **more): os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.unlink = die\n"  # the last moment at which another name than its own could go
        "Record(sys.argv[1]).put(('made', 'x'), None, {})\n"
    )
    with start(code, record.base) as child:
        child.communicate(timeout=30)
    assert sorted(record.scan(None)) in ([], [("made", "x")])
    record.put(("made", "y"), None, {})
    assert not [name for name in os.listdir(record.base) if name[0] == "."] and os.stat(record.path).st_nlink == 1


def test_two_makers_of_the_file(record):
    """The one that comes second writes into what the first has made."""
    code = "Record(sys.argv[1]).put(('made', sys.argv[2]), None, {})\n"
    makers = [start(code, record.base, str(number)) for number in range(4)]
    for maker in makers:
        with maker:
            maker.communicate(timeout=30)
        assert maker.returncode == 0
    assert sorted(record.scan(None)) == [("made", str(number)) for number in range(4)]
    assert not [name for name in os.listdir(record.base) if name[0] == "."]


def test_full_disk(arena):
    os.mkdir(arena + "/small")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=64k", "x", arena + "/small"])
    record = Record(arena + "/small/b")
    record.put(("made", "x"), None, {})
    assert code_of(record.put, ("made", "y"), None, {"x": "y" * 100000}) == "no_space"
    assert list(record.scan(None)) == [("made", "x")]


def test_rows_are_on_disk_when_put_returns(record, arena):
    record.put(("made", "x"), None, {})
    code = "Record(sys.argv[1]).put(('made', 'y'), None, {})"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    head = "import sys\nfrom ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import *\n"
    trace = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", arena + "/trace"]
    subprocess.check_call([*trace, sys.executable, "-B", "-c", head + code, record.base], env=env)
    with open(arena + "/trace") as f:
        synced = [line for line in f if record.base in line]
    assert sum("catalogue.sqlite>" in line for line in synced) >= 1
    assert sum("catalogue.sqlite-journal>" in line for line in synced) >= 1


def test_no_descriptor_is_left(record):
    before = len(os.listdir("/proc/self/fd"))
    record.put(("made", "x"), None, {})
    record.scan(None)
    assert len(os.listdir("/proc/self/fd")) == before


def test_intents(record):
    intents = Intents(record)
    assert not intents.is_ours("superblock:/img")
    intents.begin("superblock:/img", fstype="ext4")
    intents.begin("superblock:/img", fstype="xfs")  # a second try
    assert intents.is_ours("superblock:/img") and not intents.is_ours("superblock:/im")
    ((text,),) = outside(record, "SELECT value FROM rows WHERE kind = 'intent'")
    assert json.loads(text)["fstype"] == "xfs"
    assert intents.is_ours("superblock:/img", fstype="xfs") and not intents.is_ours("superblock:/img", fstype="ext4")
    intents.end("superblock:/img")
    intents.end("superblock:/img")
    assert not Intents(Record(record.base)).is_ours("superblock:/img")
    for image in "ab":
        intents.begin(image)
    assert intents.begun(["a", "c", "b"]) == {"a", "b"} and intents.begun([]) == set()


def test_hooks(arena):
    record = Record(arena + "/b", new_id=lambda: "id-1", now=lambda: "then")
    record.put(("pool", "p"), None, {})
    assert record.scan(None)[("pool", "p")]["id"] == "id-1" and record.scan(None)[("pool", "p")]["created_at"] == "then"


def test_classes(record):
    assert record.lowers(VOLUME, {}, None) and not record.lowers(VOLUME, {}, {})
    assert record.risk(VOLUME, None, {}) == "reversible"
    assert len(catalogue.MIGRATIONS) == 1


@pytest.mark.parametrize("fstype,size", [("ext4", 16), ("xfs", 320), ("btrfs", 128)])
def test_rows_go_when_the_disk_is_full(arena, fstype, size):
    top = arena + "/full"
    os.mkdir(top)
    subprocess.run(["mount", namespace.image(top + ".img", size << 20, fstype), top], check=True)
    os.mkdir(top + "/b", 0o700)
    record, volumes = Record(top + "/b"), [("volume", "default/v%d" % n) for n in range(40)]
    for target in volumes:
        record.put(target, None, {"pool": "default", "size": 1, "labels": {"a": "x" * 200}})
    reserve = record.base + "/catalogue.reserve"
    assert os.stat(reserve).st_blocks * 512 >= 256 << 10
    for block in ("64k", "4k", "1"):
        argv = ["dd", "if=/dev/zero", "of=%s/fill-%s" % (top, block), "bs=" + block, "conv=fsync"]
        assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 1
    assert code_of(record.put, ("volume", "default/more"), None, {}) in ("no_space", "denied")
    assert os.path.exists(reserve), "it is kept for what goes"
    for target in volumes[::3]:
        record.put(target, record.scan([target])[target], None)
    assert set(record.scan(volumes)) == set(volumes) - set(volumes[::3])
    for name in os.listdir(top):
        if name.startswith("fill"):
            os.unlink(top + "/" + name)
    with open(reserve, "wb"):
        pass  # as a kill leaves it
    record.put(volumes[0], None, {})
    assert os.stat(reserve).st_blocks * 512 >= 256 << 10
