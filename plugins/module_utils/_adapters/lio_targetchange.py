# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving iSCSI targets, and ending that, through configfs. Loaded only where a target differs.

Each step makes one folder, link or value, and each is left out where it was done: after a kill at any of them the
next run goes on from there. A new target is enabled last, so nobody logs in to half of one. One that goes is disabled
first, and its storage objects, by whose names it would still be known, go last. What a kill may leave of that is the
empty folder that held one (``fileio_<n>``), which serves nothing, and which the next object takes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_target, program, sysfs_block
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import place
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import described, folders, read
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

LINK = "bulkhead"  # name of the link in the folder of a LUN; of no meaning to the kernel
_TRIES = 256
_KERNEL = "it takes the modules target_core_mod and iscsi_target_mod, and configfs"


# -- what is refused -----------------------------------------------------------------------------------------------


def refuse(port: Any, target: str, before: Any, after: Any) -> StorageError | None:
    error = disturbs(target, before, after) if before is not None else None
    error = error or port.unable()
    if error is not None or after is None:
        return error
    had = before["luns"] if before is not None else {}
    found: StorageError | None = port.taken(target, [lun["path"] for n, lun in after["luns"].items() if n not in had])
    return found


def disturbs(target: str, before: Any, after: Any) -> StorageError | None:
    """Would an initiator that is logged in lose what it uses, or find something else there?"""
    if before["_groups"]:
        text = "%s has other portal groups: %s" % (target, ", ".join(before["_groups"]))
        return StorageError("conflict", text, "they are not ours: remove them by hand")
    users = before["_sessions"]
    if after is None:
        return _used(target, users, "goes")
    for number, lun in before["luns"].items():
        wanted = after["luns"].get(number)
        if wanted is None:
            continue
        for field in ("path", "plugin"):
            if wanted[field] not in (UNKNOWN, lun[field]):
                text = "LUN %s of %s is %s (%s), not %s" % (number, target, lun["path"], lun["plugin"], wanted["path"])
                hint = "take the LUN out first: whoever knows it would find other data in its place"
                return StorageError("conflict", text, hint, lun=int(number))
        if lio_target.sizes(before, after, number, lambda had, has: has < had):
            text = "LUN %s of %s has %d bytes, more than %d" % (number, target, lun["size"], wanted["size"])
            hint = "nobody can tell what initiators keep at its end: serve a new, smaller one"
            return StorageError("would_shrink", text, hint, lun=int(number))
    if before["luns"].keys() - after["luns"].keys():
        return _used(target, users, "loses LUN %s" % ", ".join(sorted(before["luns"].keys() - after["luns"].keys())))
    if set(before["portals"]) - set(after["portals"]):
        return _used(target, users, "loses portal %s" % ", ".join(set(before["portals"]) - set(after["portals"])))
    losing = [user for user in users if user not in after["initiators"]]
    for user in set(users) - set(losing):
        seen = before["initiators"].get(user, {"luns": ()})["luns"]
        if set(seen) - set(after["initiators"][user]["luns"]):
            losing.append(user)
    return _used(target, losing, "would not let it in, or not to a LUN")


def _used(target: str, users: list[str], what: str) -> StorageError | None:
    if not users:
        return None
    text = "%s %s, but %s is logged in" % (target, what, ", ".join(sorted(users)))
    return StorageError("in_use", text, "log out there first", initiators=sorted(users))


def taken(port: Any, target: str, paths: list[str]) -> StorageError | None:
    look = sysfs_block.Sysfs()
    for path in paths:
        try:
            dev = look.resolve(path)
        except StorageError as error:
            if error.code == "not_found":  # told by what it stands on, unless that is yet to be made
                continue
            return error
        objects = serving(port, path)
        others = [name for name in objects if lio_target.ours(name)[0] != target]
        if others:
            text = "%s is served already, as %s" % (path, ", ".join(others))
            return StorageError("in_use", text, "one thing is one LUN of one target", holders=others)
        reason = look.protected(dev)
        if reason:
            return StorageError("protected", "%s holds %s" % (path, reason), "serve something else")
        users = [] if objects else look.in_use(path, dev)
        if not dev and any(os.path.exists(s) and os.path.samefile(s, path) for s in look.swaps()):
            users = ["swap"]
        if users:
            text = "%s is in use: %s" % (path, ", ".join(map(sysfs_block.known_as, users)))
            return StorageError("in_use", text, "unmount it, or take down what stands on it", holders=users)
        if not dev:
            unsafe = roots_own(path)
            if unsafe is not None:
                return unsafe
    return None


