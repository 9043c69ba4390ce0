# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each kind makes of a declaration, as data: one file a case, in the folder of its kind.

::

    declared: {path: /mnt/a, size: 1MiB}             # one entry as a user writes it
    beside: {mounts: [{path: /mnt, ...}]}            # optional: other entries of the same declaration, by list
    rows: {mount: {/mnt/a: {fstype: tmpfs}}}         # optional: port -> target -> what is there
    actions:                                         # in this order, and none besides
      - {port: mount, target: /mnt/a, verb: change, before: {noexec: false}, after: {noexec: true}, risk: reversible}
    refused: {code: invalid, message: is not a size} # instead of actions

A target is written as messages show it (``fstab``: ``/etc/fstab /mnt/a``), an octal mode as text. ``before`` and
``after`` name the fields that matter; null: the field is not there. Rows are filled up with what a plain one has.
The planner is the real one, over the real ports: only their looks are rows. What it foresees is then made the world,
and a second plan must be empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_keyring import Keyrings
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_io import IoMax
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.clock import Clock
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.content import Content
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.copied import Copied
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import Attachments, Volumes
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exportfs import ExportTable
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import Exports
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsck import Health
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import IscsiInitiator
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import IscsiRecord
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_session import IscsiSession
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import Job
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_backing import LioBacking
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import LioSaved
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import LioTarget
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2 import Group, LogicalVolume
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2content import Content as LvContent
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import NetworkMounts
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, MountedRoot, Node
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import BtrfsLimits, Quota, QuotaEnabled
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Answer
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rbd_namespace import Namespaces
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rootfs import RootFs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import FileContexts, Labels
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_io import Dropins, Kept
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Secret
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import parent, within
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Plan, World
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import compare as plan

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.yml"))
KINDS = {"filesystem": "filesystems", "mount": "mounts", "tmpfs": "tmpfs", "tree": "trees"}
KINDS.update(quota="quotas", pool="pools", volume="volumes")
KINDS.update(snapshot="snapshots", io_limit="io_limits", job="jobs", iscsi_target="iscsi_targets")
KINDS.update(ebs_volume="ebs_volumes", nfs_export="nfs_exports", nfs_mount="nfs_mounts", iscsi_session="iscsi_sessions")
KINDS.update(ceph_pool="ceph_pools", ceph_user="ceph_users")
Rows = Dict[str, Any]


class Seen:
    """What a port of a case sees: its rows, each filled up by ``filled``, and nothing else."""

    name: str

    def see(self, rows: Rows) -> Any:
        self.world = rows
        return self

    def scan(self, targets: Any = None) -> Any:
        mine = self.world.get(self.name, {})
        if targets is None:
            targets = [self.target(text) for text in mine]
        found: dict[Any, Any] = {}
        for target in targets:
            value = mine.get(target_text(target))
            if value is None:
                continue
            found[target] = self.filled(target, dict(value)) if "error" not in value else StorageError(**value["error"])
        return {target: value for target, value in found.items() if value is not None}

    def target(self, text: str) -> Any:
        return text

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return row


class Nodes(Seen):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = {"type": "directory", "uid": 0, "gid": 0, "mode": 0o755, "acl": (), "default_acl": ()}
        mounts = self.world.get("mount", {})
        row = {**plain, "_mounted": target in mounts, "_trusted": True, "_raw": (b"", b""), **row}
        return {**row, **{key: tuple(row[key]) for key in ("acl", "default_acl")}}


class CaseNode(Nodes, Node):
    pass


class CaseData(Nodes, DataDir):
    pass


class CaseSnapshots(Nodes, Snapshots):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        return super().filled(target, {"read_only": True, **row})


class CaseMounted(Nodes, MountedRoot):
    pass


class CaseMounts(Seen, Mounts):
    def resolve(self, target: str, declared: Rows) -> Rows:
        """Without a look at the source, which is a path of the case's world and not of this host."""
        source = declared.get("source")
        found = super().resolve(target, {k: v for k, v in declared.items() if k != "source"})
        return {**found, "source": source} if source is not None else found

    def filled(self, target: Any, row: Rows) -> Rows | None:
        flags = dict.fromkeys(("read_only", "nosuid", "nodev", "noexec", "nodiratime", "bind"), False)
        row = {**flags, "atime": "relatime", "propagation": "private", "_again": False, "_below": [], **row}
        return {**row, "_sources": {row.get("source")}}


