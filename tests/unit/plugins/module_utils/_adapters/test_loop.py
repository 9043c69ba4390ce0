# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices on the real kernel; what is attached is told by losetup and sysfs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loop, loopchange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.loopchange import Loop
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN
from ansible_collections.bulkhead.storage.tests.support import namespace
from ansible_collections.bulkhead.storage.tests.support.namespace import image

PORT = Loop()


def losetup(path, columns="NAME,RO,AUTOCLEAR"):
    """Rows of losetup for a backing file."""
    argv = ["losetup", "-n", "-O", columns, "-j", path]
    return [
        line.split() for line in subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode().splitlines()
    ]


def refused(code, *args):
    with pytest.raises(StorageError) as caught:
        PORT.put(*args)
    assert caught.value.code == code, caught.value
    return caught.value


def test_attach_and_detach(arena):
    file = image(arena + "/image", 1 << 20)
    assert PORT.scan([file]) == {}
    PORT.put(file, None, {"read_only": False})
    row = PORT.scan([file])[file]
    assert losetup(file) == [[row["_device"], "0", "0"]]
    assert row["read_only"] is False and row["size"] == row["_size"] == 1 << 20
    assert PORT.scan()[file] == row
    PORT.put(file, row, None)
    assert losetup(file) == []
    assert PORT.scan([file]) == {}


def test_read_only(arena):
    file = image(arena + "/image", 1 << 20)
    PORT.put(file, None, {"read_only": True})
    row = PORT.scan([file])[file]
    assert losetup(file) == [[row["_device"], "1", "0"]]
    assert PORT.replaces(file, row, {**row, "read_only": False})
    refused("unsupported", file, row, {**row, "read_only": False})


def test_growth_is_seen_when_told(arena):
    file = image(arena + "/image", 1 << 20)
    PORT.put(file, None, {"read_only": False})
    row = PORT.scan([file])[file]
    os.truncate(file, 3 << 20)
    assert PORT.scan([file])[file]["size"] == 1 << 20
    PORT.put(file, row, {**row, "size": 3 << 20})
    assert subprocess.check_output(["blockdev", "--getsize64", row["_device"]]) == b"3145728\n"
    row = PORT.scan([file])[file]
    assert "whole sectors" in refused("not_enforced", file, row, {**row, "size": 4 << 20}).hint


def test_identity_is_the_file_not_its_name(arena):
    file = image(arena + "/image", 1 << 20)
    PORT.put(file, None, {"read_only": False})
    os.link(file, arena + "/hard link")
    assert PORT.scan([arena + "/hard link"])[arena + "/hard link"] == PORT.scan([file])[file]
    os.rename(file, arena + "/kept")
    image(file, 1 << 20)
    assert PORT.scan([file]) == {}, "a new file of the old name is not attached"
    assert arena + "/kept" in PORT.scan()
    os.unlink(arena + "/hard link")
    os.unlink(arena + "/kept")
    assert not [name for name in PORT.scan() if name.startswith(arena)]
    (device,) = [d for d, raw in loopchange.backing_files().items() if raw.startswith(os.fsencode(arena))]
    held = loop.attached(device)
    assert held.deleted and held.backing == os.fsencode(arena + "/kept")
    loopchange.detach(device)


def test_a_file_that_is_really_called_deleted(arena):
    file = image(arena + "/image (deleted)", 1 << 20)
    PORT.put(file, None, {"read_only": False})
    assert file in PORT.scan()
    held = loop.attached(PORT.scan([file])[file]["_device"])
    assert not held.deleted


@pytest.mark.parametrize("name", ["a b", "a\nb", "\\040", "\udcff", "x" * 255, "-rf"])
def test_hostile_names(arena, name):
    path = arena + "/" + name
    with open(path.encode("utf-8", "surrogateescape"), "wb") as f:
        f.truncate(1 << 20)
    PORT.put(path, None, {"read_only": False})
    row = PORT.scan([path])[path]
    PORT.put(path, row, None)
    assert PORT.scan([path]) == {}


def test_stale_plans_are_moved(arena):
    file = image(arena + "/image", 1 << 20)
    value = {"read_only": False, "size": UNKNOWN}
    refused("moved", file, value, None)
    PORT.put(file, None, value)
    refused("moved", file, None, value)
    refused("moved", file, {"read_only": True}, None)
    refused("moved", file, {"read_only": False, "size": 5}, None)
    assert len(losetup(file)) == 1
    PORT.put(file, value, None)


def test_what_is_mounted_is_in_use(arena):
    file = image(arena + "/image", 64 << 20, "ext4")
    PORT.put(file, None, {"read_only": False})
    row = PORT.scan([file])[file]
    os.mkdir(arena + "/m")
    subprocess.run(["mount", row["_device"], arena + "/m"], check=True)
    refused("in_use", file, row, None)
    assert losetup(file) == [[row["_device"], "0", "0"]], "LOOP_CLR_FD would have made it autoclear and said nothing"
    subprocess.run(["umount", arena + "/m"], check=True)
    PORT.put(file, row, None)


