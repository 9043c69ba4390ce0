# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may wait for ever is done by a process of its own, which is killed when its time is up.

A wait for a server of NFS ends by SIGKILL alone (the kernel's TASK_KILLABLE), so a thread or a signal of ours would not
do. Where not even that helps, the process is named and left behind: it ends when its wait does.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import time
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_GRACE = 2.0  # seconds for a killed process to end
_ROOM = 65536


class Child:
    """``work`` has begun when this is made; ``answer`` tells what it returned: nothing, or a descriptor of a file.

    It raises what ``work`` raised: OSError, StorageError, or OSError with ETIMEDOUT after so many ``seconds``.
    """

    def __init__(self, work: Callable[[], Any], seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            _work(work, theirs)
        theirs.close()

    def answer(self) -> int | None:
        """Waits until the deadline. The process is gone afterwards, or stuck in the kernel and named."""
        try:
            ready = select.select([self.ours], [], [], max(0.0, self.deadline - time.monotonic()))[0]
            data, fds = _received(self.ours) if ready else (b"", [])
        finally:
            self.ours.close()
            stuck = self._ended()
        if not ready:
            text = os.strerror(errno.ETIMEDOUT) + (", and its process %d is stuck in the kernel" % self.pid) * stuck
            raise OSError(errno.ETIMEDOUT, text)
        said = json.loads(data or b"null")
        if said is None:
            raise OSError(errno.EINTR, "the process that asked was killed")
        if said[0] == "error":
            raise StorageError(said[1], said[2], said[3], **said[4])
        if said[0] == "errno":
            raise OSError(said[1], said[2])
        return fds[0] if fds else None

    def _ended(self) -> bool:
        """End it, unless it has. True: it does not."""
        until = time.monotonic() + _GRACE
        os.kill(self.pid, signal.SIGKILL)  # ours and not waited for, so the number is its own
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            if time.monotonic() > until:
                return True
            time.sleep(0.002)
        return False


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    room = array.array("i")
    data, about, _flags, _address = connection.recvmsg(_ROOM, socket.CMSG_SPACE(room.itemsize))
    for level, kind, content in about:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            room.frombytes(content[: len(content) - len(content) % room.itemsize])
    for fd in room:
        os.set_inheritable(fd, False)
    return data, list(room)


def _work(work: Callable[[], Any], out: socket.socket) -> None:
    """Never returns, and never runs what its parent would do at its end."""
    try:
        rights: list[Any] = []
        try:
            found = work()
            said: list[Any] = ["done"]
            if isinstance(found, int) and not isinstance(found, bool):
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [found]))]
        except StorageError as error:
            said = ["error", error.code, error.message, error.hint, error.details]
        except OSError as exc:
            said = ["errno", exc.errno or errno.EIO, str(exc.strerror or exc)]
        out.sendmsg([json.dumps(said, default=str).encode()], rights)
    finally:
        os._exit(0)