class CaseNetwork(CaseMounts, NetworkMounts):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        return super().filled(target, {"stale": False, **row})

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """The host of a case has mount.nfs4."""


class CaseFstab(Seen, Fstab):
    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"fstype": "auto", "options": "defaults", "dump": 0, "passno": 0, **row}


class CaseUnits(Seen, Units):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"options": "defaults", "fsck": False, "enabled": True, "intact": True, **row}


class CaseLabels(Seen, Labels):
    """On a host whose policy knows every label."""

    def resolve(self, target: str, declared: Rows) -> Rows:
        return declared


class CaseFileContexts(Seen, FileContexts):
    def resolve(self, target: str, declared: Rows) -> Rows:
        return {"level": "s0", **declared, "effective": True}


class CaseContent(Seen, Content):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"restored": "", "sealed": False, **row}


class CaseClock(Seen, Clock):
    """It is noon of the first Friday of 2026, unless a case tells."""

    def scan(self, targets: Any = None) -> Any:
        return {"utc": self.world.get("clock", {}).get("utc", 1767355200)}


class CaseRecord(Seen, Record):
    def scan(self, targets: Any = None) -> Any:
        """Of ``snapshots`` all that a volume has."""
        wanted = list(targets) if targets is not None else None
        for key in [key for kind, key in wanted or () if kind == "snapshots"]:
            rows = map(self.target, self.world.get("record", {}))
            wanted += [spot for spot in rows if spot[0] == "snapshot" and spot[1].startswith(key + "/")]
        return super().scan(wanted)

    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def filled(self, target: Any, row: Rows) -> Rows | None:
        born = {"id": "id of %s" % target[1], "created_at": "2026-01-02T03:04:05Z"}
        if target[0] == "pool":
            inside = self.world["record"].items()
            held = {k.split(" ")[1]: v for k, v in inside if k[:7] == "volume " and v.get("pool") == target[1]}
            seen = {"_volumes": sorted(held)[:16], "_volume_count": len(held)}
            return {**born, **row, **seen, "_provisioned": sum(v["size"] for v in held.values())}
        if target[0] == "snapshot":
            return {**born, **row}
        plain = {"type": "filesystem", "attachments": {}, "mode": 0o750, "scope": "job", "sharing": "read_write"}
        plain.update(labels={}, owner="0", group="0")
        return {**born, **plain, **row}


class CaseHealth(Seen, Health):
    pass


class CaseSuperblock(Seen, Superblock):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        """``blank``: the device or image is there, as long as that, and holds nothing."""
        size = row.pop("blank", 0) or row.get("size", 0)
        seen = {"_device_size": size, "_token": "token of " + target, "_live": False, "_in_use": [], "_protected": ""}
        seen.update(_stable=True, _no_tool=False, _by_id=[])
        seen.update({key: row.pop(key) for key in tuple(row) if key in seen})
        self.seen[target] = seen
        if not row:
            return None
        plain = {"label": "", "uuid": "4f0c1d7e-0000-4000-8000-000000000001", "size": size, "fills": True}
        row = {**plain, "quota": (), "features": (), "_bytes": row.get("size", size), "_slack": 0, **seen, **row}
        return {**row, **{key: tuple(row[key]) for key in ("quota", "features")}}


class CaseQuota(Seen, Quota):
    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def scan(self, targets: Any = None) -> Any:
        self._seen.update(dict.fromkeys(targets or (), BtrfsLimits()))
        return super().scan(targets)

    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = dict.fromkeys(("hard", "soft", "inodes_hard", "inodes_soft", "parent"))
        row = {**plain, "nested": True, **row}
        return {**row, "_parents": {1: row["parent"]} if row["parent"] else {}}


class CaseEnabled(Seen, QuotaEnabled):
    def canon(self, target: str) -> str:
        """Without a look at where it lies, which is on a filesystem of the case's world and not of this host."""
        return target


