# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fstab byte for byte: hostile names, CRLF, missing newline, torn lines, ENOSPC; findmnt reads back what we write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fstabchange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab, parse
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstabchange import escape
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import text
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Options, converge
from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    place,
)

PORT = Fstab()
VALUE = {"source": "/dev/vg/data", "fstype": "ext4", "options": "nosuid,nodev", "dump": 0, "passno": 2}
SAMPLE = (
    b"# /etc/fstab: static file system information.\n"
    b"#\n"
    b"UUID=0a1b\t/               ext4    errors=remount-ro 0       1   # trailing words stay\n"
    b"\n"
    b"   tmpfs /tmp tmpfs nosuid\n"
    b"junk\n"
    b"/dev/sr0 /media/cd\\040rom udf,iso9660 user,noauto 0 0\n"
    b"\xff\xfe /raw\xff xfs defaults 0 0 extra field\n"
    b"none none swap sw 0 0\n"
    b"#/dev/old /srv/data ext4 defaults 0 0\n"
)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def file(arena, data=SAMPLE):
    path = arena + "/fstab"
    with open(path, "wb") as f:
        f.write(data)
    return path


def refused(code, *args):
    with pytest.raises(StorageError) as caught:
        PORT.put(*args)
    assert caught.value.code == code
    return caught.value


def findmnt(path, *argv):
    """What libmount reads in the file."""
    done = subprocess.run(["findmnt", "--tab-file", path, "-J", *argv], check=False, stdout=subprocess.PIPE)
    shown = done.stdout.decode("utf-8", "surrogateescape")  # its JSON is not always UTF-8
    return json.loads(shown)["filesystems"] if shown.strip() else []


def test_scan_sees_what_libmount_sees(arena):
    path = file(arena)
    rows = PORT.scan([(path, p) for p in ("/", "/tmp", "/media/cd rom", "/raw\udcff", "/srv/data", "/none")])
    assert rows[path, "/"] == {
        "source": "UUID=0a1b", "fstype": "ext4", "options": "errors=remount-ro", "dump": 0, "passno": 1,
    }  # fmt: skip
    assert rows[path, "/tmp"]["options"] == "nosuid"
    assert rows[path, "/media/cd rom"]["fstype"] == "udf,iso9660"
    assert rows[path, "/raw\udcff"]["source"] == "\udcff\udcfe"
    assert (path, "/srv/data") not in rows and (path, "/none") not in rows
    seen = findmnt(path, "--target", "/media/cd rom")
    assert seen[0]["source"] == "/dev/sr0"


def test_missing_is_absent_but_unreadable_is_not(arena):
    target = (arena + "/missing", "/srv/data")
    assert PORT.scan([target]) == {}
    os.mkdir(arena + "/directory")
    row = PORT.scan([(arena + "/directory", "/srv/data")])[arena + "/directory", "/srv/data"]
    assert isinstance(row, StorageError) and row.code == "unreadable"


def test_several_lines_for_one_mount_point_conflict(arena):
    path = file(arena, b"/dev/a /srv/data ext4 defaults 0 0\n/dev/b /srv/data/ xfs defaults 0 0\n")
    row = PORT.scan([(path, "/srv/data")])[path, "/srv/data"]
    assert isinstance(row, StorageError) and row.code == "conflict" and "line 2" in row.message
    refused("conflict", (path, "/srv/data"), None, VALUE)


def test_a_senseless_number_is_unreadable(arena):
    path = file(arena, b"/dev/a /srv/data ext4 defaults 0 two\n")
    row = PORT.scan([(path, "/srv/data")])[path, "/srv/data"]
    assert row.code == "unreadable" and "line 1" in row.message


ENDINGS = [SAMPLE, SAMPLE[:-1], SAMPLE.replace(b"\n", b"\r\n"), SAMPLE.replace(b"\n", b"\r\n")[:-2], b"", b"\n", b"# x"]


