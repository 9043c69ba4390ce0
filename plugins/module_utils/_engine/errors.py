# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error type. Its codes are part of the interface; docs/docsite/rst/errors.rst explains each."""

from __future__ import annotations

from typing import Any

CODES = frozenset(
    """invalid conflict unsafe_path not_found not_blank unreadable unstable_device in_use protected would_shrink
    would_destroy not_enforced unsupported limit_exceeded no_space checksum denied unreachable missing_tool locked
    moved unfenced did_not_settle timeout failed""".split()
)


class StorageError(Exception):
    """What went wrong (``code``, ``message``), what to do next (``hint``), what a program may want (``details``)."""

    def __init__(self, code: str, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        if code not in CODES:
            raise ValueError("unknown error code %r" % (code,))
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details
        self.entry = ""

    def at(self, entry: str) -> StorageError:
        """Name the entry this error is about, unless a deeper place already did."""
        self.entry = self.entry or entry
        return self

    def as_dict(self) -> dict[str, Any]:
        return {
            "entry": self.entry,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }

    def __str__(self) -> str:
        where = "%s: " % self.entry if self.entry else ""
        return where + self.message + (" (%s)" % self.hint if self.hint else "")


class Refusals(Exception):
    """Every refusal of a stage, raised at once before its first put."""

    def __init__(self, errors: list[StorageError]) -> None:
        super().__init__("; ".join(str(e) for e in errors))
        self.errors = errors
