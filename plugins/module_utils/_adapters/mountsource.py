# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mount comes from besides tmpfs: a block device, a file (loop), another path (bind)."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo, programs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_DEVICES = re.compile(r"/dev/((disk/by-\w+|mapper)/)?[^/]+")  # root's own folders


def resolve(declared: dict[str, Any]) -> dict[str, Any]:
    """Add what identifies the source (``_rdev``, ``_file``), its kind and filesystem. What is not there yet stays."""
    source = declared["source"]
    if "=" in source and not source.startswith("/"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mounttag

        source = mounttag.path(source)
        declared = {**declared, "source": source}
    if not source.startswith("/"):
        if declared.get("bind"):
            raise StorageError("invalid", "source %.300r of a bind is not absolute" % source, option="source")
        return declared
    programs.unasked(source)
    try:
        about = os.stat(encode(source))
    except (FileNotFoundError, NotADirectoryError):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

        mountplan.linkless_so_far(source)
        return {**declared, "_missing": source}  # the plan says whether something else brings it
    except OSError as exc:
        raise StorageError("unreadable", "source %s: %s" % (source, exc.strerror)) from exc
    if declared.get("bind"):
        _linkless(source)
        return declared if stat.S_ISDIR(about.st_mode) else {**declared, "_kind": "file"}
    if stat.S_ISDIR(about.st_mode):
        raise StorageError("invalid", "source %s is a directory" % source, "set bind: true to show it elsewhere")
    if stat.S_ISBLK(about.st_mode):
        _linkless(source, True)
        dev = "%d:%d" % (os.major(about.st_rdev), os.minor(about.st_rdev))
        declared = {**declared, "_rdev": dev}
        held = _loop(dev)
        if held is not None and not held.deleted:  # known by its file, as the scan shows it
            declared.update(source=held.backing.decode("utf-8", "surrogateescape"), _file=held.file)
    elif stat.S_ISREG(about.st_mode):
        _linkless(source)
        declared = {**declared, "_file": (about.st_dev, about.st_ino)}
    else:
        raise StorageError("invalid", "source %s is neither a device, a file nor a directory" % source, option="source")
    if "fstype" not in declared:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mounttree

        fd = programs.opened(source)
        try:
            found = mounttree.probe(fd)
        finally:
            os.close(fd)
        return {**declared, "fstype": found} if found else declared
    return declared


def _linkless(source: str, device: bool = False) -> None:
    """The table shows real paths: a source through a link would look like drift for ever, and could be a tenant's.

    A device has links, but root's own, and lies where only root can exchange it.
    """
    if _DEVICES.fullmatch(source) if device else real(source) == encode(source):
        return
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk

    with Walk() as walk:
        at = walk.follow(source)
        path, trusted = walk.real(at), walk.parent(at)[2]
    if not trusted if device else path != source:
        raise StorageError("unsafe_path", "source %s is reached through a symbolic link" % source, "name it %s" % path)


def real(source: str) -> bytes | None:
    """realpath(3), in three calls however deep it lies."""
    try:
        fd = os.open(encode(source), os.O_PATH | os.O_CLOEXEC)
        try:
            return os.readlink(b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)
    except OSError:
        return None


def identity(row: Mount) -> dict[str, Any]:
    """``_rdev`` of a mounted device; a loop device is known by its file: ``source``, ``_file``, ``_device``."""
    dev = row.dev
    if dev.startswith("0:"):  # btrfs shows an anonymous number: its source tells
        try:
            about = os.stat(encode(row.source))
        except OSError:
            return {}
        dev = "%d:%d" % (os.major(about.st_rdev), os.minor(about.st_rdev)) if stat.S_ISBLK(about.st_mode) else dev
    found = {"_rdev": dev, "_silent": _silent(dev) if row.fstype in ("ext2", "ext3", "ext4") else {}}
    held = _loop(dev)
    if held is None:
        return found
    backing = held.backing.decode("utf-8", "surrogateescape")
    backed = {"_file": held.file, "_device": held.device, "_deleted": held.deleted, "_frozen": held.read_only}
    return {**found, "source": backing, **backed}


def _loop(dev: str) -> Any:
    """The loop device of a number, if it shows a whole file."""
    if not dev.startswith("7:"):
        return None
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loop

    held = loop.attached("/dev/" + _kernel_name(dev))
    return held if held is not None and held.whole else None


def _kernel_name(dev: str) -> str:
    return os.path.basename(os.readlink("/sys/dev/block/" + dev))


def _silent(dev: str) -> dict[str, Any]:
    """mountinfo leaves out the options of ext4 that are defaults; its own file in /proc has them all."""
    try:
        with open("/proc/fs/ext4/%s/options" % _kernel_name(dev), "rb") as f:
            return {"o:" + k: v for k, v in mountinfo.options(f.read().replace(b"\n", b",")).items()}
    except OSError:
        return {}  # then mountinfo alone must tell
