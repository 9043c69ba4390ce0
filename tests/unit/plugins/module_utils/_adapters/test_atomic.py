# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files replaced whole: metadata by stat and getfacl; full disk, kill at every system call, links, stale leavings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

OLD, NEW = b"old content\n" * 100, b"new content\n" * 200


def output(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data=OLD):
    with open(path, "wb") as f:
        f.write(data)
    return path


def leftovers(folder):
    return [name for name in os.listdir(folder) if name.startswith(".bulkhead-")]


def test_a_new_file(arena):
    os.umask(0o077)
    atomic.replace(arena + "/new", NEW)
    atomic.replace(arena + "/private", NEW, 0o600)
    assert output("stat", "-c", "%a %u %s", arena + "/new", arena + "/private") == "644 0 2400\n600 0 2400\n"
    assert leftovers(arena) == []


def test_a_fresh_one_has_nothing_of_the_one_before(arena):
    path = write(arena + "/key")
    os.chown(path, 1234, 4321)
    subprocess.run(["setfacl", "-m", "u:77:rw", path], check=True)
    atomic.replace(path, NEW, 0o600, keep_from=None)
    assert output("stat", "-c", "%a %u %g %s", path) == "600 0 0 2400\n"
    assert output("getfacl", "-cs", path) == ""


def test_owner_mode_acl_and_attributes_stay(arena):
    path = write(arena + "/file")
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o4640)
    subprocess.run(["setfacl", "-m", "u:77:rw,g:88:r", path], check=True)
    subprocess.run(["setfattr", "-n", "trusted.kept", "-v", "yes", path], check=True)
    subprocess.run(["setfattr", "-n", "security.selinux", "-v", "system_u:object_r:etc_t:s0", path], check=False)
    before = output("stat", "-c", "%a %u %g", path), output("getfacl", "-nE", path), output("getfattr", "-dm-", path)
    inode = os.stat(path).st_ino
    atomic.replace(path, NEW)
    after = output("stat", "-c", "%a %u %g", path), output("getfacl", "-nE", path), output("getfattr", "-dm-", path)
    assert after == before
    assert "user:77:rw-" in after[1]
    assert "trusted.kept" in after[2]
    assert read(path) == NEW
    assert os.stat(path).st_ino != inode


def test_mode_and_metadata_of_another_file(arena):
    model = write(arena + "/model")
    os.chown(model, 5, 6)
    atomic.replace(arena + "/file", NEW, 0o640, keep_from=model)
    assert output("stat", "-c", "%a %u %g", arena + "/file") == "640 5 6\n"


def test_a_full_disk_leaves_the_old_bytes(arena):
    small = arena + "/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", small], check=True)
    path = write(small + "/file")
    with pytest.raises(StorageError) as caught:
        atomic.replace(path, b"x" * 100000)
    assert caught.value.code == "no_space"
    assert read(path) == OLD
    assert leftovers(small) == []


def test_read_only_and_missing_folder(arena):
    sealed = arena + "/sealed"
    os.mkdir(sealed)
    path = write(sealed + "/file")
    subprocess.run(["mount", "--bind", "-o", "ro", sealed, sealed], check=True)
    for where, code in ((path, "denied"), (arena + "/nowhere/file", "not_found")):
        with pytest.raises(StorageError) as caught:
            atomic.replace(where, NEW)
        assert caught.value.code == code