@pytest.mark.parametrize("data", ENDINGS)
def test_adding_and_taking_out_restores_every_byte(arena, data):
    path = file(arena, data)
    target = (path, "/srv/data")
    PORT.put(target, None, VALUE)
    changed = read(path)
    assert changed.startswith(data[:-2]) and len(changed) > len(data)
    assert changed.endswith(b"\n") == (data.endswith(b"\n") or not data)
    assert PORT.scan([target]) == {target: VALUE}
    assert findmnt(path, "--target", "/srv/data")[0]["source"] == "/dev/vg/data"
    PORT.put(target, VALUE, None)
    assert read(path) == data


def test_a_change_touches_only_its_fields(arena):
    path = file(arena)
    target = (path, "/")
    before = PORT.scan([target])[target]
    PORT.put(target, before, {**before, "options": "noatime", "passno": 2})
    old, new = SAMPLE.split(b"\n"), read(path).split(b"\n")
    assert new[2] == b"UUID=0a1b\t/               ext4    noatime 0       2   # trailing words stay"
    assert old[:2] + old[3:] == new[:2] + new[3:]


def test_a_short_line_grows_only_when_it_must(arena):
    path = file(arena)
    target = (path, "/tmp")
    before = PORT.scan([target])[target]
    PORT.put(target, before, {**before, "options": "noexec"})
    assert b"\n   tmpfs /tmp tmpfs noexec\n" in read(path)
    before = PORT.scan([target])[target]
    PORT.put(target, before, {**before, "passno": 3})
    assert b"\n   tmpfs /tmp tmpfs noexec 0 3\n" in read(path)


def test_missing_file_is_made(arena):
    path = arena + "/fstab"
    PORT.put((path, "/srv/data"), None, VALUE)
    assert read(path) == b"/dev/vg/data /srv/data ext4 nosuid,nodev 0 2\n"


def test_stale_is_moved(arena):
    path = file(arena)
    refused("moved", (path, "/"), None, VALUE)
    refused("moved", (path, "/srv/data"), VALUE, None)
    before = PORT.scan([(path, "/")])[path, "/"]
    refused("moved", (path, "/"), {**before, "passno": 5}, VALUE)
    assert read(path) == SAMPLE


@pytest.mark.parametrize("field", ["source", "fstype", "options"])
@pytest.mark.parametrize("bad", ["", "a\nb / ext4 suid 0 0", "a\tb\r", "a\x00b", "\x1b[31m", "\x7f", 7, None])
def test_what_would_break_a_line_is_refused(arena, field, bad):
    path = file(arena)
    refused("invalid", (path, "/srv/data"), None, {**VALUE, field: bad})
    assert read(path) == SAMPLE


@pytest.mark.parametrize("value", [{"dump": -1}, {"passno": "1"}, {"passno": True}])
def test_numbers_are_numbers(arena, value):
    refused("invalid", (file(arena), "/srv/data"), None, {**VALUE, **value})


def test_a_newline_in_the_mount_point_adds_no_line(arena):
    path = file(arena)
    refused("invalid", (path, "/srv/x\n/dev/sda / ext4 suid 0 0"), None, VALUE)
    assert read(path) == SAMPLE