class CaseGroup(Seen, Group):
    """A group of 4 MiB extents with 10 GiB, all of it free, and a thin pool ``thin`` of 1 GiB."""

    def __init__(self) -> None:
        super().__init__(None, lambda: None)  # type: ignore[arg-type]

    def filled(self, target: Any, row: Rows) -> Rows | None:
        thin = {"pool": True, "size": 1 << 30, "data_percent": 0.0, "tags": (), "active": True}
        plain = {
            "problem": None,
            "size": 10 << 30,
            "free": 10 << 30,
            "extent": 4 << 20,
            "lvs": {"thin": thin},
            "pvs": [],
        }
        return {"_group": {**plain, **row}}


class CaseLogical(Seen, LogicalVolume):
    def __init__(self) -> None:
        super().__init__(None, lambda: None)  # type: ignore[arg-type]

    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = {"share": None, "thin_pool": None, "active": True}
        return {**plain, **row, "tags": tuple(row.get("tags", ())), "_snapshots": [], "_token": "token of " + target}


class CaseLvContent(Seen, LvContent):
    def __init__(self) -> None:
        super().__init__(None, lambda: None)  # type: ignore[arg-type]

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"restored": "", "sealed": True, "_open": False, **row}


class CaseCopied(Seen, Copied):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"from": None, "phase": "copying", "_others": [], **row}


class CaseFsInfo(Seen, FsInfo):
    """Of each path or its nearest row above it; a filesystem without quota where none is told."""

    def scan(self, targets: Any = None) -> Any:
        rows = self.world.get("fsinfo", {})
        found: Rows = {}
        for target in targets or ():
            over = max((path for path in rows if within(target, path)), key=len, default=None)
            plain = {"fstype": "ext4", "qgroup": False, "project_quota": False, "loop": True}
            found[target] = {**plain, **(rows[over] if over is not None else {})}
        return found


class CaseKept(Seen, Kept):
    def filled(self, target: Any, row: Rows) -> Any:
        return tuple(map(tuple, row["kept"]))


class CaseDropins(Seen, Dropins):
    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = dict.fromkeys(("read_bps", "write_bps", "read_iops", "write_iops", "weight"))
        return {**plain, "intact": True, "_elsewhere": False, **row}


class CaseIoMax(Seen, IoMax):
    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = dict.fromkeys(("read_bps", "write_bps", "read_iops", "write_iops", "weight"))
        return {**plain, "_bfq": False, **row}


class CaseExports(Seen, Exports):
    def target(self, text: str) -> Any:
        return tuple(text.split(" "))

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"clients": tuple(row["clients"])}


class CaseExportTable(Seen, ExportTable):
    """Of a host that has what exporting takes. A directory is missing that is no row of ``node``."""

    def scan(self, targets: Any = None) -> Any:
        nodes = self.world["node"]
        self.missing = {target for target in targets or () if target in self.declared and target not in nodes}
        return super().scan(targets)

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"clients": tuple(row["clients"])}

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """Likewise."""


class CaseVolumes(Seen, Volumes):
    """What only EC2 can tell of a new volume is asked by tests/integration/test_ebs_volume.py."""

    def scan(self, targets: Any = None) -> Any:
        found = super().scan(targets)
        self.rows = dict(found)
        return found

    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = {"size": 10 << 30, "type": "gp3", "iops": 3000, "throughput": 125, "multi_attach": False}
        plain.update(encrypted=True, kms_key_id="arn:aws:kms:us-east-1:1:key/k", snapshot_id=None, zone="us-east-1a")
        seen = {"tags": {"Name": "data"}, "_id": "vol-0000000a", "_state": "available", "_born": ""}
        held = [text.split(" ") for text in self.world.get("ec2_attachment", {})]
        mine = {each[1]: {"device": "/dev/sdf", "_state": "attached"} for each in held if each[0] == str(target)}
        return {**plain, **seen, **row, "_attachments": mine}

    def refuse(self, target: Any, before: Any, after: Any, gone: Any) -> Any:
        return super().refuse(target, before, after, gone) if before is not None else None


class CaseAttachments(Seen, Attachments):
    def __init__(self) -> None:
        super().__init__(Volumes())

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"device": "/dev/sdf", "_state": "attached", **row}

    def refuse(self, target: Any, before: Any, after: Any, gone: Any) -> None:
        """The instances of a case are as they have to be."""


