# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS devices opened, grown and closed. Imported by the port ``mapping`` only when one is not as declared."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blank, blkprobe, luksheader
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cryptsetup import Cryptsetup, key, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dmcrypt import FOLDER, Mapping
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lukschange import denied, slot_of
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, known_as
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import met, state_of


def refuse(port: Mapping, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    try:
        program(port.search)
        if after is None:
            _closable(target, before, gone)
        elif before is None:
            _openable(port, target, after, gone)
        elif before["device"] != after["device"]:
            text = "%s is a mapping of something else: %s" % (target, before["device"] or "of no single device")
            raise StorageError("conflict", text, "choose another name, or close it first")
    except StorageError as error:
        return error
    except OSError as error:
        return failure(error, "cannot look at " + target)
    return None


def _closable(target: str, before: dict[str, Any], gone: Any = frozenset()) -> None:
    if not before["_crypt"]:
        raise StorageError("conflict", "%s is no LUKS device" % target, "choose another name")
    look = Sysfs()
    users = [known_as(user) for user in look.in_use(target, look.resolve(target))]
    error = blank.in_use(target, blank.staying(users, gone))
    if error is not None:
        raise error


def _openable(port: Mapping, target: str, after: dict[str, Any], gone: set[Any]) -> None:
    """Where LUKS is already: does the key open it, and is it free? The key of another is made with it."""
    device = after["device"]
    if device not in port.luks.finished:
        return
    look = Sysfs()
    users = [known_as(user) for user in look.in_use(device, look.resolve(device))]
    error = blank.in_use(device, blank.staying(users, gone))
    if error is not None:
        raise error
    with _Opened(device) as (fd, _path):
        head = luksheader.read(fd)
        if head is not None and not any(slot_of(port.luks, device, head, text) is not None for text in _keys(after)):
            raise denied(device)


def _keys(after: dict[str, Any]) -> Any:
    """What may open it: while a key is replaced either may."""
    new = after.get("_new_key")
    if new:
        yield key(new)
        if isinstance(after["_key"], str) and not os.path.exists(after["_key"]):
            return  # gone, once it opens nothing any more
    yield key(after["_key"])


class _Opened:
    """A device by a descriptor, and the path by which a program opens the very same one."""

    def __init__(self, device: str) -> None:
        self.fd = blkprobe.opened(device)

    def __enter__(self) -> tuple[int, str]:
        return self.fd, "/proc/%d/fd/%d" % (os.getpid(), self.fd)

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def put(port: Mapping, target: str, before: Any, after: Any) -> None:
    now = port.look(target)
    if now is not None if before is None else now is None or not met(now, state_of(before)):
        raise StorageError("moved", "%s changed since it was looked at" % target, "run it again")
    name = target[len(FOLDER) :]
    call = Cryptsetup(port, target)
    if after is None:
        _closable(target, now)
        call("close", name)
        if port.look(target) is not None:
            raise StorageError("not_enforced", "%s is still open" % target)
        return
    wanted = {**port.wanted.get(target, {}), **after}
    text = _opening(port, wanted)
    flags = (
        ["--persistent"]
        if isinstance(after["discards"], bool) and after["discards"] != (now or {}).get("discards")
        else []
    )
    flags += ["--allow-discards"] if flags and after["discards"] else []
    if now is None:
        with _Opened(after["device"]) as (_fd, path):
            call("open", "--type", "luks2", "--key-file=-", *flags, path, name, stdin=text)
    else:
        if flags:
            call("refresh", "--key-file=-", *flags, name, stdin=text)
        if after["fills"] and not now["fills"]:
            call("resize", "--key-file=-", name, stdin=text)
    row = port.look(target)
    if row is None or not port.same(target, row, {k: after[k] for k in ("device", "fills")}):
        if now is None and row is not None:
            call("close", name)
        raise StorageError("not_enforced", "%s is not as it was opened: %r" % (target, row))


def _opening(port: Mapping, wanted: dict[str, Any]) -> bytes:
    """The first key that opens it."""
    keys = list(_keys(wanted))
    if len(keys) == 1:
        return bytes(keys[0])
    with _Opened(wanted["device"]) as (fd, _path):
        head = luksheader.read(fd)
    for text in keys:
        if head is not None and slot_of(port.luks, wanted["device"], head, text) is not None:
            return bytes(text)
    raise denied(wanted["device"])
