#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_group
short_description: Manage an LVM volume group with its devices, thin pools and volumes
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes a volume group on devices that are proved to be blank by reading them, with its thin pools and logical
    volumes, and grows them. What is not declared of an existing group stays as it is.
  - A device that is not blank is refused with C(not_blank), unless the O(wipe_token) that the refusal printed is given.
    One that belongs to another group is C(in_use), one that the host stands on is C(protected).
  - A group that is exported or has the system id of another host is refused with C(protected), one with a lock manager
    with C(in_use), and one that lacks a device with C(unreadable). Nothing of it is changed.
  - A thick volume that is made has its first and last 4 MiB zeroed before anybody sees it, so that a filesystem can
    be declared on it in the same call of M(bulkhead.storage.layout).
notes:
  - The sources are lvm(8), lvmreport(7), lvmthin(7), lvmsystemid(7), vgcreate(8), lvcreate(8), lvextend(8),
    lvreduce(8), pvmove(8) and lvm.conf(5).
  - A call that changes nothing runs C(lvm fullreport) once, and C(lvm systemid) where a group has a system id.
  - A share such as V(40%VG) is worked out when the volume is made. It is kept in a tag of the volume that begins with
    C(bulkhead.share=), so that it stays what it is when the group grows. Another share is worked out anew.
  - Volumes are known by C(/dev/<vg>/<name>). That path is what other entries of a layout refer to.
seealso:
  - module: bulkhead.storage.filesystem
  - module: bulkhead.storage.layout
options:
  vg:
    description:
      - The name, 1 to 63 of letters, digits and C(_ + . -).
    type: str
    required: true
  pvs:
    description:
      - The devices by stable names. Required when O(state=present). One that the group does not have is added, and
        one that is not named stays.
      - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true), when the
        device is to be written to.
      - With O(state=absent) all of them, or none.
      - In M(bulkhead.storage.layout) also LUNs by C(iscsi), their target, and C(lun), their number.
    type: list
    elements: raw
  remove_pvs:
    description:
      - Devices that the group gives up. What is on them is moved to others by pvmove(8), which a later call continues
        if this one is killed, at most for 6 hours. Then they are wiped.
      - Too little room on the others is C(no_space).
      - LUNs of iSCSI sessions are named as in O(pvs).
    type: list
    elements: raw
  thin_pools:
    description:
      - Thin pools. Those that are not named stay as they are.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The name in its group.
        type: str
        required: true
      size:
        description:
          - The least size of the data, rounded up to whole extents, or a share as a volume takes one. Required to
            make it. A pool that has grown beyond it stays so.
        type: str
      metadata_size:
        description:
          - The least size of the metadata, from 2 MiB to 16 GiB. LVM chooses when it is not given.
        type: str
      autoextend_threshold:
        description:
          - How full, in percent from 50 to 99, the pool is when dmeventd(8) extends it by a fifth. V(100) turns it off.
          - It is kept as a metadata profile, C(bulkhead-thin-<percent>) in C(/etc/lvm/profile), that the pool refers
            to. When it is not given, it stays as it is.
        type: int
      overcommit:
        description:
          - How many times its size the volumes of the pool may have in all. More is C(limit_exceeded). The pool takes a
            size in bytes for it. Unlimited when it is not given.
        type: float
      state:
        description:
          - V(absent) removes an empty pool. One that holds volumes is C(in_use).
        type: str
        choices: [present, absent]
        default: present
  lvs:
    description:
      - Logical volumes. Those that are not named stay as they are.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The name in its group.
        type: str
        required: true
      size:
        description:
          - The size, rounded up to whole extents, or for one that is not thin a share of the group, V(40%VG), of its
            devices, V(40%PVS), or of what is free when it is made, V(100%FREE). Required to make it.
          - A larger size grows it. A smaller one takes O(allow_shrink=true).
        type: str
      thin_pool:
        description:
          - The thin pool that it takes its space from. It cannot be changed later.
        type: str
      tags:
        description:
          - All its tags, but for our own, which begin with C(bulkhead.). When it is not given, they stay as they are.
        type: list
        elements: str
      active:
        description:
          - Whether it is there as a device. One that is in use is not deactivated, but refused with C(in_use).
        type: bool
        default: true
      grow_fs:
        description:
          - Whether the C(ext4), C(xfs) or C(btrfs) that is on it grows with it, also when it was left behind earlier.
          - A filesystem that is declared in the same call of M(bulkhead.storage.layout) does so anyway.
        type: bool
        default: false
      state:
        description:
          - V(absent) wipes and removes it. One that holds something takes O(wipe_token), one that is mounted or has
            snapshots is C(in_use), and what is on an inactive one cannot be seen, which is C(unreadable).
        type: str
        choices: [present, absent]
        default: present
  allow_shrink:
    description:
      - Consent to make volumes smaller. A volume that is not blank must hold a filesystem that was made smaller before,
        otherwise C(would_shrink).
    type: bool
    default: false
  wipe_token:
    description:
      - Consents to destroy what is there, one for each device or volume. The refusal prints each in
        C(errors[].details.wipe_token).
      - Each is a digest of the device and of its content, and no longer valid when either changes.
    type: list
    elements: str
  state:
    description:
      - V(absent) removes all volumes, declared or not, each by its own O(wipe_token) unless it is blank, and the group,
        and wipes the devices.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: lvm