HOSTILE = [
    "/srv/a b",
    "/srv/a\\040b",
    "/srv/#x",
    "/srv/\u00e9",
    "/srv/e\u0301",
    "/srv/\u2028x",
    "/srv/a,b",
    "/srv/%n",
    "/srv/-rf",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_libmount_whole(arena, name):
    path = file(arena)
    PORT.put((path, name), None, {**VALUE, "source": name})
    seen = {row["target"]: row["source"] for row in findmnt(path, "--list")}
    assert seen.get(name) == name
    assert len(seen) == len({line.path for line in parse(SAMPLE)}) + 1


def test_a_source_that_begins_with_a_hash_is_no_comment(arena):
    path = file(arena, b"")
    PORT.put((path, "/srv/data"), None, {**VALUE, "source": "#pool"})
    assert read(path).startswith(b"\\043pool ")
    assert PORT.scan([(path, "/srv/data")])[path, "/srv/data"]["source"] == "#pool"


def test_findmnt_verifies_what_we_write(arena):
    path = file(arena, b"")
    os.mkdir(arena + "/m n")
    value = {"source": "tmpfs", "fstype": "tmpfs", "options": "nosuid,nodev,size=4096", "dump": 0, "passno": 0}
    PORT.put((path, arena + "/m n"), None, value)
    done = subprocess.run(["findmnt", "--verify", "--tab-file", path], check=False, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stdout.decode()
    subprocess.run(["mount", "--fstab", path, arena + "/m n"], check=True)
    assert os.statvfs(arena + "/m n").f_blocks * 4096 == 4096


def test_a_full_disk_leaves_the_old_file(arena):
    os.mkdir(arena + "/small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "small", arena + "/small"], check=True)
    path = file(arena + "/small", SAMPLE + b"#" * 9000 + b"\n")
    data = read(path)
    refused("no_space", (path, "/srv/data"), None, VALUE)
    assert read(path) == data
    assert os.listdir(arena + "/small") == ["fstab"]


def test_a_link_out_of_its_folder_is_refused(arena):
    os.mkdir(arena + "/etc")
    file(arena)
    os.symlink("../fstab", arena + "/etc/fstab")
    refused("unsafe_path", (arena + "/etc/fstab", "/srv/data"), None, VALUE)
    assert read(arena + "/fstab") == SAMPLE


@pytest.mark.parametrize(
    "now, declared, met",
    [
        ("defaults", "", True),
        ("a,,b", "a,b", True),
        ("a,b", "b,a", False),
        ("a,a", "a", False),
        ("nofail", "nofail,defaults", False),
    ],
)
def test_options_are_an_ordered_list(now, declared, met):
    assert PORT.same(("f", "/m"), {**VALUE, "options": now}, {"options": declared, "_seen": 1}) is met


def test_what_is_pure():
    target = ("f", "/m")
    assert PORT.merge(target, None, {"source": "x"}) == {
        "source": "x", "fstype": "auto", "options": "defaults", "dump": 0, "passno": 0,
    }  # fmt: skip
    assert PORT.merge(target, VALUE, {"passno": 1}) == {**VALUE, "passno": 1}
    assert PORT.lowers(target, VALUE, None) and not PORT.lowers(target, None, VALUE)
    assert PORT.risk(target, VALUE, None) == "reversible"


def heard(path, told, code=0):
    """A port whose program only writes down what it was to run."""

    def run(argv, stdin=b"", timeout=60.0):
        told.append(argv)
        return code, b"", b"no bus"

    return Fstab(run, path)


@pytest.mark.parametrize("booted", [True, False])
def test_systemd_hears_once_of_lines_that_changed_where_it_runs(private_mounts, booted):
    """systemd(1), sd_booted(3): a directory that is there only where it is process 1."""
    told = []
    with hosts.host():
        there = "/mnt/system"
        if booted:
            os.mkdir(there)
        port = heard(there, told)
        port.flush()
        assert told == [], "nothing was changed"
        for name in ("/srv/data", "/srv/more"):
            port.put(("/etc/fstab", name), None, VALUE)
        port.put(("/etc/fstab", "/srv/more"), VALUE, None)
        port.flush()
        assert told == [["systemctl", "daemon-reload"]] * booted
        port.flush()
        assert len(told) == booted


def test_another_file_than_the_hosts_is_none_of_systemds(arena):
    told = []
    port = heard(arena, told)
    port.put((file(arena), "/srv/data"), None, VALUE)
    port.flush()
    assert told == []


def test_a_systemd_that_does_not_listen_is_told_and_what_was_done_stands(private_mounts):
    with hosts.host():
        port = heard("/mnt", [], code=1)
        unit = Unit(("mount", "/srv/data"), (Cell("fstab", ("/etc/fstab", "/srv/data"), VALUE),))
        report = converge(lambda world: ([unit], []), {"fstab": port}, Options(), time.monotonic)
        (error,) = report.errors
        assert (error.code, "no bus" in error.message, "daemon-reload" in error.hint) == ("failed", True, True)
        assert (report.summary["applied"], report.summary["failed"], report.summary["undone"]) == (1, 1, 0)
        assert findmnt("/etc/fstab", "--target", "/srv/data")[0]["source"] == "/dev/vg/data"


WORDS = st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b)


@given(WORDS)
@example(b"#\\040 \t\n\\")
def test_a_field_round_trips(raw):
    word = raw.decode("utf-8", "surrogateescape")
    field = escape(word)
    assert not set(field) & set(b" \t\n")
    assert not field.startswith(b"#")
    assert text(field) == word


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
        st.lists(WORDS, min_size=1, max_size=8).map(lambda w: b"\t ".join(w).replace(b"\n", b"")),
        st.sampled_from(SAMPLE.split(b"\n")),
    ),
    max_size=8,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.sampled_from(HOSTILE))
