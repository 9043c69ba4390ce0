#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pool
short_description: A place that volumes come from
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Declares where volumes live, what enforces their size, how large they may be and how many of them there may be.
  - The pool V(default) is there without being declared. It lies at C(/var/lib/bulkhead/volumes) with the backend
    V(auto), so that the size of the first volume that anybody declares is enforced on any host.
  - Backend and path are chosen once. Another one later is a C(conflict).
notes:
  - What is known about pools and volumes is recorded in C(/var/lib/bulkhead), which only root can read.
  - The backends V(ceph_rbd) and V(cephfs) are not supported yet and refused with C(unsupported).
  - No client of NFS can set the limit of a directory, but each sees it. The server has to make the directory of a
    volume, C(<export>/<namespace>/<name>), and give it a project quota of the volume's size. A volume whose directory
    is not held to its size is refused with C(not_enforced) before anything is changed.
seealso:
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.nfs_mount
  - module: bulkhead.storage.iscsi_session
  - module: bulkhead.storage.volume_group
  - module: bulkhead.storage.pool_info
options:
  name:
    description:
      - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without C(..).
    type: str
    required: true
  backend:
    description:
      - V(directory) makes directories, bounded by project quota. It must lie on XFS or ext4 where that is enforced
        (mount option C(prjquota)), otherwise the pool is refused with C(not_enforced). On Btrfs it is V(btrfs). What
        the owner of files can do about a project is told in the collection's guide on quota.
      - V(btrfs) makes subvolumes, bounded by simple quota or a qgroup. It must lie on Btrfs.
      - V(loop) makes image files with a filesystem of their own. It works on any filesystem.
      - V(lvm) makes logical volumes in a volume group that is there already or declared beside it with
        M(bulkhead.storage.layout), thin ones where O(config.thin_pool) is given. They are mounted while attached.
      - V(nfs) mounts an export, NFS 4.2 with what M(bulkhead.storage.nfs_mount) does unasked. Its volumes are
        directories that the server holds to their size. For another version, Kerberos or other options declare an
        M(bulkhead.storage.nfs_mount) of the same server and export at O(config.path) beside it. Owner and mode of a
        volume are set by root, so the server must not squash it (C(no_root_squash)), or have them so already.
      - V(iscsi) is V(lvm) in a volume group all of whose devices are LUNs, as M(bulkhead.storage.layout) makes it where
        C(pvs) names LUNs. A group with a disk of this host is a C(conflict). Only one host may be let in to those LUNs,
        nothing here keeps two hosts from writing to one group.
      - V(memory) is for memory volumes only and has no path.
      - V(auto) is V(btrfs) on Btrfs, V(directory) where project quota is enforced and V(loop) anywhere else. It is
        chosen once.
      - Required when O(state=present).
    type: str
    choices: [auto, directory, loop, lvm, btrfs, nfs, iscsi, ceph_rbd, cephfs, memory]
  config:
    description:
      - Settings of the backend.
    type: dict
    suboptions:
      path:
        description:
          - The directory that volumes lie in. It is made where it is missing, owned by root with mode 0711.
          - Required for V(directory), V(btrfs), V(loop) and V(auto), except for the pool V(default).
          - For V(lvm) and V(iscsi) the directory that volumes are mounted in, for V(nfs) where the export is mounted.
            When it is not given, the pool's own one in C(/var/lib/bulkhead/pools).
        type: path
      vg:
        description:
          - The volume group. Required for the backends V(lvm) and V(iscsi). It cannot be changed later.
        type: str
      thin_pool:
        description:
          - The thin pool of that group (backends V(lvm) and V(iscsi)). Without one all volumes are thick, and none can
            be a clone or of type V(block). It cannot be changed later.
        type: str
      server:
        description:
          - The server, a name or an address. Required for backend V(nfs). It cannot be changed later.
        type: str
      export:
        description:
          - The exported path. Required for backend V(nfs). It cannot be changed later.
        type: str
      cluster:
        description:
          - Name of the cluster (backends V(ceph_rbd) and V(cephfs)).
        type: str
      pool_name:
        description:
          - The pool of the cluster (backends V(ceph_rbd) and V(cephfs)).
        type: str
      monitors:
        description:
          - Addresses of its monitors (backends V(ceph_rbd) and V(cephfs)).
        type: list
        elements: str
      user:
        description:
          - The user to connect as (backends V(ceph_rbd) and V(cephfs)).
        type: str
      keyring_path:
        description:
          - File on the target that holds the user's key (backends V(ceph_rbd) and V(cephfs)).
        type: path
      namespace:
        description:
          - The namespace inside the pool (backend V(ceph_rbd)).
        type: str
  max_volume_size:
    description:
      - The largest volume allowed, such as C(100GiB). A larger one is refused with C(limit_exceeded), existing ones
        stay. V(none) lifts the limit.
    type: str
  max_volumes_per_namespace:
    description:
      - How many volumes a namespace may have in this pool, at least 1. One more is refused with C(limit_exceeded).
        V(none) lifts the limit.
    type: str
  overcommit:
    description:
      - How many times its capacity a pool may promise, from 1 to 1000. V(none) lifts the limit.
    type: raw
  confirm:
    description:
      - The pool's own name, as consent to remove it.
    type: str
  state:
    description:
      - V(absent) takes O(confirm). A pool that has volumes is refused with C(in_use), which names them.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: Volumes as image files on whatever filesystem is there
  bulkhead.storage.pool:
    name: images
    backend: loop
    config:
      path: /var/lib/bulkhead/images
    max_volume_size: 100GiB
    max_volumes_per_namespace: 20