def test_a_device_held_open_is_not_reported_gone(arena):
    file = image(arena + "/image", 1 << 20)
    PORT.put(file, None, {"read_only": False})
    device = PORT.scan([file])[file]["_device"]
    fd = os.open(device, os.O_RDONLY)
    try:
        with pytest.raises(StorageError) as caught:
            loopchange.wait_gone(device, patience=0.05)
        assert caught.value.code == "in_use"
        timer = threading.Timer(0.2, os.close, [fd])
        timer.start()
        start = time.monotonic()
        loopchange.detach(device)
        assert time.monotonic() - start > 0.1
        timer.join()
        fd = -1
    finally:
        if fd >= 0:
            os.close(fd)
    assert losetup(file) == []


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_only_regular_files_are_attached(arena, kind):
    path = arena + "/x"
    os.chown(arena, 1000, 1000)
    if kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.symlink("/etc/hostname", path)
    start = time.monotonic()
    with pytest.raises(StorageError):
        PORT.put(path, None, {"read_only": False})
    assert time.monotonic() - start < 5
    assert PORT.scan([path]) == {}


def test_absent_is_told_from_unreadable(arena):
    assert PORT.scan([arena + "/no/such", arena + "/none"]) == {}
    os.symlink("loop", arena + "/loop")
    row = PORT.scan([arena + "/loop/x"])[arena + "/loop/x"]
    assert isinstance(row, StorageError) and row.code == "unreadable"
    refused("unreadable", arena + "/loop/x", None, {"read_only": False})


def test_a_partly_attached_file_is_told_apart(arena):
    file = image(arena + "/image", 4 << 20)
    with namespace.loop_device(file, "--offset", "1048576") as device:
        assert not loop.attached(device).whole
    with namespace.loop_device(file) as device:
        assert loop.attached(device).whole
        assert loopchange.find((os.stat(file).st_dev, os.stat(file).st_ino)).device == device


def test_many_at_once_take_different_devices(arena):
    """LOOP_CTL_GET_FREE tells two callers the same number: LOOP_CONFIGURE decides, the loser tries again."""
    files = [image("%s/%d" % (arena, number), 1 << 20) for number in range(8)]
    failures: list[BaseException] = []

    def run(file):
        try:
            for _round in range(3):
                PORT.put(file, None, {"read_only": False})
                PORT.put(file, {"read_only": False}, None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=[file]) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert namespace.loop_devices(arena) == []


def test_autoclear_goes_with_a_killed_holder(arena):
    file = image(arena + "/image", 1 << 20)
    adapters = "ansible_collections.bulkhead.storage.plugins.module_utils._adapters"
    code = "import os, sys, time; from %s import loopchange\n" % adapters
    code += "kept = loopchange.attach(os.open(sys.argv[1], os.O_RDWR), autoclear=True)\n"
    code += "print('x', flush=True); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE, env=environment)
    assert holder.stdout.read(1) == b"x"
    assert losetup(file)[0][2] == "1"
    holder.kill()
    holder.communicate()
    deadline = time.monotonic() + 5
    while losetup(file):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_direct_io_is_asked_for(arena):
    os.mkdir(arena + "/m")
    with namespace.loop_device(image(arena + "/outer", 64 << 20, "ext4")) as outer:
        subprocess.run(["mount", outer, arena + "/m"], check=True)
        file = image(arena + "/m/inner", 1 << 20)
        backing = os.open(file, os.O_RDWR)
        fd, _device = loopchange.attach(backing, autoclear=True, direct_io=True)
        assert losetup(file, "DIO") == [["1"]]
        os.close(fd)
        os.close(backing)
        subprocess.run(["umount", arena + "/m"], check=True)


def test_what_is_pure():
    value = {"read_only": False, "size": 8}
    assert PORT.merge("/f", None, {"read_only": True}) == {"read_only": True, "size": UNKNOWN}
    assert PORT.merge("/f", value, {"read_only": True}) == {"read_only": True, "size": 8}
    assert PORT.lowers("/f", value, None) and PORT.lowers("/f", value, {**value, "size": 4})
    assert not PORT.lowers("/f", None, value) and not PORT.lowers("/f", value, {**value, "size": UNKNOWN})
    assert PORT.risk("/f", value, None) == "reversible"
    assert PORT.risk("/f", None, value) == PORT.risk("/f", value, {**value, "read_only": True}) == "reversible"
    assert PORT.risk("/f", value, {**value, "size": 9}) == "forward"
    assert (PORT.opens("/f", None, value), PORT.opens("/f", value, None)) == ("unknown", None)
    assert not PORT.replaces("/f", value, {**value, "size": 9})


def test_no_descriptor_is_left_open(arena):
    file = image(arena + "/image", 1 << 20)
    before = len(os.listdir("/proc/self/fd"))
    for _round in range(3):
        PORT.put(file, None, {"read_only": False})
        PORT.put(file, {"read_only": False}, None)
    assert len(os.listdir("/proc/self/fd")) == before
