# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From volumes that one node writes to and others stand by for, to options of ``layout``. Pure; raises StorageError.

First what the controller asks EC2 for. Of its answer, what a node makes of its disks: those that it is a backup of are
made read-only, then those that it is the primary of are made writable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_FIELDS = ("name", "ebs", "primary", "backups", "path", "fstype")


class Volume(NamedTuple):
    """A volume as declared; ``members`` are the instances of all its nodes."""

    name: str
    ebs: dict[str, Any]
    primary: str
    backups: list[str]
    path: str | None
    members: dict[str, str]


class Disk(NamedTuple):
    """What EC2 answered of a volume. A path that is None is that of none; ``on`` are the instances that have it."""

    path: str | None
    on: set[str]


def layout(
    volumes: Any, node: Any = None, instances: Any = None, found: Any = None, demoted: Any = None
) -> dict[str, Any]:
    """``ebs_volumes``, for all nodes alike; ``demoted`` and ``promoted``, the lists of ``layout`` for ``node``.

    ``instances``: the id of the instance by node. ``found``: the resources of the volumes, in their order.
    ``demoted``: what the task that demotes answered, by node. Where it is given, a disk is writable for its primary
    when all its backups have it read-only, and refused with ``unfenced`` otherwise.
    """
    volumes = [] if volumes in (None, "") else volumes
    if not isinstance(volumes, list):
        text = "shard_node_volumes is a %s, not a list" % type(volumes).__name__  # it may hold a secret
        raise StorageError("invalid", text, option="volumes")
    declared = [_volume(*pair, instances or {}) for pair in enumerate(volumes)]
    for name in (volume.name for volume in declared):
        if sum(volume.name == name for volume in declared) > 1:
            text = "several of shard_node_volumes have the name %.80r" % name
            raise StorageError("invalid", text, "a name each", option="volumes")
    theirs = list(zip(declared, _disks(found, len(declared))))
    for volume, disk in theirs if demoted is not None else ():
        if volume.primary == node and _has(volume, disk, node):
            _held(volume, disk, demoted)
    return {
        "ebs_volumes": [volume.ebs for volume in declared],
        "demoted": {
            "block_devices": [_disk(d, True) for v, d in theirs if node in v.backups and _has(v, d, node)],
            "mounts": [{"path": v.path, "state": "absent"} for v in declared if v.path and node in v.backups],
        },
        "promoted": {"block_devices": [_disk(d, False) for v, d in theirs if node == v.primary and _has(v, d, node)]},
    }


def _volume(index: int, entry: Any, instances: dict[str, Any]) -> Volume:
    where = "shard_node_volumes[%d]" % index
    if not isinstance(entry, dict):
        raise StorageError("invalid", "%s is a %s, not a dictionary" % (where, type(entry).__name__), option="volumes")
    said = {option: value for option, value in entry.items() if value not in (None, "")}  # "": not answered in a survey
    try:
        unknown = sorted(str(option) for option in said if option not in _FIELDS)
        if unknown:
            raise _invalid("there is no %.200s" % ", ".join(unknown), "one of " + ", ".join(_FIELDS))
        ebs = said.get("ebs", {})
        if not isinstance(ebs, dict):
            raise _invalid("ebs is a %s, not a dictionary" % type(ebs).__name__, "options of ebs_volume")
        name, primary, backups = _text(said, "name"), _text(said, "primary"), _nodes(said)
        members = {host: _instance(host, instances) for host in (primary, *backups)}
        path = names.path(said["path"]) if "path" in said else None
    except StorageError as error:
        raise error.at(where) from None
    return Volume(name, _ebs(name, ebs, members), primary, backups, path, members)


def _text(said: dict[str, Any], field: str) -> str:
    value = said.get(field)
    if not isinstance(value, str):
        raise _invalid("%s %.80r is no text" % (field, value) if field in said else "%s is missing" % field)
    return value


def _nodes(said: dict[str, Any]) -> list[str]:
    """The backups, each once, and none of them the primary: of one disk no node is both."""
    backups = said.get("backups", [])
    if not isinstance(backups, list):
        raise _invalid("backups %.80r is not a list" % (backups,), "such as [node-2, node-3]")
    for backup in backups:
        if not isinstance(backup, str) or not backup:
            raise _invalid("backup %.80r is no text" % (backup,), "inventory names of hosts")
        if backups.count(backup) > 1:
            raise _invalid("backup %.80s is there twice" % backup, "once is enough")
        if backup == said["primary"]:
            raise _invalid("%.80s is the primary and a backup too" % backup, "one node writes, others stand by")
    return backups


def _instance(host: str, instances: dict[str, Any]) -> str:
    found = instances.get(host)
    if not isinstance(found, str) or not found:
        hint = "set the variable that shard_node_instance_variable names, or let amazon.aws.aws_ec2 set it"
        raise _invalid("no instance is known of the host %.80s" % host, hint)
    return found


def _ebs(name: str, ebs: dict[str, Any], members: dict[str, str]) -> dict[str, Any]:
    """What the entry says itself counts. One that is known by its id keeps the name that it has."""
    said = {option: value for option, value in ebs.items() if value not in (None, "")}
    if "volume_id" not in said and "id" not in said:
        said.setdefault("name", name)
    said.setdefault("attachments", [{"instance_id": instance} for instance in members.values()])
    if len(members) > 1:
        said.setdefault("multi_attach", True)
    return said


def _disks(found: Any, count: int) -> list[Disk]:
    """None of them is known before EC2 was asked."""
    if found is None:
        return [Disk(None, set())] * count
    if not isinstance(found, list) or len(found) != count:
        text = "found is not what was answered of %d volumes" % count
        raise StorageError("invalid", text, "the resources.ebs_volumes of the same volumes", option="found")
    disks = []
    for row in found:
        # Where check mode foresees an attachment, the device is not chosen yet, and the node has no disk to look at.
        on = {each["instance_id"] for each in row["attachments"] if each["device"]}
        disks.append(Disk(row["by_id"], on))
    return disks


def _has(volume: Volume, disk: Disk, node: str) -> bool:
    return disk.path is not None and volume.members[node] in disk.on


def _disk(disk: Disk, read_only: bool) -> dict[str, Any]:
    return {"device": disk.path, "read_only": read_only}


def _held(volume: Volume, disk: Disk, demoted: dict[str, Any]) -> None:
    """Every backup that has the disk has it read-only, as it has read back itself."""
    for backup in volume.backups:
        shown = ((demoted.get(backup) or {}).get("resources") or {}).get("block_devices") or ()
        if _has(volume, disk, backup) and not any(row["device"] == disk.path and row["read_only"] for row in shown):
            text = "%s: nothing shows that the backup %s has the disk read-only" % (volume.name, backup)
            raise StorageError("unfenced", text, "run it for all nodes of a volume at once", disk=disk.path)


def _invalid(message: str, hint: str = "") -> StorageError:
    return StorageError("invalid", message, hint, option="volumes")
