# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile file system in a process of its own (include/uapi/linux/fuse.h).

It says: all here is root's and 0755, and every name but ``dir`` is a link of root's to /etc. It takes every change of
owner and mode, and forgets it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
import subprocess
from typing import Callable, Iterator


def _serve(fd: int) -> None:
    init, getattr_, setattr_, lookup, readlink, statfs, forget = 26, 3, 4, 1, 5, 17, (2, 42)

    def attr(node: int) -> bytes:
        mode = 0o040755 if node < 3 else 0o120777
        return struct.pack("=6Q10I", node, 4, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    while True:
        try:
            request = os.read(fd, 1 << 18)
        except OSError:
            os._exit(0)
        _length, opcode, unique, node = struct.unpack_from("=IIQQ", request)
        if opcode in forget:
            continue
        error, body = 0, b""
        if opcode == init:
            body = struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, *[0] * 8)
        elif opcode in (getattr_, setattr_):
            body = struct.pack("=QII", 60, 0, 0) + attr(node)
        elif opcode == lookup:
            found = 2 if request[40:].startswith(b"dir\0") else 3
            body = struct.pack("=QQQQII", found, 0, 60, 60, 0, 0) + attr(found)
        elif opcode == readlink:
            body = b"/etc"
        elif opcode == statfs:
            body = bytes(80)
        else:
            error = -errno.ENOSYS
        os.write(fd, struct.pack("=IiQ", 16 + len(body), error, unique) + body)


@contextlib.contextmanager
def mounted(where: str, uid: int, source: str = "x", fstype: str = "fuse") -> Iterator[Callable[[], None]]:
    """Yields what makes it stop answering, for good."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    child = 0
    try:
        options = "fd=%d,rootmode=40000,user_id=%d,group_id=0,allow_other" % (fd, uid)
        subprocess.run(["mount", "-i", "-t", fstype, "-o", options, source, where], check=True, pass_fds=(fd,))
        child = os.fork()
        if not child:
            _serve(fd)
        yield lambda: os.kill(child, signal.SIGSTOP)
    finally:
        subprocess.run(["umount", "-l", where], check=False, stderr=subprocess.DEVNULL)
        os.close(fd)
        if child:
            os.kill(child, 9)
            os.waitpid(child, 0)