def serving(port: Any, path: str) -> list[str]:
    """Names of the storage objects over a file or a device, under whatever name of it."""
    return [name for name, folder in port.objects().items() if described(folder, path)["path"] == path]


def roots_own(path: str) -> StorageError | None:
    """The kernel opens an image by its path, also at the next boot: nobody else may choose what that means."""
    try:
        with Walk() as walk:
            trusted = walk.parent(walk.follow(path))[2]
            os.close(walk.content(path, os.O_RDONLY))
    except StorageError as error:
        return error
    if trusted:
        return None
    text = "%s lies where others than root can write" % path
    return StorageError("unsafe_path", text, "keep images in a folder of root's")


def unstable(declared: Any) -> StorageError | None:
    look, luns = sysfs_block.Sysfs(), (declared or {"luns": {}})["luns"].values()
    for path in [lun["path"] for lun in luns if lun["plugin"] == "iblock"]:
        dev = ""
        with contextlib.suppress(StorageError):
            dev = look.resolve(path)
        if not look.stable(path, dev):
            return sysfs_block.unstable(path, look.links(dev) if dev else [])
    return None


def unable(port: Any) -> StorageError | None:
    """Has this kernel what it takes? Asked where it is not loaded yet."""
    if os.path.isdir(port.root):
        return None
    try:
        code, _out, _err = (port.run or program.execute)(
            ["modprobe", "-n", "-q", "-a", "target_core_mod", "iscsi_target_mod"]
        )
    except StorageError as error:
        return error
    if code:
        return StorageError("unsupported", "this kernel has no iSCSI target (LIO)", _KERNEL)
    return None


# -- what is done --------------------------------------------------------------------------------------------------


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = port.row(target)
    if (now is None) != (before is None) or (now is not None and not port.same(target, now, before)):
        raise StorageError("moved", "target %s changed since it was read" % target, "run it again")
    error = disturbs(target, now, after) if now is not None else None
    if error is not None:  # somebody logged in meanwhile
        raise error
    if after is None:
        _remove(port, target)
        if port.row(target) is not None:
            raise StorageError("not_enforced", "the kernel keeps target %s" % target)
        return
    ready(port)
    try:
        _fill(port, target, after)
    except StorageError:
        with contextlib.suppress(StorageError):
            _remove(port, target) if now is None else _fill(port, target, now)
        raise
    seen = port.row(target)
    if seen is None or not port.same(target, seen, after):
        raise StorageError("not_enforced", "the kernel does not show target %s as it was written" % target)


def ready(port: Any) -> None:
    """configfs, mounted before there is anything to see in it; then the modules."""
    if not os.path.ismount(port.mount):
        _try(port, ["modprobe", "configfs"], os.path.isdir(port.mount))
        _try(port, ["mount", "-t", "configfs", "configfs", port.mount])
    if not os.path.isdir(port.root):
        _try(port, ["modprobe", "target_core_mod"])
        folder = os.path.dirname(place() or "")
        with contextlib.suppress(OSError, StorageError):  # where rtslib wants it, as long as there is no device
            if os.path.isdir(folder):
                _write(port.root + "/dbroot", folder)
    if not os.path.isdir(port.root + "/iscsi"):
        _try(port, ["modprobe", "iscsi_target_mod"])
        _make(port.root + "/iscsi")


