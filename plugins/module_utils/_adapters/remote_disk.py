# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are somewhere else: nobody reads one whose target is gone, for the kernel would make them wait."""

from __future__ import annotations

import os
import re
import stat
import time

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_FRESH = 10.0  # seconds for which an answer is believed
_SESSION = re.compile(r"(/sys/devices/.+/session[0-9]+)/target[^/]+/[^/]+/block/([^/]+)")
_BLOCK = "/sys/dev/block/%d:%d"
_answered: dict[str, float] = {}


def opened(path: str) -> int:
    """To be looked at only."""
    return answered(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), path)


def answered(fd: int, path: str) -> int:
    """The descriptor again. Opening alone asks nobody."""
    try:
        about = os.fstat(fd)
        if stat.S_ISBLK(about.st_mode):
            answering(about.st_rdev, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def answering(rdev: int, path: str) -> None:
    """``unreachable`` unless a disk that this device stands on is here, or its target answers."""
    found = disks(os.path.realpath(_BLOCK % (os.major(rdev), os.minor(rdev))))
    if not found or any(time.monotonic() - _answered.get(name, -_FRESH) < _FRESH for name in found):
        return
    alive = [name for name, session in found.items() if _state(session) == "LOGGED_IN"]
    hint = "see to the target and the network, iscsiadm -m session -P 1"
    if not alive:
        raise StorageError("unreachable", "the iSCSI session of %s is down" % path, hint)
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import scsi

    try:
        scsi.sizes(alive[:1])
    except OSError as error:
        text = "%s does not answer: %s" % (path, error.strerror)
        raise StorageError("unreachable", text, hint, errno=error.errno) from error
    _answered.update(dict.fromkeys(found, time.monotonic()))


def disks(place: str) -> dict[str, str]:
    """Name -> session of the disks of iSCSI that a device stands on, by its folder in sysfs."""
    found = _SESSION.match(place)
    if found:
        return {found.group(2): "%s/iscsi_session/%s" % (found.group(1), os.path.basename(found.group(1)))}
    if "/virtual/" not in place:
        return {}
    try:
        slaves = os.listdir(place + "/slaves")
    except OSError:  # a partition of such, or nothing beneath
        return disks(os.path.dirname(place)) if os.path.exists(place + "/partition") else {}
    all_of_them: dict[str, str] = {}
    for slave in slaves:
        all_of_them.update(disks(os.path.realpath("%s/slaves/%s" % (place, slave))))
    return all_of_them


def _state(session: str) -> str:
    try:
        with open(session + "/state", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
