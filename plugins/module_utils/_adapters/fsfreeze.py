# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mounted filesystem held still (FIFREEZE, ioctl_fs(2)): whoever writes to it waits.

A process of its own holds it, which lets go as soon as the run that asked is done, is killed, or takes too long: a
filesystem that stays frozen would stop everybody who writes to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from typing import Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878


@contextlib.contextmanager
def frozen(fd: int, path: str, most: float = 60.0) -> Iterator[None]:
    """``fd`` is of something on it. ``timeout`` after ``most`` seconds: then it was not still all the time."""
    ready, told = os.pipe()
    ask, hold = os.pipe()
    child = os.fork()
    if not child:
        _hold(fd, told, ask, (ready, hold), most)
    os.close(told)
    os.close(ask)
    try:
        number = os.read(ready, 4)
        if number != b"\0":
            code = int(number or errno.EIO)
            if code == errno.EBUSY:
                raise StorageError("in_use", "%s is frozen already" % path, "fsfreeze --unfreeze %s" % path)
            raise failure(OSError(code, os.strerror(code)), "cannot freeze %s" % path)
        yield
    finally:
        os.close(ready)
        os.close(hold)
        _pid, status = os.waitpid(child, 0)
    if status:
        text = "%s could not be held still for longer than %.6g s: it would not be of one moment" % (path, most)
        raise StorageError("timeout", text, "detach it first, or move the pool to XFS or Btrfs, which share blocks")


def _hold(fd: int, told: int, ask: int, others: tuple[int, int], most: float) -> None:
    """Never returns: only system calls, in a process that may have lost its threads."""
    status = 1
    try:
        for other in others:
            os.close(other)
        try:
            fcntl.ioctl(fd, _FIFREEZE, 0)
        except OSError as error:
            os.write(told, b"%d" % (error.errno or errno.EIO))
            os._exit(0)
        try:
            os.write(told, b"\0")
            status = int(not select.select([ask], [], [], most)[0])
        finally:
            fcntl.ioctl(fd, _FITHAW, 0)
    finally:
        os._exit(status)
