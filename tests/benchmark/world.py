# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private host to measure on: nothing that is mounted here is seen outside, and nothing of it is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from typing import Iterator

from ansible_collections.bulkhead.storage.tests.benchmark.declarations import IMAGE
from ansible_collections.bulkhead.storage.tests.support import namespace

_PLACES = ("/srv", "/mnt", "/var/lib", "/run/bulkhead")
_SUBVOL_CREATE = 0x5000940E


@contextlib.contextmanager
def host() -> Iterator[str]:
    """A folder for programs and results, not on what is measured."""
    os.makedirs("/run/bulkhead", exist_ok=True)  # where the lock is: shared with everybody, so that it may stay
    with namespace.place("8g") as base:
        os.mkdir(base + "/disks")
        os.mkdir(base + "/work")
        try:
            yield base + "/work"
        finally:
            clear()


def clear() -> None:
    for path in _PLACES:
        namespace.take_down(path)


def fresh(work: str, kind: str, count: int) -> None:
    """Empty folders, and what the declarations of a kind stand on. Directories are on ext4, limits on Btrfs."""
    clear()
    for path in _PLACES[1:]:
        _run("mount", "-t", "tmpfs", "-o", "mode=0755,nr_inodes=0,size=6g", "bench", path)
    fstype = "btrfs" if kind in ("quotas", "volumes") else "ext4"
    image = os.path.dirname(work) + "/disks/srv.img"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(image)
    namespace.image(image, 2 << 30, fstype)
    _run("mount", image, "/srv")
    if kind == "binds":
        os.mkdir("/mnt/sources")
        for i in range(count):
            os.mkdir("/mnt/sources/%04d" % i)
    elif kind == "filesystems":
        os.mkdir("/mnt/images")
        for i in range(count):
            namespace.image("/mnt/images/%04d.img" % i, IMAGE)
    elif kind == "quotas":
        os.mkdir("/srv/quotas")
        for i in range(count):
            _subvolume("/srv/quotas", "%04d" % i)


def _subvolume(folder: str, name: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, name.encode())))
    finally:
        os.close(fd)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
