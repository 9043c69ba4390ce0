# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing and removing unit files, and the links that enable them. Loaded only where one differs.

A file is there before a link names it, and goes after the last one: a run that is killed leaves a file that the next
scan sees as not enabled, never a link to nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, systemd_mount
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = port.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    if state_of(now) != state_of(before):
        raise StorageError("moved", "the unit of %s is not as it was planned for" % target, "run it again")
    unit = port.unit(target)
    file = os.path.join(port.folder, unit)
    try:
        data = port.read(target)
    except OSError as exc:
        raise failure(exc, "cannot read the unit %s" % file) from exc
    old = now["_links"] if now else []
    touched = {*old, *(systemd_mount.wanted_by(now) if now else ()), *(systemd_mount.wanted_by(after) if after else ())}
    try:
        first = not port.was
        state, text, links = port.was.setdefault(target, (state_of(now), data, old))
        if after is None:
            for folder in {*old, *systemd_mount.wanted_by(now)}:  # a run that was killed may have left it empty
                _unlink(os.path.join(port.folder, folder), unit)
            if data is not None:
                os.unlink(file)
                _sync(port.folder)
            return
        if state is None or state_of(after) != state:  # else it is taken back, to the very bytes
            text, links = _wanted(target, data, now, after, old)
        if text != data:
            atomic.replace(file, text, sweep=first)
        for folder in links:
            _link(os.path.join(port.folder, folder), unit, file)
        for folder in set(old) - set(links):
            _unlink(os.path.join(port.folder, folder), unit)
    except (OSError, StorageError) as exc:
        _back(file, unit, data, old, touched)
        if isinstance(exc, StorageError):
            raise
        raise failure(exc, "cannot write the unit %s" % file) from exc


def _back(file: str, unit: str, data: bytes | None, old: list[str], touched: set[str]) -> None:
    """What a failing put has done is taken back, as far as that can be done; the next run sees the rest."""
    above = os.path.dirname(file)
    with contextlib.suppress(OSError, StorageError):
        if data is not None:
            atomic.replace(file, data)
        elif os.path.lexists(file):
            os.unlink(file)
    for folder in touched:
        with contextlib.suppress(OSError):
            if folder in old:
                _link(os.path.join(above, folder), unit, file)
            else:
                _unlink(os.path.join(above, folder), unit)


def _wanted(target: str, data: bytes | None, now: Any, after: Any, old: list[str]) -> tuple[bytes, list[str]]:
    links = systemd_mount.wanted_by(after)
    if data is not None and "_foreign" in now:
        return systemd_mount.edited(target, data, now, after), old or links
    return systemd_mount.render(target, state_of(after)), links


def _link(folder: str, unit: str, file: str) -> None:
    """As ``systemctl enable`` does."""
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o755)
        os.chmod(folder, 0o755)  # whatever the umask is
        _sync(os.path.dirname(folder))
    if not os.path.lexists(os.path.join(folder, unit)):
        os.symlink(file, os.path.join(folder, unit))
        _sync(folder)


def _unlink(folder: str, unit: str) -> None:
    """As ``systemctl disable`` does: a folder that is empty then goes too."""
    if os.path.lexists(os.path.join(folder, unit)):
        os.unlink(os.path.join(folder, unit))
    elif not os.path.isdir(folder):
        return
    if os.listdir(folder):
        _sync(folder)
    else:
        os.rmdir(folder)
        _sync(os.path.dirname(folder))


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