- name: A volume group with two volumes
  bulkhead.storage.volume_group:
    vg: data
    pvs: [/dev/disk/by-id/virtio-blank-0001]
    lvs:
      - {name: logs, size: 2GiB}
      - {name: home, size: 40%VG}

# needs: lvm
- name: Thin volumes in a pool that extends itself
  bulkhead.storage.volume_group:
    vg: data
    pvs: [/dev/disk/by-id/virtio-blank-0001]
    thin_pools:
      - {name: pool, size: 20GiB, metadata_size: 64MiB, autoextend_threshold: 80, overcommit: 2.0}
    lvs:
      - {name: tenant-1, size: 15GiB, thin_pool: pool}
      - {name: tenant-2, size: 15GiB, thin_pool: pool}

# needs: lvm
- name: Another disk takes the place of the first one
  bulkhead.storage.volume_group:
    vg: data
    pvs: [/dev/disk/by-id/virtio-blank-0002]
    remove_pvs: [/dev/disk/by-id/virtio-blank-0001]
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
    - kind: volume_group
      entry: volume_group (data)
      port: lv
      target: /dev/data/logs
      verb: create
      risk: forward
      before: null
      after: {size: 2147483648, share: null, thin_pool: null, tags: [], active: true}
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
  description: The volume group as it stands now. In check mode, as far as that is known, as it would stand.
  returned: success
  type: dict
  contains:
    vg:
      description: The name.
      type: str
      returned: always
    size_bytes:
      description: The size of the group, null where there is none.
      type: int
      returned: always
    free_bytes:
      description: What is free of it, null where there is no group.
      type: int
      returned: always
    pvs:
      description: Its devices, each with C(name), C(size_bytes) and C(free_bytes).
      type: list
      elements: dict
      returned: always
    thin_pools:
      description: Its thin pools, each with C(name), C(size_bytes), C(metadata_bytes), C(data_percent) and
        C(metadata_percent).
      type: list
      elements: dict
      returned: always
    lvs:
      description: Its volumes, each with C(name), C(path), C(uuid) and C(size_bytes).
      type: list
      elements: dict
      returned: always
  sample:
    vg: data
    size_bytes: 42945478656
    free_bytes: 23622320128
    pvs: [{name: /dev/vda, size_bytes: 42945478656, free_bytes: 23622320128}]
    thin_pools: []
    lvs: [{name: logs, path: /dev/data/logs, uuid: hLvD2I-xm5e-Qd8x-l0Vh-sjUH-Cyh2-5lYcNs, size_bytes: 2147483648}]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "change of pv data /dev/disk/by-id/virtio-blank-0001 would destroy content"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: not_blank
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "repeat the task with wipe_token: 5f0c to destroy what is there"
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

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group


def main() -> None:
    _shell.run(volume_group, lvm2.makers(execute))


if __name__ == "__main__":
    main()
