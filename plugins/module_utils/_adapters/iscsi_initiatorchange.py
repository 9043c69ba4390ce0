# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing the name by which this host logs in, and having iscsid hear of it. Loaded only where it differs."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, iscsi_initiator, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import MAKE, WORD
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_NAME = re.compile(r"(iqn|eui|naa)\.[A-Za-z0-9:._-]{1,219}", re.ASCII)  # RFC 7143, 4.2.7: 223 bytes
_UNIT = "iscsid.service"


def refusal(port: Any, file: str, after: Any) -> StorageError | None:
    if after is None:
        return StorageError("unsupported", "the name in %s is changed, not removed" % file)
    if not _NAME.fullmatch(after["name"]):
        text = "initiator name %.250r is no name of iSCSI" % after["name"]
        return StorageError("invalid", text, "such as iqn.2026-01.org.example:host", option="initiator_name")
    if not os.path.isdir(os.path.dirname(file)):
        text = "there is no %s" % os.path.dirname(file)
        return StorageError("missing_tool", text, "install open-iscsi (Debian) or iscsi-initiator-utils (RHEL)")
    return in_use(port)


def in_use(port: Any) -> StorageError | None:
    """Targets know who is logged in by the old name; when a session is recovered it would come by the new one."""
    sessions = port.sessions()
    if not sessions:
        return None
    text = "this host is logged in to targets of iSCSI (%s), by the name it has" % ", ".join(sessions[:10])
    return StorageError("in_use", text, "log out of all of them first", option="initiator_name")


def put(port: Any, file: str, before: Any, after: Any) -> None:
    if port.scan([file]).get(file) != before:
        raise StorageError("moved", "%s changed since it was read" % file, "run it again")
    error = refusal(port, file, after) if after is not None else in_use(port)
    if error is not None:
        raise error
    old = iscsi_initiator.read(file)
    new = edited(old, None if after is None else after["name"].encode())
    try:
        if new or after is not None:
            atomic.replace(file, new, mode=None if os.path.exists(file) else 0o600)
        else:
            os.unlink(file)
            sync_directory(os.path.dirname(file))
    except OSError as problem:
        raise failure(problem, "cannot write " + file) from problem


def edited(text: bytes, name: bytes | None) -> bytes:
    """With another name, or as it was before it had one. What would have one made over it is out of use meanwhile."""
    mark = b"#" + MAKE
    number = iscsi_initiator.found(text)[0]
    lines = text.split(b"\n")
    if name is None:
        lines = lines[:number] + lines[number + 1 :]
        return b"\n".join(MAKE + line[len(mark) :] if line.startswith(mark) else line for line in lines)
    # iscsid takes blanks around the sign, the check before Debian starts it does not
    line = WORD + b"=" + name
    if number >= 0:
        lines[number] = line
    else:
        lines = [*lines[:-1], line, lines[-1]] if not lines[-1] else [*lines, line, b""]
    return b"\n".join(b"#" + line if line.startswith(MAKE) else line for line in lines)


def restart(run: Callable[..., Any] | None) -> None:
    """If it runs: its socket starts it, too, when somebody needs it."""
    if not os.path.isdir("/run/systemd/system"):
        return
    code, _out, err = (run or program.execute)(["systemctl", "try-restart", _UNIT])
    if code:
        said = err.decode("utf-8", "replace").strip() or "it ended with %d" % code
        hint = "iscsid goes by the old name until it is started again: see systemctl status " + _UNIT
        raise StorageError("failed", "systemctl try-restart %s: %.300s" % (_UNIT, said), hint)
