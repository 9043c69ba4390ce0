# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of iSCSI targets that the kernel serves (LIO), through configfs (Documentation/target/tcm_mod_builder.rst).

Beneath ``core`` are storage objects, one for each backing, in folders ``fileio_<n>`` and ``iblock_<n>``. Beneath
``iscsi/<iqn>/tpgt_1`` are what is served (``lun``), where (``np``) and to whom (``acls``), all of it as folders and
links. What a killed run left of a target is known by its name: that of an object of ours is ``<iqn>:lun<n>``.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_portal import canonical
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    FORWARD,
    REVERSIBLE,
    UNKNOWN,
    Secret,
    state_of,
)

CONFIGFS = "/sys/kernel/config"
# of an initiator: our word, and the kernel's
AUTH = (
    ("username", "userid"),
    ("password", "password"),
    ("mutual_username", "userid_mutual"),
    ("mutual_password", "password_mutual"),
)
DEMO = ("generate_node_acls", "cache_dynamic_acls")  # whoever comes is let in, and kept
_FILE = re.compile(r"File: (.*)  Size: ([0-9]+)  Mode:")
_DEVICE = re.compile(r"UDEV PATH: (.*)  readonly: [01]")
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)
_OURS = re.compile(r"(.+):lun([0-9]{1,5})", re.ASCII)


