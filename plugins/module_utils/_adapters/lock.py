# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: an flock(2) on a file. The flock is the lock, its text a courtesy."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import time
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# What outlives a run, what it did, and what runs hold each other off with.
FOLDERS = ("/var/lib/bulkhead", "/var/lib/bulkhead/journal", "/run/bulkhead")


def private_directory(path: str) -> str:
    """Make ``path`` (0700, parents 0755) where missing; ``unsafe_path`` when others own it or may write to it."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        _examine(path)
    except OSError as error:
        raise failure(error, "cannot make %s" % path) from error
    return path


def _examine(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        problem = "%s is not a directory that only its owner, root, can write to" % path
        raise StorageError("unsafe_path", problem, "chown root:root and chmod 0700 it, or remove it")


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Lock:
    """``with Lock("host"):`` holds one world. Waits for ``timeout`` seconds, then ``locked`` names the holder.

    ``shared``: beside others who only look, and nothing is written; where there is no file, nobody is at work.
    """

    def __init__(
        self,
        name: str = "host",
        base: str = "/run/bulkhead",
        timeout: float = 30.0,
        what: str = "",
        shared: bool = False,
    ) -> None:
        plain = re.sub(r"[^a-zA-Z0-9:_.-]", lambda m: "%%%x" % ord(m.group()), name)  # names may hold slashes
        self.base, self.path, self.timeout = base, os.path.join(base, plain + ".lock"), timeout
        self.what = what or os.path.basename(sys.argv[0]) or "python"
        self.shared, self._fd = shared, -1

    def __enter__(self) -> Lock:
        if not self.shared:
            private_directory(self.base)
        deadline = time.monotonic() + self.timeout
        while not self._try():
            if time.monotonic() >= deadline:
                raise self._locked()
            time.sleep(min(0.05, self.timeout))
        if self.shared:
            return self
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError):  # a full /run takes the courtesy away, not the lock
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, ascii("%d %s %s" % (os.getpid(), since, self.what))[1:-1].encode()[:512], 0)
        return self

    def __exit__(self, *exc: Any) -> None:
        fd, self._fd = self._fd, -1
        if not self.shared:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)  # the next holder may be slow to write its own name
        if fd >= 0:
            os.close(fd)

    def unready(self, paths: Iterable[str] = FOLDERS) -> list[StorageError]:
        """Why no run could trust its folders. What is not there yet will be made."""
        found = []
        for path in paths:
            try:
                _examine(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.append(failure(error, "cannot look at %s" % path))
            except StorageError as error:
                found.append(error)
        return found

    def _try(self) -> bool:
        """One attempt. A file that was unlinked or replaced meanwhile guards nothing, so its lock is let go."""
        how = os.O_RDONLY if self.shared else os.O_RDWR | os.O_CREAT
        try:
            fd = os.open(self.path, how | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if self.shared and error.errno in (errno.ENOENT, errno.EACCES):
                return True  # nobody was at work; or who may not see the lock is told what is seen without it
            raise failure(error, "cannot open the lock %s" % self.path) from error
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.lstat(self.path)):
                self._fd, fd = fd, -1
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return self._fd >= 0

    def _locked(self) -> StorageError:
        """The holder by its own text, if that process still lives: a dead holder's text says nothing about the lock."""
        holder = "a process that left no name"
        details: dict[str, Any] = {}
        pid = rest = ""
        with contextlib.suppress(OSError), open(self.path, "rb") as f:
            pid, _blank, rest = f.read(512).decode("ascii", "replace").partition(" ")
        if pid.isdigit() and os.path.exists("/proc/" + pid):
            since, _blank, what = rest.partition(" ")
            holder = "process %s (%s) since %s" % (pid, what, since)
            details = {"pid": int(pid), "what": what, "since": since}
        text = "%s is held by %s; waited %.6g s" % (self.path, holder, self.timeout)
        return StorageError("locked", text, "wait for it to end, or raise lock_timeout", **details)
