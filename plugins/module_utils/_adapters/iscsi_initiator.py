# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name by which this host logs in to iSCSI targets: a line of /etc/iscsi/initiatorname.iscsi (iscsid(8))."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, met

FILE = "/etc/iscsi/initiatorname.iscsi"
SESSIONS = "/sys/class/iscsi_session"
PID = "/run/iscsid.pid"
WORD, MAKE = b"InitiatorName", b"GenerateName=yes"  # the second: Debian's iscsid.service has one made when it starts


class IscsiInitiator:
    """Port ``iscsi_initiator``: the file -> ``{name, heard}``. iscsid reads it when it starts: has it, since?

    While somebody is logged in by the old name nothing changes, so that is not asked then.
    """

    name, behind, slow = "iscsi_initiator", False, False

    def __init__(self, run: Callable[..., Any] | None = None, sessions: str = SESSIONS, pid: str = PID) -> None:
        self.run, self.folder, self.pid, self.stale = run, sessions, pid, False

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        rows = {}
        for file in (FILE,) if targets is None else targets:
            name = found(read(file))[1]
            if name:
                heard = self.stale or self.heard(file) or bool(self.sessions())
                rows[file] = {"name": name.decode("utf-8", "backslashreplace"), "heard": heard}
        return rows

    def heard(self, file: str) -> bool:
        """A run that was killed before it told iscsid leaves a file that is younger than it."""
        try:
            number = read(self.pid).decode("ascii", "replace").strip()
            runs = number.isdigit() and read("/proc/%s/comm" % number).strip() == b"iscsid"
            return not runs or os.stat(self.pid).st_mtime_ns > os.stat(file).st_mtime_ns
        except FileNotFoundError:
            return True

    def sessions(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except FileNotFoundError:  # its module is not loaded
            return []
        except OSError as error:
            raise failure(error, "cannot look into " + self.folder) from error

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return bool(now.get("heard", True)) and met(now, declared)

    def merge(self, target: str, now: Any, declared: Any) -> dict[str, Any]:
        return {**declared, "heard": True}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_initiatorchange

        return iscsi_initiatorchange.refusal(self, target, after)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_initiatorchange

        iscsi_initiatorchange.put(self, target, before, after)
        self.stale = True

    def flush(self) -> None:
        if self.stale:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_initiatorchange

            self.stale = False
            iscsi_initiatorchange.restart(self.run)


def read(file: str) -> bytes:
    """A missing one is empty."""
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise failure(error, "cannot read " + file) from error


def found(text: bytes) -> tuple[int, bytes]:
    """The number of the line that counts, and its value, which is empty where it will not stay; -1 if there is none.

    As cfg_get_string_param of usr/iscsi_util.c reads it: the first line with the word, no ``#`` before it, and a value.
    """
    lines = text.split(b"\n")
    made = any(line.startswith(MAKE) for line in lines)
    for number, line in enumerate(lines):
        before, word, rest = line.partition(WORD)
        if word and b"#" not in before:
            value = rest.partition(b"=")[2].strip()
            if value:
                return number, b"" if made else value
    return -1, b""