class LioTarget:
    """Port ``lio_target``: IQN -> ``{luns, portals, initiators, authentication, demo_mode, enabled, leftover}``.

    ``luns``: number -> ``{plugin, path, size, serial}``. ``initiators``: IQN -> its CHAP and the LUNs it sees.
    """

    name, behind, slow = "lio_target", False, False

    def __init__(
        self, run: Callable[..., Any] | None = None, root: str = CONFIGFS, modules: str = "/sys/module"
    ) -> None:
        self.run, self.mount, self.root, self.modules = run, root, root + "/target", modules
        self.declared: dict[str, Any] = {}

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        if not os.path.isdir(self.root):
            if os.path.isdir(self.modules + "/target_core_mod") and not os.path.ismount(self.mount):
                text = "configfs is not mounted at %s, so nobody can see what the kernel serves" % self.mount
                raise StorageError("unreadable", text, "systemctl start sys-kernel-config.mount")
            return {}
        objects = self.objects()
        if targets is None:
            targets = {ours(name)[0] for name in objects if ours(name)[0]} | set(self.targets())
        rows = {target: self._row(target, objects) for target in targets}
        return {target: row for target, row in rows.items() if row is not None}

    def row(self, target: str) -> Any:
        return self.scan([target]).get(target)

    def targets(self) -> list[str]:
        here = self.root + "/iscsi"
        return [name for name in folders(here) if name != "discovery_auth"]

    def objects(self) -> dict[str, str]:
        """Name -> folder of every storage object over a file or a device."""
        core = self.root + "/core"
        hbas = [hba for hba in folders(core) if hba.startswith(("fileio_", "iblock_"))]
        return {name: "%s/%s/%s" % (core, hba, name) for hba in hbas for name in folders("%s/%s" % (core, hba))}

    def _row(self, target: str, objects: dict[str, str]) -> Any:
        here = "%s/iscsi/%s" % (self.root, target)
        mine = {name for name in objects if ours(name)[0] == target}
        groups = folders(here)
        if not mine and not os.path.isdir(here):
            return None
        group, luns = here + "/tpgt_1", {}
        wanted = (self.declared.get(target) or {}).get("luns", {})
        for number in _numbers(group + "/lun"):
            goal = _goal("%s/lun/lun_%s" % (group, number))
            if goal:  # a folder without its link serves nothing
                mine.discard(os.path.basename(goal))
                luns[number] = described(goal, wanted.get(number, {}).get("path"))
        initiators, sessions = {}, set(read(group + "/dynamic_sessions").replace("\0", "\n").split())
        for initiator in folders(group + "/acls"):
            acl = "%s/acls/%s" % (group, initiator)
            own = read(acl + "/attrib/authentication")  # since Linux 6.1 one may have a rule of its own
            own_rule = None if own in ("", "-1") else own
            initiators[initiator] = {**_chap(acl), "luns": _mapped(acl), "own_rule": own_rule}
            if not read(acl + "/info").startswith("No active"):
                sessions.add(initiator)
        return {
            "luns": luns,
            "portals": tuple(sorted(portals(group))),
            "initiators": initiators,
            "authentication": read(group + "/attrib/authentication") == "1",
            "demo_mode": any(read(group + "/attrib/" + name) == "1" for name in DEMO),
            "enabled": read(group + "/enable") == "1",
            "leftover": tuple(sorted(mine)),
            "_sessions": sorted(sessions),
            "_groups": sorted(each for each in groups if each.startswith("tpgt_") and each != "tpgt_1"),
        }

    # -- what is declared ------------------------------------------------------------------------------------------

    def resolve(self, target: str, declared: Any) -> Any:
        self.declared[target] = declared
        devices = [lun["path"] for lun in declared["luns"].values() if lun["plugin"] == "iblock"]
        missing = next(filter(self.missing, devices), None)
        return {**declared, "_missing": missing} if missing else declared

    def missing(self, device: str) -> bool:
        return not os.path.exists(device)

    def same(self, target: str, now: Any, declared: Any) -> bool:
        luns = now["luns"], declared["luns"]
        if luns[0].keys() != luns[1].keys() or not all(fits(lun, luns[1][n]) for n, lun in luns[0].items()):
            return False
        return all(now[field] == value for field, value in state_of(declared).items() if field != "luns")

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return {**(now or {}), **declared}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        """What an initiator has seen to be larger it may use at once."""
        grows = before and after and any(sizes(before, after, n, lambda a, b: b > a) for n in after["luns"])
        return FORWARD if grows else REVERSIBLE

    def unstable(self, target: str) -> StorageError | None:
        """What takes ``allow_unstable_device``."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_targetchange

        return lio_targetchange.unstable(self.declared.get(target))

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_targetchange

        return lio_targetchange.refuse(self, target, before, after)

    def unable(self) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_targetchange

        return lio_targetchange.unable(self)

    def taken(self, target: str, paths: list[str]) -> StorageError | None:
        """Does somebody else use what is to be served from now on?"""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_targetchange

        return lio_targetchange.taken(self, target, paths)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_targetchange

        lio_targetchange.put(self, target, before, after)


def ours(name: str) -> tuple[str, str]:
    """Of which target of ours a storage object is, and which LUN; by its whole name."""
    found = _OURS.fullmatch(name)
    return (found.group(1), found.group(2)) if found else ("", "")


def fits(lun: dict[str, Any], declared: dict[str, Any]) -> bool:
    return all(value is UNKNOWN or lun[field] == value for field, value in declared.items())


def sizes(before: Any, after: Any, number: str, differ: Callable[[int, int], bool]) -> bool:
    sizes = [each["luns"].get(number, {}).get("size") for each in (before, after)]
    return all(isinstance(size, int) for size in sizes) and differ(*sizes)


def described(folder: str, known_as: str | None = None) -> dict[str, Any]:
    """What a storage object stands on; by the name that it is declared by, where that is the same thing."""
    info, plugin = read(folder + "/info"), os.path.basename(os.path.dirname(folder)).rpartition("_")[0]
    file, device = _FILE.search(info), _DEVICE.search(info)
    found = file or device
    path = found.group(1) if found else read(folder + "/udev_path")
    if known_as and path != known_as and _same(path, known_as):
        path = known_as
    serial = read(folder + "/wwn/vpd_unit_serial").partition(": ")[2].strip()
    return {"plugin": plugin, "path": path, "size": int(file.group(2)) if file else None, "serial": serial}


def _same(one: str, two: str) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(two) or os.path.samefile(one, two)
    except OSError:
        return False


def _chap(acl: str) -> dict[str, Any]:
    """A value that begins with ``NULL`` is none (drivers/target/iscsi/iscsi_target_configfs.c)."""
    found: dict[str, Any] = {}
    for word, file in AUTH:
        text = read("%s/auth/%s" % (acl, file))
        text = "" if text.startswith("NULL") else text
        found[word] = (Secret(text) if "password" in word else text) if text else None
    return found


def _mapped(acl: str) -> tuple[str, ...]:
    """The LUNs an initiator sees, each under the number it has; anything else is told as it is."""
    found = []
    for number in _numbers(acl):
        here = "%s/lun_%s" % (acl, number)
        goal = os.path.basename(_goal(here))[4:]
        said = number if goal == number else "%s is %s" % (number, goal or "nothing")
        found.append(said if read(here + "/write_protect") in ("0", "") else said + " read-only")
    return tuple(found)


def portals(group: str) -> dict[str, str]:
    """Canonical name -> folder."""
    return {canonical(name): "%s/np/%s" % (group, name) for name in folders(group + "/np")}


def _numbers(folder: str) -> list[str]:
    found = [name[4:] for name in folders(folder) if name.startswith("lun_") and name[4:].isdigit()]
    return sorted(found, key=int)


def _goal(folder: str) -> str:
    """Where the one link in a folder leads."""
    try:
        with os.scandir(folder) as entries:
            return next((os.path.realpath(entry.path) for entry in entries if entry.is_symlink()), "")
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise failure(error, "cannot read " + folder) from error


def folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise failure(error, "cannot read " + path) from error


def read(path: str) -> str:
    """The text of an attribute without the end of its line, "" where there is none."""
    try:
        with open(path, "rb") as stream:
            text = stream.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise failure(error, "cannot read " + path) from error
    return text[:-1] if text.endswith("\n") else text
