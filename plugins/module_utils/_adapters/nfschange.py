# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounting an export of NFS and letting go of one, by the kernel's own interface: fsconfig(2), umount2(2).

mount.nfs(8) would do no more for NFS 4 than find the server's address; here a mount has its flags before anybody sees
it, no value can smuggle in another option, and there is an end to the wait.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.child import Child
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.foreign import PATIENCE
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import SIZES
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import LINKLESS, check, libc, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_AWAY = frozenset(
    getattr(errno, name)
    for name in """ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH ETIMEDOUT EHOSTDOWN EPIPE ENOTCONN ENETDOWN
    EINTR""".split()
)


def tree(held: ExitStack, target: str, after: dict[str, Any]) -> int:
    """A detached mount of an export, with its flags, within its timeout."""
    server = after["source"].rpartition(":/")[0].strip("[]")
    options = {key[1:]: "%d" % after[key] for key in ("_rsize", "_wsize") if key in after}
    options = {**options, "source": after["source"]}
    given = {key: value for key, value in after.items() if key[2:] not in SIZES and value is not False}

    def work() -> int:
        error: StorageError | None = None
        for address in _addresses(server):
            try:
                return mountapi.filesystem(ExitStack(), target, after["fstype"], {**options, "addr": address}, given)
            except StorageError as failed:
                error = failed
        raise error or StorageError("not_found", "%s has no address" % server)

    away = after.get("_away", {})
    if server in away:
        raise StorageError(away[server].code, away[server].message, away[server].hint, **away[server].details)
    try:
        found = Child(work, after.get("_timeout", PATIENCE)).answer()
    except OSError as exc:
        text = "%s does not answer: %s" % (server, exc.strerror)
        away[server] = StorageError("unreachable", text, "see to the server and the network", errno=exc.errno)
        raise away[server] from exc
    except StorageError as error:
        raise _told(error, after) from error
    if found is None:
        raise StorageError("failed", "nothing was mounted of %s" % after["source"])
    return mountapi.own(held, found)


def _addresses(server: str) -> list[str]:
    try:
        found = socket.getaddrinfo(server, None, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        code = "not_found" if exc.errno == socket.EAI_NONAME else "unreachable"
        raise StorageError(code, "%s: %s" % (server, exc.strerror), "is its name right?", option="server") from exc
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _told(error: StorageError, after: dict[str, Any]) -> StorageError:
    """What the kernel's answer means: that it did not find the export, or the server."""
    number = error.details.get("errno")
    if number in _AWAY:
        error.code, error.hint = "unreachable", "is nfsd running there, and is port 2049 open?"
    elif number == errno.ENOENT:
        error.hint = "the server exports nothing of that name to this host"
    elif number == errno.EPROTONOSUPPORT:
        error.code, error.hint = "unsupported", "the server does not speak NFS %s" % after.get("o:vers")
    elif number in (errno.EINVAL, errno.EACCES, errno.EPERM) and str(after.get("o:sec", "sys")) != "sys":
        error.code, error.hint = "denied", "does rpc.gssd run, and has this host a keytab?"
    elif number in (errno.EACCES, errno.EPERM):
        error.code, error.hint = "denied", "the server does not export it to this host"
    return error


def unmount(target: str, at: int, name: bytes, number: int) -> None:
    """As mountapi.unmount. A server that is away is told before anything is changed: what it has not got would be lost.

    Its answer is waited for before anything is written to it: that wait can be ended, the other one cannot.
    """

    def written() -> None:
        fd = openat2(at, name, os.O_RDONLY, LINKLESS)
        os.fstatvfs(fd)
        check(libc.syncfs(fd))

    try:
        Child(written, PATIENCE).answer()
    except OSError as exc:
        # It has answered: it does not know it any more, or had no room, of which whoever wrote was told.
        if exc.errno not in (errno.ESTALE, errno.ENOSPC, errno.EDQUOT):
            text = "the server of %s does not answer: %s" % (target, exc.strerror)
            hint = "bring it back; umount --force gives up what was not written yet"
            raise StorageError("unreachable", text, hint, errno=exc.errno) from exc
    try:
        Child(lambda: mountapi.unmount(at, name, number), PATIENCE).answer()
    except OSError as exc:
        if exc.errno != errno.ETIMEDOUT:
            raise
        text = "%s is unmounted, and its server did not answer when it was told so" % target
        raise StorageError("unreachable", text, "look at the mount table", errno=exc.errno) from exc