def _try(port: Any, argv: list[str], done: bool = False) -> None:
    code, _out, err = (0, b"", b"") if done else (port.run or program.execute)(argv)
    if code:
        text = "%s: %s" % (" ".join(argv), err.decode("utf-8", "replace").strip() or "it failed")
        raise StorageError("unsupported", text, _KERNEL)


def _fill(port: Any, target: str, value: dict[str, Any]) -> None:
    group = "%s/iscsi/%s/tpgt_1" % (port.root, target)
    _make(os.path.dirname(group))
    _make(group)
    if not value["demo_mode"]:
        for name in lio_target.DEMO:
            _value(group + "/attrib/" + name, "0")
    if value["authentication"]:
        _value(group + "/attrib/authentication", "1")
    _drop(port, target, group, value)
    for number, lun in value["luns"].items():
        here = "%s/lun/lun_%s" % (group, number)
        served = _linked(here)
        if served is None:
            served = _object(port, "%s:lun%s" % (target, number), lun)
            _make(here)
            _link(served, here)
        _grow(served, lun)
    for initiator, wanted in value["initiators"].items():
        acl = "%s/acls/%s" % (group, initiator)
        _make(acl)
        for word, file in lio_target.AUTH:
            secret = wanted[word]
            text = secret if secret is None or isinstance(secret, str) else secret.reveal()
            _secret("%s/auth/%s" % (acl, file), text)
        if read(acl + "/attrib/authentication") not in ("", wanted["own_rule"] or "-1"):
            _write(acl + "/attrib/authentication", wanted["own_rule"] or "-1")
        for number in wanted["luns"]:
            here = "%s/lun_%s" % (acl, number)
            _make(here)
            if _linked(here) is None:
                _link("%s/lun/lun_%s" % (group, number), here)
            _value(here + "/write_protect", "0")
    if not value["authentication"]:
        _value(group + "/attrib/authentication", "0")
    there = lio_target.portals(group)
    for portal in value["portals"]:
        if portal not in there:
            _portal("%s/np/%s" % (group, portal), portal)
    if value["demo_mode"]:  # only when what somebody else made is put back
        _value(group + "/attrib/generate_node_acls", "1")
    _value(group + "/enable", str(int(value["enabled"])))


def _drop(port: Any, target: str, group: str, value: dict[str, Any]) -> None:
    """What is there and not declared: first who sees it, then what they see."""
    for initiator in folders(group + "/acls"):
        acl, wanted = "%s/acls/%s" % (group, initiator), value["initiators"].get(initiator)
        keep = {"lun_" + number for number in wanted["luns"]} if wanted is not None else set()
        for name in folders(acl):
            here = "%s/%s" % (acl, name)
            if name.startswith("lun_") and (name not in keep or not _right(here, "%s/lun/%s" % (group, name))):
                _unlink(here)
                _away(here)
        if wanted is None:
            _away(acl)
    for name in folders(group + "/lun"):
        if name.startswith("lun_") and name[4:] not in value["luns"]:
            _unlink("%s/lun/%s" % (group, name))
            _away("%s/lun/%s" % (group, name))
    for portal, here in lio_target.portals(group).items():
        if portal not in value["portals"]:
            _away(here)
    served = {_linked("%s/lun/%s" % (group, name)) for name in folders(group + "/lun")}
    _clear(port, target, served, value["luns"])


def _clear(port: Any, target: str, served: set[str | None], wanted: dict[str, Any]) -> None:
    """Storage objects of ours that nobody serves, and that are not what will be served next."""
    for name, here in port.objects().items():
        whose, number = lio_target.ours(name)
        if here in served or whose != target:
            continue
        lun = wanted.get(number)
        if lun is None or not _whole(here, lun):
            _away(here)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(here))


def _whole(here: str, lun: dict[str, Any]) -> bool:
    found = described(here, lun["path"])
    same = all(found[field] == lun[field] for field in ("plugin", "path", "serial"))
    return same and read(here + "/enable") == "1"


