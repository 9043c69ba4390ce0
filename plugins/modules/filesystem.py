#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: filesystem
short_description: Make a filesystem on a blank device, label it and let it grow
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes a filesystem on a device or in an image file that is proved to be blank by reading it, never by the exit code
    of a tool. Anything that is not blank is refused with C(not_blank), and the refusal says what was found.
  - Labels an existing filesystem and grows it to the size of its device.
  - It never shrinks one without O(allow_shrink=true), and never makes another one over it, unless the O(wipe_token)
    that the refusal printed is given.
  - The devices of the root filesystem, of C(/boot), of the EFI system partition and of swap, and everything they stand
    on, are always refused with C(protected).
notes:
  - The sources are mke2fs(8), resize2fs(8), mkfs.xfs(8), xfs_admin(8), mkfs.btrfs(8), mkfs.fat(8), mkswap(8) and the
    documents on these filesystems in C(Documentation/filesystems) of the kernel.
  - The program that makes a filesystem must be installed, otherwise the task fails with C(missing_tool), which names
    the package.
seealso:
  - module: bulkhead.storage.mount
  - module: bulkhead.storage.layout
options:
  device:
    description:
      - The device by a stable name, or the absolute path of an image file.
      - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
      - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its number.
    type: raw
    required: true
  fstype:
    description:
      - Type of the filesystem. Required when O(state=present).
    type: str
    choices: [ext4, xfs, btrfs, vfat, swap]
  label:
    description:
      - The label, of letters, digits, C(_ . -) and blanks. At most 16 characters on V(ext4), 12 on V(xfs), 255 on
        V(btrfs), 11 in upper case on V(vfat) and 15 on V(swap).
      - An existing filesystem is given this label. When it is not given, the label stays as it is.
    type: str
  uuid:
    description:
      - The UUID in lower case, on V(vfat) the serial number such as V(1A2B-3C4D). When it is not given, a random one.
      - That of an existing filesystem is not changed, but refused with C(unsupported).
    type: str
  quota:
    description:
      - The kinds of quota that it must be able to account. V(xfs) has all of them, V(btrfs) has V(project), neither
        needs anything on disk. V(ext4) has those that it is made with. Otherwise C(not_enforced).
      - An existing V(ext4) is given those that it lacks by tune2fs(8), none is ever taken away. Mounted it is refused
        with C(in_use), and with C(unsupported) where its inodes of 128 bytes have no room for V(project).
      - To enforce them is for the mount, with the options C(prjquota), C(usrquota) and C(grpquota).
    type: list
    elements: str
    choices: [project, user, group]
  features:
    description:
      - Features that it must have. On V(ext4) C(mmp), C(metadata_csum), C(bigalloc), C(casefold), C(large_dir),
        C(verity) and C(encrypt), on V(xfs) C(bigtime), C(finobt), C(inobtcount), C(reflink) and C(rmapbt), on V(btrfs)
        C(block-group-tree), C(free-space-tree) and C(no-holes).
      - A feature that an existing filesystem lacks is C(unsupported).
    type: list
    elements: str
  grow:
    description:
      - Whether it fills its device. It grows when its device is larger, and shrinks before a volume beneath it does,
        which takes O(allow_shrink=true). Without effect on V(vfat) and V(swap).
    type: bool
    default: true
  check:
    description:
      - Whether to look for errors first, without repairing any, for at most six hours. A damaged one is refused with
        C(checksum).
      - By C(e2fsck -f -n), C(xfs_repair -n), C(btrfs check --readonly), C(fsck.vfat -n).
    type: bool
    default: false
  allow_shrink:
    description:
      - Consent to make it smaller, together with the logical volume beneath it that is declared smaller in the same
        call of M(bulkhead.storage.layout), which takes an O(allow_shrink) of its own.
      - An V(ext4) must not be mounted, otherwise C(in_use); a V(btrfs) may be. V(xfs) cannot shrink, which is refused
        with C(unsupported). What is stored and does not fit is C(would_shrink).
    type: bool
    default: false
  wipe_token:
    description:
      - Consent to destroy what is there. The refusal prints it in C(errors[].details.wipe_token).
      - It is a digest of the device and of its content, and no longer valid when either changes.
    type: str
  state:
    description:
      - V(absent) wipes the first and the last 4 MiB. A device that holds something takes O(wipe_token).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: An ext4 filesystem on a blank disk, able to account project quota
  bulkhead.storage.filesystem:
    device: /dev/disk/by-id/virtio-blank-0001
    fstype: ext4
    label: data
    quota: [project]

- name: Another label, once it is found to be clean
  bulkhead.storage.filesystem:
    device: /dev/disk/by-id/virtio-blank-0001
    fstype: ext4
    label: tenants
    check: true

- name: A Btrfs filesystem in an image file, with a UUID of one's own
  bulkhead.storage.filesystem:
    device: /srv/images/pool.img
    fstype: btrfs
    uuid: 6b1d6c2e-4d9a-4a8e-9a51-0f6c0d9e4b11

- name: An XFS filesystem
  bulkhead.storage.filesystem:
    device: /dev/disk/by-id/virtio-blank-0002
    fstype: xfs
    label: archive
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
    - kind: filesystem
      entry: filesystem (/dev/disk/by-id/virtio-blank-0001)
      port: superblock
      target: /dev/disk/by-id/virtio-blank-0001
      verb: create
      risk: forward
      before: null
      after: {fstype: ext4, label: data, uuid: UNKNOWN, size: 67108864, fills: true, quota: [project]}
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
  description: The filesystem as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    device:
      description: The device as declared.
      type: str
      returned: always
    fstype:
      description: Type of the filesystem, null when there is none.
      type: str
      returned: always
    uuid:
      description: Its UUID, V(UNKNOWN) in check mode for one that would be chosen at random.
      type: str
      returned: always
    label:
      description: Its label, empty when it has none, null when there is no filesystem.
      type: str
      returned: always
    size_bytes:
      description: Its size, that of the device when it fills it.
      type: int
      returned: always
    health:
      description: What O(check) found. V(clean), V(dirty) before its journal is replayed, V(in_use), else null.
      type: str
      returned: always
  sample:
    device: /dev/disk/by-id/virtio-blank-0001
    fstype: ext4
    uuid: 0d6f5f7e-65a6-4a0a-8d0e-7b9df30b9c7b
    label: data
    size_bytes: 67108864
    health: null
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "change of superblock /dev/disk/by-id/virtio-blank-0001 would destroy content"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock, health
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import filesystem


def main() -> None:
    makers = {"superblock": lambda: Superblock(execute, Intents(Record())), "health": lambda: health(execute)}
    _shell.run(filesystem, makers)


if __name__ == "__main__":
    main()
