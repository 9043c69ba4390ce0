# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One mount, asked by a descriptor of it: statx(2) and statmount(2) (linux/stat.h, linux/mount.h).

Everything that a row of mountinfo says is answered since Linux 6.13. The table costs all of its rows each time.
"""

from __future__ import annotations

import ctypes
import struct

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import libc

OLD_ID, UNIQUE_ID = 0x1000, 0x4000  # the number that mountinfo shows and that is used again, and the one that is not
_STATMOUNT = 457  # the same on x86_64 and aarch64
_EMPTY_PATH, _DONT_SYNC = 0x1000, 0x4000  # a server is not asked
# What of the superblock and the mount, what propagation; root, mount point, filesystem, options, its subtype, source.
_ANSWERED, _SILENT = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x200, 0x80 | 0x100  # these are left out when they are empty
_STRINGS = 512  # the text follows the structure
_FLAGS = {2: b"nosuid", 4: b"nodev", 8: b"noexec", 0x80: b"nodiratime", 0x100000: b"idmapped", 0x200000: b"nosymfollow"}
_ATIME = {0: (b"relatime",), 0x10: (b"noatime",), 0x20: ()}
_SUPER = ((0x10, b",sync"), (0x80, b",dirsync"), (1 << 25, b",lazytime"))
_SPREAD = ((1 << 20, "shared"), (1 << 19, "slave"), (1 << 17, "unbindable"))  # as a row of mountinfo is read

_syscall = libc["syscall"]
_syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
_syscall.restype = ctypes.c_long


def number(fd: int, which: int) -> int | None:
    """The number of the mount that a descriptor is in; None where the kernel does not say."""
    found = ctypes.create_string_buffer(256)
    if libc.statx(fd, b"", _EMPTY_PATH | _DONT_SYNC, which, found):
        return None  # a FUSE filesystem of somebody else tells us nothing, not even this
    mask, mount = struct.unpack_from("=I140xQ", found)
    return mount if mask & which else None


def row(fd: int) -> Mount | None:
    """As mountinfo would show it. None says nothing: the kernel is too old, the mount gone, or an answer is missing."""
    unique = number(fd, UNIQUE_ID)
    if unique is None:
        return None
    found = ctypes.create_string_buffer(_STRINGS + 8192)
    asked = struct.pack("=IIQQ", 24, 0, unique, _ANSWERED | _SILENT)
    if _syscall(_STATMOUNT, asked, found, len(found), 0):
        return None
    options, mask, major, minor, flags, fstype = struct.unpack_from("=4xIQII8xII", found)
    old, parent, attributes, propagation = struct.unpack_from("=IIQQ", found, 56)
    root, path = struct.unpack_from("=II", found, 104)
    subtype, source = struct.unpack_from("=II", found, 120)
    if mask & _ANSWERED != _ANSWERED or attributes & 0x70 not in _ATIME:
        return None

    def text(offset: int) -> bytes:
        return ctypes.string_at(ctypes.addressof(found) + _STRINGS + offset)

    words = [b"ro" if attributes & 1 else b"rw", *_ATIME[attributes & 0x70]]
    words += [word for bit, word in _FLAGS.items() if attributes & bit]
    spread = [word for bit, word in _SPREAD if propagation & bit]
    kind = text(fstype) + (b"." + text(subtype) if mask & 0x100 else b"")
    about = b"ro" if flags & 1 else b"rw"
    about += b"".join([word for bit, word in _SUPER if flags & bit]) + (b"," + text(options) if mask & 0x80 else b"")
    names = [raw.decode("utf-8", "surrogateescape") for raw in (text(root), text(path), kind, text(source))]
    dev = "%d:%d" % (major, minor)
    return Mount(
        old, parent, dev, names[0], names[1], frozenset(words), (spread or ["private"])[0], names[2], names[3], about
    )
