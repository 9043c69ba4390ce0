# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a mount busy, for the message of ``in_use``: bounded in time and number, links are read, never followed."""

from __future__ import annotations

import os
import time
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_LIMIT, _PATIENCE = 10, 2.0


def in_use(target: str, dev: str) -> StorageError:
    found = holders(target, dev)
    named = ", ".join("%(pid)d (%(command)s, %(by)s)" % each for each in found)
    text = "%s is in use%s" % (target, " by " + named if named else "")
    return StorageError("in_use", text, "stop what uses it, or unmount what is mounted beneath it", holders=found)


def holders(target: str, dev: str) -> list[dict[str, Any]]:
    """Up to ten processes with their working directory, root, program or a file beneath ``target``, or whose own mount
    namespace holds the filesystem ``dev`` (major:minor)."""
    deadline = time.monotonic() + _PATIENCE
    found: list[dict[str, Any]] = []
    base, namespaces = encode(target), {_link("/proc/self/ns/mnt"): False}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if len(found) == _LIMIT or time.monotonic() > deadline:
            break
        by = _use("/proc/%d" % pid, base)
        space = _link("/proc/%d/ns/mnt" % pid)
        if not by and space:
            if space not in namespaces:
                namespaces[space] = b" %s " % dev.encode() in _content("/proc/%d/mountinfo" % pid)
            by = "mount namespace" if namespaces[space] else ""
        if by:
            command = _content("/proc/%d/comm" % pid).strip().decode("utf-8", "replace")
            found.append({"pid": pid, "command": command, "by": by})
    return found


def namespaces() -> Iterator[tuple[int, bytes]]:
    """A process of every other mount namespace, and what is mounted in it."""
    seen = {_link("/proc/self/ns/mnt"), b""}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        space = _link("/proc/%d/ns/mnt" % pid)
        if space not in seen:
            seen.add(space)
            yield pid, _content("/proc/%d/mountinfo" % pid)


def _use(process: str, base: bytes) -> str:
    for name in ("cwd", "root", "exe"):
        if _within(_link("%s/%s" % (process, name)), base):
            return name
    try:
        numbers = os.listdir(process + "/fd")
    except OSError:
        return ""  # it ended while we looked
    return next(("open file" for n in numbers if _within(_link("%s/fd/%s" % (process, n)), base)), "")


def _within(path: bytes, base: bytes) -> bool:
    return path == base or path.startswith(base.rstrip(b"/") + b"/")


def _link(path: str) -> bytes:
    try:
        return os.readlink(os.fsencode(path))
    except OSError:
        return b""


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""