def _remove(port: Any, target: str) -> None:
    here = "%s/iscsi/%s" % (port.root, target)
    group = here + "/tpgt_1"
    if os.path.isdir(group):
        if read(group + "/enable") == "1":
            _value(group + "/enable", "0")
        _drop(port, target, group, {"initiators": {}, "luns": {}, "portals": ()})
        _away(group)
    if os.path.isdir(here):
        _away(here)
    _clear(port, target, set(), {})


# -- one step ------------------------------------------------------------------------------------------------------


def _object(port: Any, name: str, lun: dict[str, Any]) -> str:
    """The storage object of a LUN, enabled, and with its serial number before anybody can see it."""
    there = port.objects().get(name)
    if there is not None:
        return str(there)  # whole: others were cleared away
    prefix = "%s/core/%s_" % (port.root, lun["plugin"])
    for number in range(_TRIES):
        hba = prefix + str(number)
        if not folders(hba):  # none, or the empty one of a run that was killed
            _make(hba)
            break
    else:
        raise StorageError("limit_exceeded", "there are more than %d storage objects" % _TRIES)
    here = "%s/%s" % (hba, name)
    if lun["plugin"] == "fileio":
        error = roots_own(lun["path"])
        if error is not None:
            raise error
    _make(here)
    try:
        if lun["plugin"] == "fileio":
            _write(here + "/control", "fd_dev_name=%s,fd_dev_size=%d" % (lun["path"], _length(lun)))
        else:
            _write(here + "/control", "udev_path=" + lun["path"])
        _write(here + "/udev_path", lun["path"])
        _write(here + "/enable", "1")
        _write(here + "/wwn/vpd_unit_serial", lun["serial"])
    except StorageError:
        with contextlib.suppress(OSError):
            os.rmdir(here)
            os.rmdir(hba)
        raise
    return here


def _length(lun: dict[str, Any]) -> int:
    if lun["size"] is not UNKNOWN:
        return int(lun["size"])
    try:
        return os.stat(lun["path"]).st_size // 512 * 512
    except OSError as error:
        raise failure(error, "cannot look at " + lun["path"]) from error


def _grow(here: str, lun: dict[str, Any]) -> None:
    """A file is as large as the kernel was told; initiators see it when they scan for it. A device tells itself."""
    if lun["plugin"] == "fileio" and described(here)["size"] != _length(lun):
        _write(here + "/control", "fd_dev_size=%d" % _length(lun))


def _portal(here: str, portal: str) -> None:
    try:
        os.mkdir(here)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EADDRINUSE):
            text = "the kernel does not listen at %s" % portal
            hint = "is its port taken there, by another portal (0.0.0.0 takes it everywhere) or program?"
            raise StorageError("in_use", text, hint, portal=portal) from error
        raise failure(error, "cannot listen at " + portal) from error


def _right(here: str, lun: str) -> bool:
    return _linked(here) == lun and read(here + "/write_protect") in ("0", "")


def _linked(here: str) -> str | None:
    """Where the link in a folder leads."""
    return lio_target._goal(here) or None


def _link(goal: str, folder: str) -> None:
    try:
        os.symlink(goal, folder + "/" + LINK)
    except OSError as error:
        raise failure(error, "cannot link %s into %s" % (goal, folder)) from error


def _unlink(folder: str) -> None:
    try:
        with os.scandir(folder) as entries:
            links = [entry.path for entry in entries if entry.is_symlink()]
        for link in links:
            os.unlink(link)
    except OSError as error:
        raise failure(error, "cannot empty " + folder) from error


def _make(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise failure(error, "cannot make " + folder) from error


def _away(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError as error:
        raise failure(error, "cannot remove " + folder) from error


def _value(path: str, text: str) -> None:
    if read(path) != text:
        _write(path, text)


def _secret(path: str, text: str | None) -> None:
    now = read(path)
    if now != (text or "") and not (text is None and now.startswith("NULL")):
        _write(path, "NULL" if text is None else text)


def _write(path: str, text: str) -> None:
    """In one write(2), without an end of line, which would be part of a password."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError as error:
        raise failure(error, "cannot write to " + path) from error
