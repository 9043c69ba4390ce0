# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The composition root of ``layout``: which list holds which kind, and which ports a declaration needs.

Every import stands inside a function: all of it is shipped to the target, only what a declaration uses is executed.
"""

from __future__ import annotations

import json
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports

LISTS = (
    "iscsi_sessions",
    "block_devices",
    "luks_devices",
    "volume_groups",
    "filesystems", "mounts", "tmpfs", "nfs_mounts", "trees", "quotas", "pools", "volumes",
    "snapshots", "io_limits",
    "nfs_exports",
    "iscsi_targets",
    "jobs",
    "ebs_volumes",
    "ceph_pools", "ceph_users",
)  # fmt: skip
# What names devices: by path, or as a LUN of a session.
DEVICES = {
    **dict.fromkeys(("block_devices", "luks_devices", "filesystems", "io_limits"), ("device",)),
    "mounts": ("source",),
    "volume_groups": ("pvs", "remove_pvs"),
}


def option(name: str) -> dict[str, Any]:
    """The argument spec of one list."""
    kind = resource(name)
    return {"type": "list", "elements": "dict", "options": kind.OPTIONS, **kind.RULES}


def read(path: str) -> dict[str, Any]:
    """A declaration in a file on the target: JSON, or YAML where the target's Python has it."""
    try:
        with open(path, "rb") as stream:
            text = stream.read()
    except FileNotFoundError as error:
        raise StorageError("not_found", "%s does not exist on the target" % path, "see src and remote_src") from error
    except OSError as error:
        raise StorageError("unreadable", "%s: %s" % (path, error.strerror)) from error
    try:
        document = json.loads(text) if text.lstrip()[:1] == b"{" else _yaml(text)
    except ValueError as error:
        raise StorageError("invalid", "%s: %s" % (path, error), "it must hold a dictionary of lists") from error
    if not isinstance(document, dict):
        raise StorageError("invalid", "%s does not hold a dictionary" % path, "it must hold a dictionary of lists")
    return document