def test_immutable_is_denied(arena):
    path = write(arena + "/file")
    if subprocess.run(["chattr", "+i", path], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.fail("tmpfs of this kernel has no attributes: use another filesystem for the arena")
    try:
        with pytest.raises(StorageError) as caught:
            atomic.replace(path, NEW)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert caught.value.code == "denied"
    assert "lsattr" in caught.value.hint
    assert read(path) == OLD
    assert leftovers(arena) == []


def test_a_link_inside_the_folder_is_followed_and_stays(arena):
    write(arena + "/real")
    os.symlink("real", arena + "/link")
    atomic.replace(arena + "/link", NEW)
    assert os.readlink(arena + "/link") == "real"
    assert read(arena + "/real") == NEW


@pytest.mark.parametrize("goal", ["sub/file", "/etc/hostname", "../file", "..", "link"])
def test_a_link_that_leaves_the_folder_is_refused(arena, goal):
    os.mkdir(arena + "/sub")
    write(arena + "/sub/file")
    os.symlink(goal, arena + "/link")
    with pytest.raises(StorageError) as caught:
        atomic.replace(arena + "/link", NEW)
    assert caught.value.code == "unsafe_path"
    assert read(arena + "/sub/file") == OLD
    assert os.readlink(arena + "/link") == goal


def test_a_directory_or_fifo_in_its_place_does_not_hang(arena):
    os.mkdir(arena + "/directory")
    os.mkfifo(arena + "/fifo")
    start = time.monotonic()
    for name in ("directory", "fifo"):
        with pytest.raises(StorageError):
            atomic.replace(arena + "/" + name, NEW)
    assert time.monotonic() - start < 5
    assert leftovers(arena) == []


def test_only_our_stale_leavings_are_swept(arena):
    ours = ".bulkhead-0123456789abcdef"
    write(arena + "/" + ours)
    kept = [".bulkhead-0123456789abcde", ".bulkhead-0123456789abcdef~", ".bulkhead-ffffffffffffffff", "bulkhead"]
    for name in kept:
        write(arena + "/" + name)
    os.chown(arena + "/.bulkhead-ffffffffffffffff", 1000, 1000)
    os.mkdir(arena + "/.bulkhead-aaaaaaaaaaaaaaaa")
    os.mkfifo(arena + "/.bulkhead-bbbbbbbbbbbbbbbb")
    write(arena + "/victim")
    os.symlink("victim", arena + "/.bulkhead-cccccccccccccccc")
    atomic.replace(arena + "/file", NEW)
    left = set(os.listdir(arena))
    assert ours not in left
    assert left >= {*kept, "victim", ".bulkhead-aaaaaaaaaaaaaaaa", ".bulkhead-bbbbbbbbbbbbbbbb"}


def test_a_living_writer_is_not_swept(arena):
    path = write(arena + "/.bulkhead-0123456789abcdef")
    with subprocess.Popen(["flock", path, "sleep", "60"]) as holder:
        try:
            while subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 0:
                time.sleep(0.01)
            atomic.replace(arena + "/file", NEW)
            assert os.path.exists(path)
        finally:
            subprocess.run(["kill", str(holder.pid)], check=True)


CALLS = "openat,flock,fchown,fchmod,fsetxattr,write,fsync,rename,renameat,renameat2"


def test_killed_at_every_system_call_the_file_is_old_or_new(arena):
    """strace counts our own mutating calls of a clean run, then kills at each; the next run leaves no stray file."""
    path = arena + "/file"
    code = "from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic; import sys, os; "
    code += "os.chdir('/'); atomic.replace(sys.argv[1], b'new content\\n' * 200)"
    trace = ["strace", "-f", "-qq", "-o", arena + "/trace"]
    run = [sys.executable, "-c", code, path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    tried = 0
    for call in CALLS.split(","):
        write(path)
        subprocess.run([*trace, "-e", "trace=" + call, *run], check=True, env=environment)
        lines = read(arena + "/trace").split(b"\n")
        start = next((n for n, line in enumerate(lines) if os.fsencode(arena) in line), 0) if call == "openat" else 0
        count = len([line for line in lines if line and b"+++" not in line])
        for number in range(start + 1, count + 1):
            write(path)
            inject = "inject=%s:signal=KILL:when=%d" % (call, number)
            subprocess.run([*trace, "-e", "trace=" + call, "-e", inject, *run], check=False, env=environment)
            tried += 1
            assert read(path) in (OLD, NEW), (call, number)
            atomic.replace(path, NEW)
            assert read(path) == NEW
            assert leftovers(arena) == [], (call, number)
    assert tried >= 8, "only %d points" % tried


def test_the_content_is_on_disk_before_its_name_and_the_name_before_it_returns(arena):
    """No kill shows it, only a loss of power: the order of the calls does."""
    path = write(arena + "/file")
    code = "import sys; from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic\n"
    code += "atomic.replace(sys.argv[1], b'new content')"
    trace = ["strace", "-f", "-y", "-qq", "-o", arena + "/trace", "-e", "trace=write,fsync,rename,renameat,renameat2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*trace, sys.executable, "-c", code, path], check=True, env=environment)
    lines = [line.split(None, 1)[1] for line in read(arena + "/trace").decode().splitlines() if arena in line]
    names = [line.partition("(")[0] for line in lines]
    assert names[:1] == ["write"] and [name[:6] for name in names[1:]] == ["fsync", "rename", "fsync"], lines
    temporary = re.search(r"<(%s/[^>]+)>" % re.escape(arena), lines[0])
    assert temporary and temporary.group(1) in lines[1], "what was written is what is synced"
    assert "<%s>" % arena in lines[3], "and then its folder"
