# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard knows a device or an image by; the rest of it is tested where devices are taken, and in the lab."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blank, signatures
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.namespace import image, loop_device

MIB = 1 << 20


def stamp(path: str) -> object:
    return blank._stamp(Sysfs(), os.stat(path))


def test_an_image_is_known_by_its_filesystem_and_its_inode(arena: str) -> None:
    paths = []
    for name in ("a", "b"):
        os.mkdir(arena + "/" + name)
        subprocess.run(["mount", "-t", "tmpfs", "x", arena + "/" + name], check=True)
        paths += [image("%s/%s/%d" % (arena, name, n), MIB) for n in (1, 2)]
    seen = [os.stat(path) for path in paths]
    assert [s.st_ino for s in seen[:2]] == [s.st_ino for s in seen[2:]], "numbers of their own in each filesystem"
    assert len(set(map(stamp, paths))) == 4 and stamp(paths[0]) == stamp(paths[0])


def test_a_device_is_known_by_its_number_and_by_what_stands_behind_it(arena: str) -> None:
    image(arena + "/a", MIB)
    image(arena + "/b", MIB)
    with loop_device(arena + "/a") as one, loop_device(arena + "/b") as other:
        first = stamp(one)
        assert first == stamp(one) != stamp(other)
        dumb = Sysfs(arena)  # a kernel that counts no media
        assert blank._stamp(dumb, os.stat(one)) != blank._stamp(dumb, os.stat(other)), "the number counts too"
    with loop_device(arena + "/b", stays=True) as again:
        subprocess.run(["losetup", "-d", again], check=True)
        subprocess.run(["losetup", again, arena + "/a"], check=True)
        seen = stamp(again)
        subprocess.run(["losetup", "-d", again], check=True)
        subprocess.run(["losetup", again, arena + "/b"], check=True)
        assert stamp(again) != seen, "the same number, another medium"


def test_what_another_host_wrote_is_seen_though_this_one_has_the_device_cached(arena: str) -> None:
    path = image(arena + "/a", 16 * MIB)
    with loop_device(path) as device:
        fd = os.open(device, os.O_RDONLY)
        try:
            assert signatures.examine(fd, device).kind == "blank" and not any(os.pread(fd, 8 * MIB, 0))
            with open(path, "r+b") as beneath:  # as another host would: past this one's cache
                beneath.seek(3 * MIB)
                beneath.write(b"theirs")
            assert not any(os.pread(fd, 8 * MIB, 0)), "the cache does not know of it"
            assert signatures.examine(fd, device).kind == "unknown"
            assert os.pread(fd, 5, 1) == bytes(5), "others read as before: no alignment is asked of them"
        finally:
            os.close(fd)


def test_a_lock_that_a_starting_program_has_for_a_moment_is_waited_for(arena: str) -> None:
    path = image(arena + "/a", MIB)
    held, mine = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        blank.claim(mine, path)
        assert os.get_inheritable(mine)
        fcntl.flock(mine, fcntl.LOCK_UN)
        fcntl.flock(held, fcntl.LOCK_EX)
        start = time.monotonic()
        with pytest.raises(StorageError) as caught:
            blank.claim(mine, path)
        assert caught.value.code == "in_use" and time.monotonic() - start >= blank.MOMENT
    finally:
        os.close(held)
        os.close(mine)