# needs: nfs
- name: Volumes on an NFS server, which limits their directories
  bulkhead.storage.pool:
    name: far
    backend: nfs
    config:
      server: nfs1.example.com
      export: /srv/volumes

- name: Volumes as subvolumes of a Btrfs filesystem
  bulkhead.storage.pool:
    name: fast
    backend: btrfs
    config:
      path: /srv/pools/fast

- name: Whatever can be enforced there
  bulkhead.storage.pool:
    name: builds
    backend: auto
    config:
      path: /srv/pools/builds

# needs: lvm
- name: Volumes as thin logical volumes of a volume group
  bulkhead.storage.pool:
    name: machines
    backend: lvm
    config:
      vg: data
      thin_pool: thin
    overcommit: 2.0

- name: Larger volumes are allowed from now on
  bulkhead.storage.pool:
    name: images
    backend: loop
    config:
      path: /var/lib/bulkhead/images
    max_volume_size: 200GiB

- name: Remove an empty pool
  bulkhead.storage.pool:
    name: builds
    state: absent
    confirm: builds
"""

RETURN = r"""
changed:
  description: Whether anything was changed. In check mode, whether anything would be.
  returned: always
  type: bool
  sample: true
actions:
  description:
    - The first O(actions_limit) actions of the plan, in the order in which they are taken, the same list in check mode
      and in the real run. M(bulkhead.storage.layout) tells the fields of each.
  returned: success, or when an action failed
  type: list
  elements: dict
  sample:
    - kind: pool
      entry: pool (fast)
      port: record
      target: pool fast
      verb: create
      risk: reversible
      before: null
      after: {id: UNKNOWN, created_at: UNKNOWN, backend: btrfs, path: /srv/pools/fast}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions were C(planned), C(applied), C(failed), C(undone), C(kept) and C(skipped).
  returned: always
  type: dict
  sample: {planned: 1, applied: 1, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: /var/lib/bulkhead/journal/20260102T030405.678901-0a1b2c3d.jsonl
resource:
  description: The pool as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    name:
      description: The pool's name.
      type: str
      returned: always
    phase:
      description:
        - V(ready), V(pending) when it is not there yet, V(error) when its directory is missing or cannot be read.
      type: str
      returned: always
    backend:
      description: What holds its volumes, null when the pool is not there.
      type: str
      returned: always
    enforced_by:
      description:
        - What enforces the sizes of its volumes. V(project_quota), V(qgroup), V(block) or V(tmpfs), null when the pool
          is not there or its backend is still to be chosen.
      type: str
      returned: always
    path:
      description: The directory that its volumes lie in, empty for a memory pool.
      type: str
      returned: always
    capacity_bytes:
      description:
        - Size of the filesystem that it lies on, of its thin pool or its volume group. Null when that is not known.
      type: int
      returned: always
    used_bytes:
      description: Bytes of that which are in use or reserved, by whomever. Null when that is not known.
      type: int
      returned: always
    provisioned_bytes:
      description: Sum of the sizes of its volumes.
      type: int
      returned: always
    volumes:
      description: How many volumes it has.
      type: int
      returned: always
    max_volume_size:
      description: The largest volume allowed in bytes, null when there is no bound.
      type: int
      returned: always
    max_volumes_per_namespace:
      description: How many volumes a namespace may have in it, null when there is no bound.
      type: int
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "pool (fast): the pool would go (repeat the task with confirm: fast)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: would_destroy
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "repeat the task with confirm: fast"
errors:
  description:
    - Every refusal or failure, all at once, each with C(entry), C(code), C(message), C(hint) and C(details).
  returned: failure
  type: list
  elements: dict
errors_total:
  description: How many errors there are, should RV(errors) have been cut to fit into a result.
  returned: failure
  type: int
  sample: 1
"""

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool


def main() -> None:
    lines: list[Any] = []

    def mount() -> Any:  # asked only of a pool on NFS, as are the next two
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import NetworkMounts

        return NetworkMounts()

    def fstab() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab

        lines.extend([Fstab()] * (not lines))  # systemd is told of both at once
        return lines[0]

    def unit() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units

        return Units(fstab())

    ports: dict[str, Any] = {"node": Node, "record": Record, "fsinfo": FsInfo, **lvm2late.makers()}
    _shell.run(pool, {**ports, "mount": mount, "fstab": fstab, "unit": unit})


if __name__ == "__main__":
    main()
