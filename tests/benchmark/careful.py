# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor of a safe run: what ``bare`` does, by the fewest calls that keep the engine's promises.

Nobody's link is followed (openat2), what is to appear is finished under a private name first, nothing is made over what
came in between (RENAME_NOREPLACE), there is a look before the lock, one under it and one when all is done, and what the
kernel was asked for is read back. It has no declarations, no plan, no journal and no errors worth reading: what
``layout`` takes above these loops is the price of those, what the loops take above ``bare`` is the price of safety.

``python3 careful.py <kind> <how many>`` prints the cost of its loops.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from typing import Callable

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bare import _ACCESS, _DEFAULT, _acl, _cost, _same  # noqa: E402

_OPENAT2, _RENAMEAT2, _STATX, _STATMOUNT = 437, 316, 332, 457  # x86_64
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_BENEATH = 0x08 | 0x04 | 0x02  # and no symlinks, no magic links
_FOLDER = struct.pack("=QQQ", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, 0, _BENEATH)
_PLACE = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY, 0, _BENEATH)
_NOREPLACE, _EMPTY_PATH, _CLOEXEC = 1, 0x1000, 1
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_ONTO = 0x4 | 0x40  # both ends of move_mount(2) by descriptor
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def main() -> None:
    run = KINDS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(_cost(run)))


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "system call %d" % number)
    return result


def _looked(at: int, names: list[bytes]) -> int:
    """How many are there."""
    found = 0
    for name in names:
        fd = _syscall(_OPENAT2, at, name, _PLACE, 24)
        if fd >= 0:
            os.close(fd)
            found += 1
    return found


def _made(at: int, name: bytes, finish: Callable[[int], None]) -> None:
    private = b".bulkhead-" + os.urandom(8).hex().encode()
    os.mkdir(private, 0o700, dir_fd=at)
    fd = _call(_OPENAT2, at, private, _FOLDER, 24)
    finish(fd)
    _call(_RENAMEAT2, at, private, at, name, _NOREPLACE)
    os.close(fd)


def directories(count: int) -> Callable[[], None]:
    os.mkdir("/srv/tenants")
    wanted = [(b"t%04d" % i, 10000 + i, _acl(i)) for i in range(count)]
    names = [name for name, _owner, _entries in wanted]

    def run() -> None:
        at = os.open("/srv/tenants", os.O_RDONLY)
        _same((_looked(at, names), _looked(at, names)), (0, 0))
        for name, owner, acl in wanted:

            def finish(fd: int) -> None:
                os.fchown(fd, owner, 100)  # noqa: B023
                os.fchmod(fd, 0o2770)
                os.setxattr(fd, _ACCESS, acl)  # noqa: B023
                os.setxattr(fd, _DEFAULT, acl)  # noqa: B023

            _made(at, name, finish)
        for name, owner, acl in wanted:
            fd = _call(_OPENAT2, at, name, _FOLDER, 24)
            seen = os.fstat(fd)
            _same((seen.st_uid, seen.st_gid, seen.st_mode & 0o7777), (owner, 100, 0o2770))
            _same((os.getxattr(fd, _ACCESS), os.getxattr(fd, _DEFAULT)), (acl, acl))
            os.close(fd)

    return run


def _point(fd: int) -> None:
    os.fchmod(fd, 0o755)


def tmpfs(count: int) -> Callable[[], None]:
    os.mkdir("/mnt/tmpfs")
    names = [b"%04d" % i for i in range(count)]
    words = ((b"size", b"1m"), (b"nr_inodes", b"1024"), (b"mode", b"1777"))

    def run() -> None:
        at = os.open("/mnt/tmpfs", os.O_RDONLY)
        _same((_looked(at, names), _looked(at, names)), (0, 0))
        for name in names:
            _made(at, name, _point)
            onto = _call(_OPENAT2, at, name, _PLACE, 24)
            filesystem = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
            for key, value in words:
                _call(_FSCONFIG, filesystem, 1, key, value, 0)
            _call(_FSCONFIG, filesystem, 6, None, None, 0)
            mount = _call(_FSMOUNT, filesystem, _CLOEXEC, _NOSUID | _NODEV | _NOEXEC)
            _call(_MOVE_MOUNT, mount, b"", onto, b"", _ONTO)
            for fd in (filesystem, mount, onto):
                os.close(fd)
        _read_back(at, names, _NOSUID | _NODEV | _NOEXEC)

    return run


def binds(count: int) -> Callable[[], None]:
    os.mkdir("/mnt/binds")
    names = [b"%04d" % i for i in range(count)]
    attributes = struct.pack("=QQQQ", _NOSUID | _NODEV, 0, 0, 0)

    def run() -> None:
        at, sources = os.open("/mnt/binds", os.O_RDONLY), os.open("/mnt/sources", os.O_RDONLY)
        _same((_looked(at, names), _looked(sources, names), _looked(at, names)), (0, count, 0))
        for name in names:
            _made(at, name, _point)
            onto, source = _call(_OPENAT2, at, name, _PLACE, 24), _call(_OPENAT2, sources, name, _PLACE, 24)
            mount = _call(_OPEN_TREE, source, b"", _EMPTY_PATH | _CLOEXEC | os.O_CLOEXEC)
            _call(_MOUNT_SETATTR, mount, b"", _EMPTY_PATH, attributes, 32)
            _call(_MOVE_MOUNT, mount, b"", onto, b"", _ONTO)
            for fd in (mount, onto, source):
                os.close(fd)
        _read_back(at, names, _NOSUID | _NODEV)

    return run


def _read_back(at: int, names: list[bytes], attributes: int) -> None:
    """statx(2) for the number of the mount, statmount(2) for what it is."""
    seen, answer = ctypes.create_string_buffer(256), ctypes.create_string_buffer(1024)
    for name in names:
        fd = _call(_OPENAT2, at, name, _PLACE, 24)
        _call(_STATX, fd, b"", _EMPTY_PATH, 0x4000, seen)
        os.close(fd)
        asked = struct.pack("=IIQQ", 24, 0, struct.unpack_from("=Q", seen, 144)[0], 0x1 | 0x2 | 0x10 | 0x20)
        _call(_STATMOUNT, asked, answer, len(answer), 0)
        _same(struct.unpack_from("=Q", answer, 64)[0] & attributes, attributes)


KINDS = {"directories": directories, "tmpfs": tmpfs, "binds": binds}

if __name__ == "__main__":
    main()