def test_any_file_is_restored_byte_for_byte(lines, end, final, name):
    data = end.join(lines) + (end if final else b"")
    assume(not any(line.path == name for line in parse(data)))
    assume(not data.endswith(b"\r"))
    with place("1m") as folder:
        target = (file(folder, data), name)
        PORT.put(target, None, VALUE)
        added = read(target[0])
        ours = [line for line in added.split(b"\n") if line.startswith(b"/dev/vg/data " + escape(name))]
        assert len(ours) == 1
        assert PORT.scan([target])[target] == VALUE
        PORT.put(target, VALUE, {**VALUE, "options": "ro"})
        PORT.put(target, {**VALUE, "options": "ro"}, None)
        assert read(target[0]) == data


PUTS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["put", "take", "edit", "meanwhile"])), max_size=12)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), PUTS)
def test_many_lines_of_one_run_are_written_as_each_alone(lines, end, final, puts):
    """A port that knows what it wrote does what one does that reads it all anew, also when others write in between."""
    data = end.join(lines) + (end if final else b"")
    with place("1m") as one, place("1m") as two:
        port, files = Fstab(), (file(one, data), file(two, data))
        for number, what in puts:
            path, told = "/srv/%d x" % number, []
            for each, written in zip((port, Fstab()), files):
                if what == "meanwhile":
                    file(os.path.dirname(written), b"other /srv/%d\\040x ext4\n" % number + read(written))
                    continue
                now = each.scan([(written, path)]).get((written, path))
                after = {"put": VALUE, "take": None, "edit": {**VALUE, "options": "ro,size=%d" % number}}[what]
                try:
                    if now != after:
                        each.put((written, path), now, after)
                    told.append("")
                except (StorageError, TypeError) as error:
                    told.append(getattr(error, "code", "TypeError"))
            assert len(set(told)) < 2
            assert read(files[0]) == read(files[1])


def test_a_thousand_lines_are_not_parsed_a_thousand_times(arena):
    """Counted in bytes: each line once or twice, not the whole file for each."""
    port, path = Fstab(), file(arena, b"")
    parsed = 0

    def count(frame, event, _argument):
        nonlocal parsed
        if event == "call" and frame.f_code is parse.__code__:
            parsed += len(frame.f_locals["data"])

    sys.setprofile(count)
    try:
        for number in range(200):
            port.put((path, "/srv/%d" % number), None, VALUE)
        for number in range(100):
            port.put((path, "/srv/%d" % number), VALUE, None)
    finally:
        sys.setprofile(None)
    assert len(findmnt(path)) == 100
    assert 0 < parsed < 10 * 200 * len("/dev/vg/data /srv/100 ext4 nosuid,nodev 0 2\n")


def test_what_does_not_read_back_is_never_written():
    with pytest.raises(StorageError) as caught:
        fstabchange._prove("/etc/fstab", "/m", b"a /x ext4\n", b"b /x ext4\nn /m ext4\n", VALUE)
    assert caught.value.code == "failed"


@pytest.mark.parametrize("trap", ["fifo", "hard link", "stranger's"])
def test_what_others_put_in_its_place_is_no_table(arena, trap):
    """A fifo that nobody writes to reads as empty: check mode would promise a line that no run could write."""
    folder, secret = arena + "/theirs", arena + "/secret"
    os.mkdir(folder)
    os.chown(folder, 1000, 1000)
    with open(secret, "w") as f:
        f.write("/dev/vda /x ext4 defaults 0 0\n")
    if trap == "fifo":
        os.mkfifo(folder + "/fstab")
    else:
        os.link(secret, folder + "/fstab")
    if trap == "stranger's":
        os.chown(secret, 1001, 1001)
        os.unlink(secret)
    row = Fstab().scan([(folder + "/fstab", "/x")])[folder + "/fstab", "/x"]
    assert isinstance(row, StorageError) and row.code == "unsafe_path"