def _yaml(text: bytes) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise StorageError("missing_tool", "the target has no PyYAML", "write the file as JSON") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def entries(
    document: dict[str, Any], common: dict[str, Any], secrets: set[str]
) -> tuple[list[Entry], list[StorageError]]:
    """Every entry with its options checked, and every problem found on the way."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options

    found: list[Entry] = []
    errors: list[StorageError] = []
    unknown = sorted(str(name) for name in document if name not in LISTS and name != "state")
    if unknown:
        errors.append(StorageError("invalid", "no such list: %s" % ", ".join(unknown), "one of %s" % ", ".join(LISTS)))
    state = document.get("state")
    if state not in (None, "present", "absent"):
        errors.append(StorageError("invalid", "state %.80r is not present or absent" % (state,)))
        state = None
    for name in LISTS:
        given = document.get(name)
        if given is None:
            continue
        if not isinstance(given, list):
            errors.append(StorageError("invalid", "%s is not a list" % name, "a list of entries").at(name))
            continue
        kind, named = resource(name), DEVICES.get(name)
        for index, entry in enumerate(given):
            if state == "absent" and isinstance(entry, dict) and entry.get("state") is None:
                entry = {**entry, "state": "absent"}
            where = "%s[%d]" % (name, index)
            try:
                params = options.check(kind.OPTIONS, kind.RULES, entry, secrets)
            except StorageError as error:
                errors.append(error.at(where))
                continue
            params["allow_unstable_device"] = common["allow_unstable_device"]
            by_path = not named or all(_paths(params[each], name == "volume_groups") for each in named)
            of = kind if by_path else _on_luns(kind, named)
            found.append(Entry("%s (%.200s)" % (where, of.label(params)), of, params))
    return found, errors


def _paths(given: Any, many: bool) -> bool:
    if many and given.__class__ is list:
        return all(each.__class__ is str for each in given)
    return given is None or given.__class__ is str


def _on_luns(kind: Any, named: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_lun

    return iscsi_lun.On(kind, named)


def resource(name: str) -> Any:
    """The resource behind a list of ``layout``."""
    if name == "trees":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tree

        return tree
    if name == "tmpfs":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tmpfs

        return tmpfs
    if name == "mounts":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount

        return mount
    if name == "nfs_mounts":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_mount

        return nfs_mount
    if name == "quotas":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota

        return quota
    if name == "luks_devices":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import luks_device

        return luks_device
    if name == "filesystems":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import filesystem

        return filesystem
    if name == "block_devices":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import block_device

        return block_device
    if name == "volume_groups":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group

        return volume_group
    if name == "pools":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool

        return pool
    if name == "jobs":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job

        return job
    if name == "snapshots":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import snapshot

        return snapshot
    if name == "io_limits":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit

        return io_limit
    if name == "nfs_exports":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_export

        return nfs_export
    if name == "iscsi_targets":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target

        return iscsi_target
    if name == "ebs_volumes":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ebs_volume

        return ebs_volume
    if name == "ceph_pools":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_pool

        return ceph_pool
    if name == "ceph_users":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_user

        return ceph_user
    if name == "iscsi_sessions":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_session

        return iscsi_session
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume

    return volume


def away(entries: list[Entry], options: Any, timeout: float) -> Any:
    if not any(hasattr(entry.resource, "world") for entry in entries):
        return options
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import worlds

    return worlds.held(entries, options, timeout)


def ports(names: list[str]) -> Ports:
    """What a declaration of the named lists may ask; what it does not ask is not loaded either."""
    makers: dict[str, Callable[[], Any]] = {"node": _node, "mounted": _mounted, "data": _data}
    makers.update(mount=_network if {"nfs_mounts", "pools"}.intersection(names) else _mount)
    makers.update(quota=_quota, quota_enabled=_quota_enabled, fsinfo=_fsinfo)
    makers.update(snapshot=_snapshot, clock=_clock, content=_content)
    ports = Ports(makers, away)
    makers.update(health=_health)
    makers.update(label=_label, fcontext=_fcontext, fstab=_fstab, unit=lambda: _unit(ports["fstab"]))
    makers.update(gpt=_gpt, partition=_partition, block=_block, udev_rule=_udev_rule)
    makers.update(luks=_luks, mapping=lambda: _mapping(ports["luks"]), crypttab=_crypttab)
    makers.update(io_kept=_io_kept, io_dropin=_io_dropin, io_max=_io_max)
    makers.update(exports=_exports, exportfs=_exportfs)
    makers.update(job=_job, rootfs=_rootfs)
    makers.update(lio_backing=_lio_backing, lio_target=_lio_target, lio_saved=_lio_saved)
    makers.update(iscsi_initiator=_iscsi_initiator, iscsi_record=_iscsi_record, iscsi_session=_iscsi_session)
    makers.update(ec2_volume=_ec2_volume, ec2_attachment=lambda: _ec2_attachment(ports["ec2_volume"]))
    if {"ceph_pools", "ceph_users"}.intersection(names):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters

        clusters = Clusters()
        makers.update(ceph_pool=lambda: _ceph_pool(clusters), ceph_namespace=lambda: _ceph_namespace(clusters))
        makers.update(ceph_auth=lambda: _ceph_auth(clusters), ceph_keyring=lambda: _ceph_keyring(ports["ceph_auth"]))
    if {"pools", "volumes", "snapshots", "filesystems", "volume_groups", "jobs"}.intersection(names):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record

        record = Record()
        makers.update(record=lambda: record, superblock=lambda: _superblock(record), copied=lambda: _copied(record))
        if set(names) != {"filesystems"}:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late

            makers.update(lvm2late.makers(record))
    return ports


def _node() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node

    return Node()


def _health() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mkfs, program

    return mkfs.health(program.execute)


def _mounted() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import MountedRoot

    return MountedRoot()


def _data() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir

    return DataDir()


def _job() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import Job
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

    return Job(execute)


def _rootfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rootfs import RootFs

    return RootFs(execute)


def _snapshot() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots

    return Snapshots()


def _clock() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.clock import Clock

    return Clock()


def _content() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.content import Content

    return Content()


def _mount() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts

    return Mounts()


def _network() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import NetworkMounts

    return NetworkMounts()


def _fstab() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab

    return Fstab()


def _label() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import Labels

    return Labels()


def _fcontext() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import FileContexts

    return FileContexts()


def _unit(fstab: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units

    return Units(fstab)


def _quota() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota

    return Quota()


def _quota_enabled() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import QuotaEnabled

    return QuotaEnabled()


def _fsinfo() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo

    return FsInfo()


def _gpt() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gpt

    return gpt.tables()


def _partition() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gpt

    return gpt.partitions()


def _block() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.block import Block

    return Block()


def _udev_rule() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.udev_rule import UdevRule

    return UdevRule()


def _superblock(record: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

    return Superblock(execute, Intents(record))


def _copied(record: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.copied import Copied

    return Copied(record)


def _luks() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.luks import Luks
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

    return Luks(execute)


def _mapping(luks: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dmcrypt import Mapping

    return Mapping(luks)


def _crypttab() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.crypttab import Crypttab

    return Crypttab()


def _io_kept() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_io import Kept

    return Kept()


def _io_dropin() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_io import Dropins

    return Dropins()


def _io_max() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_io import IoMax

    return IoMax()


def _exports() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import Exports

    return Exports()


def _exportfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exportfs import ExportTable

    return ExportTable()


def _lio_backing() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_backing import LioBacking

    return LioBacking()


def _lio_target() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import LioTarget

    return LioTarget()


def _lio_saved() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import LioSaved

    return LioSaved()


def _ec2_volume() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import Volumes

    return Volumes()


def _ec2_attachment(volumes: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import Attachments

    return Attachments(volumes)


def _iscsi_initiator() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import IscsiInitiator

    return IscsiInitiator()


def _iscsi_record() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import IscsiRecord

    return IscsiRecord()


def _iscsi_session() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_session import IscsiSession

    return IscsiSession()


def _ceph_pool(clusters: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools

    return Pools(clusters)


def _ceph_namespace(clusters: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rbd_namespace import Namespaces

    return Namespaces(clusters)


def _ceph_auth(clusters: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth

    return Auth(clusters)


def _ceph_keyring(auth: Any) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_keyring import Keyrings

    return Keyrings(auth)