class CaseJob(Seen, Job):
    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """The host of a case has what a job needs."""


class CaseRootFs(Seen, RootFs):
    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """Likewise."""


class CaseLioBacking(Seen, LioBacking):
    def unsafe(self, target: str) -> None:
        """Nobody but root writes on the host of a case."""

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"type": "file", "size": None, **row}


class Lio(Seen):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = {"luns": {}, "portals": ["0.0.0.0:3260"], "initiators": {}, "authentication": False, "leftover": ()}
        row = {**plain, "demo_mode": False, "enabled": True, "_sessions": [], "_groups": [], **row}
        mine = {"plugin": "fileio", "serial": "theirs"}
        luns = {str(number): {**mine, **lun} for number, lun in row["luns"].items()}
        chap = dict.fromkeys(("username", "password", "mutual_username", "mutual_password"))
        initiators = {}
        for name, said in row["initiators"].items():
            said = {**chap, "own_rule": None, **said, "luns": tuple(said.get("luns", luns))}
            for word in ("password", "mutual_password"):
                said[word] = Secret(said[word]) if isinstance(said[word], str) else said[word]
            initiators[name] = said
        row.update(luns=luns, initiators=initiators, portals=tuple(row["portals"]), leftover=tuple(row["leftover"]))
        return row


class CaseLioTarget(Lio, LioTarget):
    def missing(self, device: str) -> bool:
        return device not in self.world.get("devices", {})

    def unable(self) -> None:
        """The kernel of a case can."""

    def taken(self, target: str, paths: list[str]) -> None:
        """And nobody else uses what is served."""


class CaseLioSaved(Lio, LioSaved):
    pass


def _secrets(row: Rows) -> Rows:
    chap = dict.fromkeys(("username", "password", "mutual_username", "mutual_password"))
    row = {**chap, **row, "portals": tuple(row["portals"])}
    for word in ("password", "mutual_password"):
        row[word] = Secret(row[word]) if isinstance(row[word], str) else row[word]
    return row


class CaseIscsiInitiator(Seen, IscsiInitiator):
    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """The host of a case has what a login takes."""


class CaseIscsiRecord(Seen, IscsiRecord):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        row = _secrets({"startup": "automatic", "intact": True, **row})
        return {"authmethod": "CHAP" if row["username"] else "None", **row}

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """Likewise."""


class CaseIscsiSession(Seen, IscsiSession):
    """Each LUN is a disk of its own; after a login they are those that were asked for."""

    def filled(self, target: Any, row: Rows) -> Rows | None:
        luns = row.get("luns", dict.fromkeys((self.declared.get(target) or {}).get("_luns", ()), {}))
        luns = {str(number): {"path": "/dev/disk/by-id/scsi-3%s" % number, **lun} for number, lun in luns.items()}
        return {**_secrets({"multipath": True, "current": True, **row}), "luns": luns}

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> None:
        """Likewise."""


class CephCluster:
    """Of three OSDs on two hosts, with rules for both, and no filesystem but ``files`` in the pool ``files-data``."""

    def __init__(self) -> None:
        rule = {"type": 1, "steps": [{"op": "take", "item_name": "default"}, {"op": "emit"}]}
        self.rules = []
        for number, (name, kind) in enumerate((("replicated_rule", "osd"), ("by_host", "host"))):
            steps = [rule["steps"][0], {"op": "chooseleaf_firstn", "num": 0, "type": kind}, rule["steps"][1]]
            self.rules.append({"rule_id": number, "rule_name": name, "type": 1, "steps": steps})
        profiles = {"default": {"k": "2", "m": "2", "crush-failure-domain": "osd"}}
        profiles["k2m1"] = {"k": "2", "m": "1", "crush-failure-domain": "osd"}
        self.answers: Rows = {"osd dump": {"pools": [], "erasure_code_profiles": profiles}}
        self.answers["osd crush rule dump"] = self.rules
        self.answers["fs ls"] = [{"name": "files", "metadata_pool": "files-meta", "data_pools": ["files-data"]}]
        ones, twos = ([{"id": number, "weight": 1} for number in osds] for osds in ((0, 1), (2,)))
        hosts = [{"id": -2, "name": "one", "type_name": "host", "weight": 2, "items": ones}]
        hosts.append({"id": -3, "name": "two", "type_name": "host", "weight": 1, "items": twos})
        above = [{"id": host["id"], "weight": 1} for host in hosts]
        root = {"id": -1, "name": "default", "type_name": "root", "weight": 3, "items": above}
        self.answers["osd crush dump"] = {"buckets": [root, *hosts]}

    def session(self, access: Any) -> CephCluster:
        return self

    def ask(self, *commands: Any) -> list[Answer]:
        return [Answer(self.answers[command["prefix"]], "") for command in commands]


