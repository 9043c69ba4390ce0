# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor: the system calls that the declarations come to, with nothing around them.

``python3 bare.py <kind> <how many>`` makes it so, looks again, and prints what both cost inside the loops, without the
start of Python. It stands alone, so that any interpreter can run it. It checks nothing, follows every link and races
everybody: it is a yardstick, not an example.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import stat
import struct
import subprocess
import sys
import time
from typing import Callable, Tuple

Loops = Tuple[Callable[[], None], Callable[[], None]]

_libc = ctypes.CDLL(None, use_errno=True)
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_SUBVOL_CREATE, _QGROUP_LIMIT, _QUOTA_CTL, _INO_LOOKUP, _TREE_SEARCH_V2 = (
    0x5000940E,
    0x8030942B,
    0xC0109428,
    0xD0009412,
    0xC0709411,
)
_NOSUID, _NODEV, _NOEXEC, _BIND, _REMOUNT = 2, 4, 8, 4096, 32
_LIMIT = 64 << 20


def main() -> None:
    first, again = KINDS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"first": _cost(first), "again": _cost(again)}))


def _cost(run: Callable[[], None]) -> dict[str, float]:
    cpu, wall = _cpu(), time.perf_counter()
    run()
    return {"cpu": _cpu() - cpu, "wall": time.perf_counter() - wall, "rss": 0.0}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _same(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit("found %r, not %r" % (found, wanted))


def _acl(index: int) -> bytes:
    """Three users with rwx beside the owner and the group of mode 2770 (linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    users = [(2, 7, 100000 + 3 * index + k) for k in range(3)]
    entries = [(1, 7, nobody), *users, (4, 7, nobody), (16, 7, nobody), (32, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def directories(count: int) -> Loops:
    wanted = [("/srv/tenants/t%04d" % i, 10000 + i, _acl(i)) for i in range(count)]

    def first() -> None:
        os.mkdir("/srv/tenants")
        for path, owner, acl in wanted:
            os.mkdir(path)
            os.chown(path, owner, 100)
            os.chmod(path, 0o2770)
            os.setxattr(path, _ACCESS, acl)
            os.setxattr(path, _DEFAULT, acl)

    def again() -> None:
        for path, owner, acl in wanted:
            seen = os.lstat(path)
            _same((seen.st_mode, seen.st_uid, seen.st_gid), (stat.S_IFDIR | 0o2770, owner, 100))
            _same((os.getxattr(path, _ACCESS), os.getxattr(path, _DEFAULT)), (acl, acl))

    return first, again


def tmpfs(count: int) -> Loops:
    paths = [b"/mnt/tmpfs/%04d" % i for i in range(count)]

    def first() -> None:
        os.mkdir("/mnt/tmpfs")
        for path in paths:
            os.mkdir(path)
            _mount(b"tmpfs", path, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"size=1m,nr_inodes=1024,mode=1777")

    return first, lambda: _mounted(paths, b"tmpfs", b"nosuid")


def binds(count: int) -> Loops:
    paths = [(b"/mnt/sources/%04d" % i, b"/mnt/binds/%04d" % i) for i in range(count)]

    def first() -> None:
        os.mkdir("/mnt/binds")
        for source, path in paths:
            os.mkdir(path)
            _mount(source, path, b"", _BIND, b"")
            _mount(b"", path, b"", _BIND | _REMOUNT | _NOSUID | _NODEV, b"")

    return first, lambda: _mounted([path for _source, path in paths], b"tmpfs", b"nosuid")


def _mount(source: bytes, path: bytes, fstype: bytes, flags: int, data: bytes) -> None:
    if _libc.mount(source, path, fstype, ctypes.c_ulong(flags), data):
        raise OSError(ctypes.get_errno(), "mount", path)


def _mounted(paths: list[bytes], fstype: bytes, option: bytes) -> None:
    with open("/proc/self/mountinfo", "rb") as stream:
        rows = [line.split(b" ") for line in stream]
    there = {row[4]: (row[5], row[row.index(b"-") + 1]) for row in rows}
    for path in paths:
        options, found = there[path]
        _same((found, option in options.split(b",")), (fstype, True))


def filesystems(count: int) -> Loops:
    paths = ["/mnt/images/%04d.img" % i for i in range(count)]

    def first() -> None:
        for path in paths:
            subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)

    def again() -> None:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            _same(os.pread(fd, 2, 1024 + 0x38), b"\x53\xef")
            os.close(fd)

    return first, again


def quotas(count: int) -> Loops:
    return _limited("/srv/quotas", ["%04d" % i for i in range(count)], False)


def volumes(count: int) -> Loops:
    return _limited("/srv/pool", ["v%04d" % i for i in range(count)], True)


def _limited(base: str, names: list[str], make: bool) -> Loops:
    paths = ["%s/%s" % (base, name) for name in names]

    def first() -> None:
        if make:
            os.mkdir(base)
        at = os.open(base, os.O_RDONLY)
        fcntl.ioctl(at, _QUOTA_CTL, struct.pack("=QQ", 4, 0))
        for name, path in zip(names, paths):
            if make:
                fcntl.ioctl(at, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, name.encode())))
                os.chown(path, 1000, 0)
                os.chmod(path, 0o700)
            limit = struct.pack("=QQQQQQ", _subvolume(path), 1, _LIMIT, 0, 0, 0)
            fcntl.ioctl(at, _QGROUP_LIMIT, limit)
        os.close(at)

    def again() -> None:
        at = os.open(base, os.O_RDONLY)
        limits = _limits(at)
        os.close(at)
        for path in paths:
            if make:
                seen = os.lstat(path)
                _same((seen.st_uid, seen.st_mode & 0o7777), (1000, 0o700))
            _same(limits[_subvolume(path)], _LIMIT)

    return first, again


def _subvolume(path: str) -> int:
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(struct.pack("=QQ4080x", 0, 256))
    fcntl.ioctl(fd, _INO_LOOKUP, buffer)
    os.close(fd)
    return int(struct.unpack_from("=Q", buffer)[0])


def _limits(fd: int) -> dict[int, int]:
    """{subvolume: its limit}, from the quota tree (8): items of type 244."""
    found: dict[int, int] = {}
    size, start = 1 << 17, 0
    while True:
        buffer = bytearray(112 + size)
        struct.pack_into("=7QIII", buffer, 0, 8, 0, 0, start, 2**64 - 1, 0, 2**64 - 1, 244, 244, 1 << 20)
        struct.pack_into("=Q", buffer, 104, size)
        fcntl.ioctl(fd, _TREE_SEARCH_V2, buffer)
        count, at = struct.unpack_from("=I", buffer, 64)[0], 112
        if not count:
            return found
        for _item in range(count):
            _transid, _objectid, offset, _kind, length = struct.unpack_from("=QQQII", buffer, at)
            found[offset] = struct.unpack_from("=QQ", buffer, at + 32)[1]
            at += 32 + length
        start = offset + 1


KINDS = {
    "directories": directories,
    "tmpfs": tmpfs,
    "binds": binds,
    "filesystems": filesystems,
    "quotas": quotas,
    "volumes": volumes,
}

if __name__ == "__main__":
    main()
