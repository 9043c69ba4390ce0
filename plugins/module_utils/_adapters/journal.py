# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run was about to do and how far it came, as JSON lines. A hint for people and for repair, never the truth."""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import re
import time
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory, sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

KEPT = 64
_line = json.JSONEncoder(default=str).encode
_FILE = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}-[0-9a-f]{8}\.jsonl", re.ASCII)


class Journal:
    """``broken`` says why it does not hold everything, if it does not."""

    def __init__(
        self, base: str = "/var/lib/bulkhead/journal", warn: Callable[[str], None] = lambda text: None
    ) -> None:
        self.base, self.warn = base, warn
        self.broken = ""
        self._fd = -1
        self._removes = False

    def begin(self, actions: list[dict[str, Any]], digest: str) -> str:
        """The whole plan on disk before its first put; returns the file. Prunes old ones, so call it under the lock.

        A plan that only removes goes on without (then "") where there is no room: how else would there be any again?
        """
        self._removes = bool(actions) and all(action.get("after", "") is None for action in actions)
        try:
            return self._begin(actions, digest)
        except StorageError as error:
            self._spare(error)
            return ""

    def _begin(self, actions: list[dict[str, Any]], digest: str) -> str:
        private_directory(os.path.dirname(self.base))
        private_directory(self.base)
        now = time.time()
        stamp = "%s.%06d" % (time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)), now % 1 * 1e6)
        path = os.path.join(self.base, "%s-%s.jsonl" % (stamp, binascii.hexlify(os.urandom(4)).decode()))
        head = {"digest": digest, "actions": len(actions), "pid": os.getpid()}
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._write([head] + [{"action": action} for action in actions], True)
            sync_directory(self.base)
            for old in self._files()[:-KEPT]:
                os.unlink(old)
        except (OSError, StorageError) as error:
            self._close()
            with contextlib.suppress(OSError):
                os.unlink(path)  # a torn one would take the last room, and tell of a run that never was
            if isinstance(error, OSError):
                raise failure(error, "cannot write %s" % path) from error
            raise
        return path

    def step(self, index: int, outcome: str, sync: bool) -> None:
        """One line. With ``sync`` on disk before we return, or an error; without, a failure is kept in ``broken``."""
        try:
            self._write([{"step": index, "outcome": outcome, "at": round(time.time(), 3)}], sync)
        except StorageError as error:
            self._spare(error)

    def end(self, summary: dict[str, Any]) -> None:
        self._write([{"end": summary}], False)
        self._close()
        if self.broken:
            self.warn("not everything that was done is in the journal: %s" % self.broken)

    def _spare(self, error: StorageError) -> None:
        if error.code != "no_space" or not self._removes:
            raise error
        self.broken = error.message

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _write(self, rows: list[dict[str, Any]], sync: bool) -> None:
        if self._fd < 0:  # there was no room for it
            return
        data = "".join([_line(row) + "\n" for row in rows]).encode("ascii")
        try:
            while data:  # a short write is followed by the error that cut it short
                data = data[os.write(self._fd, data) :]
            if sync:
                os.fsync(self._fd)
        except OSError as error:
            self.broken = str(error)
            if sync:
                text = "cannot write the journal in %s" % self.base
                raise failure(error, text, "nothing that must be undoable is done without it") from error

    def last(self) -> dict[str, Any] | None:
        """The newest journal: ``path, digest, actions, steps, end`` (``end`` None when the run did not get there)."""
        files = self._files()
        return _read(files[-1]) if files else None

    def unfinished(self) -> list[dict[str, Any]]:
        """Journals without an end, oldest first: runs that were killed (or one that still runs, outside the lock)."""
        return [found for found in map(_read, self._files()) if found["end"] is None]

    def _files(self) -> list[str]:
        try:
            names = os.listdir(self.base)
        except FileNotFoundError:
            return []
        return [os.path.join(self.base, name) for name in sorted(names) if _FILE.fullmatch(name)]


def _read(path: str) -> dict[str, Any]:
    rows = []
    with open(path, "rb") as f:
        for line in f:
            with contextlib.suppress(ValueError):  # torn by a kill or a full disk
                rows.append(json.loads(line.decode("ascii")))
    found: dict[str, Any] = {"path": path, "digest": "", "end": None}
    found["actions"] = [row["action"] for row in rows if "action" in row]
    found["steps"] = [row for row in rows if "step" in row]
    for row in rows:
        found.update({key: row[key] for key in ("digest", "end") if key in row})
    return found