class CaseCephPool(Seen, Pools):
    def filled(self, target: Any, row: Rows) -> Rows | None:
        plain = {"type": "replicated", "size": 3, "min_size": 2, "pg_num": 32, "autoscale": "on", "nodelete": False}
        plain.update(crush_rule="replicated_rule", ec_profile=None, ec_overwrites=False, ready=True)
        plain.update(dict.fromkeys(("quota_bytes", "quota_objects", "compression_mode", "compression_algorithm")))
        plain.update(compression_required_ratio=None, _id=7, _settings={}, _tiers=False)
        return {**plain, **row, "application": tuple(row.get("application", ()))}


class CaseNamespaces(Seen, Namespaces):
    pass


class CaseAuth(Seen, Auth):
    pass


class CaseKeyrings(Seen, Keyrings):
    """A directory is missing that is no row of ``node``."""

    def scan(self, targets: Any = None) -> Any:
        self.homeless = {path for path in targets or () if parent(path) not in self.world["node"]}
        return super().scan(targets)

    def filled(self, target: Any, row: Rows) -> Rows | None:
        return {"current": True, "mode": 0o600, "own": True, **row}


def ports(rows: Rows, network: bool = False) -> dict[str, Any]:
    mounts = CaseNetwork() if network else CaseMounts()
    made: list[Any] = [CaseNode(), CaseData(), CaseMounted(), mounts, CaseFstab(), CaseRecord(), CaseFsInfo()]
    made += [CaseUnits(made[4]), CaseLabels(), CaseFileContexts(), CaseSnapshots(), CaseClock()]
    made += [CaseKept(), CaseDropins(), CaseIoMax()]
    made += [CaseExports(), CaseExportTable(), CaseVolumes(), CaseAttachments()]
    made += [CaseJob(lambda argv: (1, b"", b"no case runs a program")), CaseRootFs(lambda argv: (1, b"", b""))]
    made += [CaseLioBacking(), CaseLioTarget(), CaseLioSaved("/etc/target/saveconfig.json")]
    made += [CaseIscsiInitiator(), CaseIscsiRecord(), CaseIscsiSession()]
    made += [CaseContent(), CaseGroup(), CaseLogical(), CaseLvContent()]
    made += [CaseCopied(None)]
    ceph: Any = CephCluster()
    made += [CaseCephPool(ceph), CaseNamespaces(ceph), CaseAuth(ceph), CaseKeyrings(CaseAuth(ceph))]
    made += [CaseHealth(lambda argv: (1, b"", b"no case runs a program"))]
    made += [CaseSuperblock(lambda argv: (1, b"", b"no case runs a program"), None), CaseQuota(), CaseEnabled()]
    return {port.name: port.see(rows) for port in made}


def planned(case: Rows, kind: str, rows: Rows) -> Plan:
    document: Rows = {name: list(given) for name, given in case.get("beside", {}).items()}
    document.setdefault(KINDS[kind], []).insert(0, case["declared"])
    common = {"allow_unstable_device": case.get("allow_unstable_device", False)}
    entries, errors = _kinds.entries(document, common, set())
    world = World(ports(rows, not {"nfs_mounts", "pools"}.isdisjoint(document) or kind == "pool"))
    units, errors = reconcile.declare(world, entries, errors)
    found = plan(units, world)
    found.errors[:0] = [error for error in errors if error not in found.errors]
    return found


