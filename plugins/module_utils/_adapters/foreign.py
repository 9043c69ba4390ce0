# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that show the answers of somebody else's program or machine: judged without asking it, as it may never answer.

Even fstat(2), statfs(2) or open(2) of such a root may wait for its server for ever; an O_PATH descriptor, the table of
mounts and an unmount do not.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

PATIENCE = 30.0  # seconds for a server to answer where nothing is declared
# Seconds for which it is believed that it answers, as who asks more of one that has just died waits for ever, and
# that it does not, as each question then takes all the patience.
_FRESH, _GONE = 0.5, 10.0
# What is known of the root of a mount that its server does not know any more: that something is mounted there.
FORGOTTEN: dict[str, Any] = {
    "type": "directory",
    "uid": 0,
    "gid": 0,
    "mode": 0o755,
    "acl": (),
    "default_acl": (),
    "_dev": 0,
}
FORGOTTEN.update(_ino=0, _raw=(b"", b""), _mounted=True, _trusted=True)
stale: set[int] = set()  # numbers of mounts that their server does not know any more
answered: dict[int, tuple[float, StorageError | None]] = {}  # by the number of a mount: when, and what


def judged(fd: int, path: str, trusted: bool) -> bool:
    """Does the mount of an O_PATH descriptor ask a server? ``unsafe_path`` where that server may be a tenant's.

    That is where others than root can write, and the program of another user anywhere: what is root's own directory
    may have been theirs when it was mounted over.
    """
    number = mountinfo.mount_id(fd)
    row = next((row for row in mountinfo.parse(mountinfo.read()) if row.id == number), None)
    if row is None:
        raise StorageError("moved", "%s was unmounted while it was looked at" % path, "run it again")
    if not mountinfo.served(row.fstype):
        return False
    if not trusted or mountinfo.options(row.super_options).get("user_id", "0") != "0":
        text = "%s is a mount of type %s: what it shows is up to somebody else's server" % (path, row.fstype)
        hint = "unmount it (mount with state: absent), or look at it by hand"
        raise StorageError("unsafe_path", text, hint, fstype=row.fstype)
    if row.fstype in mountinfo.NETWORK:
        _reachable(fd, number, row.path)
    return True


def _reachable(fd: int, number: int, path: str) -> None:
    """``unreachable`` unless its server answers: whoever asks more of it would wait for ever."""
    when, error = answered.get(number, (0.0, None))
    if not when or time.monotonic() - when > (_GONE if error else _FRESH):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import child

        error = told(child.Child(lambda: os.fstatvfs(fd), PATIENCE), number, path)
    if error is not None:
        raise StorageError(error.code, error.message, error.hint, **error.details)  # another entry may be told too


def told(asked: Any, number: int, path: str) -> StorageError | None:
    """What became of asking the server of a mount. One that does not know it any more has answered."""
    error = None
    stale.discard(number)
    try:
        asked.answer()
    except OSError as exc:
        if exc.errno != errno.ESTALE:
            text = "the server of %s does not answer: %s" % (path, exc.strerror)
            error = StorageError("unreachable", text, "see to the server and the network", errno=exc.errno)
        else:
            stale.add(number)
    answered[number] = time.monotonic(), error
    return error


def peek(at: int, name: str | bytes) -> os.stat_result:
    """lstat(2) of a name that is no mount (EXDEV): that of a mount would ask its server."""
    fd = openat2(at, os.fsencode(name), os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def unasked(path: str) -> None:
    """``unsafe_path`` where one would have to be asked for a path. What is not there, or is shut, others tell."""
    try:
        with Walk() as walk:
            os.close(walk.open(path, os.O_PATH))
    except StorageError as error:
        if error.code == "unsafe_path":
            raise