def read(path: Path) -> tuple[Rows, Rows]:
    """A case, and its world: what it tells, over the folders that every host has."""
    case = _modes(yaml.safe_load(path.read_text(encoding="utf-8")))
    rows = case.get("rows", {})
    common = ("/", "/mnt", "/srv", "/var", "/var/lib")
    rows["node"] = {**{folder: {} for folder in common}, **rows.get("node", {})}
    rows["node"].setdefault("/var/lib/bulkhead", {"mode": 0o700})
    return case, rows


def _modes(value: Any, key: str = "") -> Any:
    """Octal text as the number it means, but not in what the user declares."""
    if isinstance(value, dict):
        return {k: v if k in ("declared", "beside") else _modes(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_modes(item) for item in value]
    return int(value, 8) if key in ("mode", "o:mode") and isinstance(value, str) else value


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def told(value: Any, expected: Any) -> Any:
    """Of a value the fields that the case expects, so that a difference shows the two side by side."""
    if value is UNKNOWN:
        return "UNKNOWN"
    if isinstance(value, dict) and isinstance(expected, dict):
        return {key: told(value.get(key), expected[key]) for key in expected}
    return plain(value)


def foreseen(rows: Rows, found: Plan) -> Rows:
    """The world once every action was done; what only the kernel or a server chooses is left out."""
    after = {port: dict(mine) for port, mine in rows.items()}
    for action in found.actions:
        mine = after.setdefault(action.port, {})
        mine.pop(target_text(action.target), None)
        if action.after is not None:
            known = {k: v for k, v in action.after.items() if v is not UNKNOWN}
            mine[target_text(action.target)] = known
    return after


@pytest.mark.parametrize("path", FILES, ids=lambda path: "%s/%s" % (path.parent.name, path.stem))
def test_case(path: Path) -> None:
    case, rows = read(path)
    assert not case.keys() - {"declared", "beside", "rows", "actions", "refused", "allow_unstable_device"}
    assert ("actions" in case) != ("refused" in case), "a case says what happens, or that it is refused"
    found = planned(case, path.parent.name, rows)
    if "refused" in case:
        error = found.errors[0] if found.errors else None
        assert error is not None, [(a.verb, a.port, a.target) for a in found.actions]
        assert (error.code, case["refused"]["message"] in error.message) == (case["refused"]["code"], True), str(error)
        return
    assert [str(error) for error in found.errors] == []
    verbs = [(action.verb, action.port, target_text(action.target)) for action in found.actions]
    assert verbs == [(each["verb"], each["port"], each["target"]) for each in case["actions"]]
    for action, each in zip(found.actions, case["actions"]):
        assert not each.keys() - {"port", "target", "verb", "risk", "before", "after"}
        seen = {key: told(getattr(action, key), each[key]) for key in ("risk", "before", "after") if key in each}
        assert seen == {key: each[key] for key in seen}, (action.verb, action.port, action.target)
    again = planned(case, path.parent.name, foreseen(rows, found))
    assert [str(error) for error in again.errors] == []
    assert [(a.verb, a.port, a.target, a.before, a.after) for a in again.actions] == [], "the second run"


def declared(kind: str) -> list[Rows]:
    """Every entry of a kind in the cases of that kind."""
    found = []
    for path in FILES:
        if path.parent.name == kind:
            case = yaml.safe_load(path.read_text(encoding="utf-8"))
            found += [case["declared"], *case.get("beside", {}).get(KINDS[kind], [])]
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_option_and_choice_has_a_case(kind: str) -> None:
    """A new option without a case fails here."""
    missing = _untold(_kinds.resource(KINDS[kind]).OPTIONS, declared(kind), "")
    assert missing == []


def _untold(options: Rows, entries: list[Rows], where: str) -> list[str]:
    missing = []
    for name, option in options.items():
        names = (name, *option.get("aliases", ()))
        given = [entry[n] for entry in entries for n in names if entry.get(n) is not None]
        values = [each for value in given for each in (value if isinstance(value, list) else [value])]
        if name != "wipe_token" and not given:
            missing.append(where + name)
        for choice in option.get("choices", ()):
            if choice not in values and option.get("default") != choice:
                missing.append("%s%s: %s" % (where, name, choice))
        if "options" in option and given:
            missing += _untold(option["options"], values, where + name + ".")
    return missing
