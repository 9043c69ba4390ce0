#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: block_device
short_description: Divide a disk into GPT partitions, let them grow, set its scheduler and read-ahead
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Writes a GUID partition table on a disk that is proved to be blank by reading it, and makes partitions in its free
    space. Anything that is not blank is refused with C(not_blank), and the refusal says what it takes.
  - The first and last 4 MiB of a new partition are zeroed before it gets a name, so that nothing old shows in it.
  - A partition grows where there is free space after it, also while it is in use. It is never moved, and never made
    smaller. A filesystem on it that is declared too grows in the same call.
  - Where the disk has become larger, the backup copy of the table is moved to its end.
  - Partitions that are not declared are left alone.
  - The disks of the root filesystem, of C(/boot), of the EFI system partition and of swap are always refused with
    C(protected).
notes:
  - The sources are section 5.3 of the UEFI specification 2.10, sfdisk(8), udev(7) and C(linux/blkpg.h) of the kernel.
  - C(sfdisk) must be installed for a change, otherwise the task fails with C(missing_tool). To look, no program is run.
  - Both copies of the table are read. When one of them is damaged or they disagree, the disk is refused with
    C(checksum), and never mended silently.
  - The kernel is told of each partition by itself, never to read the whole table again while the disk is in use.
seealso:
  - module: bulkhead.storage.filesystem
  - module: bulkhead.storage.layout
options:
  device:
    description:
      - The disk by a stable name, such as C(/dev/disk/by-id/nvme-eui.0025388b710116a1).
      - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
      - Its partitions are C(<device>-part1) and so on, as udev names them. Other entries of the same
        M(bulkhead.storage.layout) can name them as their devices, also before they exist.
      - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its number.
    type: raw
    required: true
  label:
    description:
      - The kind of partition table. A disk that has another one, or anything else on it, takes O(wipe_token).
      - Given by itself it makes a table without partitions.
    type: str
    choices: [gpt]
  partitions:
    description:
      - The partitions to make, let grow or remove. They imply O(label=gpt).
    type: list
    elements: dict
    suboptions:
      number:
        description:
          - Its number in the table, from 1 to 128.
        type: int
        required: true
      start:
        description:
          - Where it begins, a multiple of 1 MiB from the beginning of the disk. At least 1 MiB.
          - When it is not given, in the first free space that is large enough, and without a O(partitions[].size) in
            the largest. An existing partition is never moved, another start is C(unsupported).
        type: str
      size:
        description:
          - Its size, rounded up to a multiple of 1 MiB. A larger one lets an existing partition grow, a smaller one is
            C(would_shrink).
          - When it is not given, all that is free from its start to the next partition or the end of the disk. At most
            one partition may be without.
        type: str
      type:
        description:
          - What it is for, as a GUID or one of C(linux), C(lvm), C(luks), C(swap), C(raid), C(esp), C(bios), C(home),
            C(srv) and C(var). C(linux) when a new one is made without.
        type: str
      name:
        description:
          - Its name in the table, at most 36 letters, digits, blanks and any of C(_.:@+-).
          - When it is not given, the name stays as it is.
        type: str
      state:
        description:
          - V(absent) removes it. One that is not blank takes its O(wipe_token), one in use is refused with C(in_use).
            Its first and last 4 MiB are zeroed.
        type: str
        choices: [present, absent]
        default: present
  scheduler:
    description:
      - The I/O scheduler, one of those that the kernel has for the disk, otherwise C(unsupported).
    type: str
  read_ahead:
    description:
      - How much is read ahead of a sequential reader, a multiple of 4 KiB up to 1 GiB. V(0) for nothing.
    type: str
  read_only:
    description:
      - Whether the kernel refuses to write to the disk. Refused with C(in_use) while it is mounted.
    type: bool
  persist:
    description:
      - Whether O(scheduler), O(read_ahead) and O(read_only) are set again whenever the disk appears, by a rule of udev
        in C(/etc/udev/rules.d/90-bulkhead-*.rules) for the serial number of the disk.
      - Where udev knows no serial number of the disk, C(unsupported). While it has not told yet, C(not_found).
      - With V(false) a rule that was written before is removed.
    type: bool
    default: true
  wipe_token:
    description:
      - Consents to destroy what is on the disk or on its partitions. The refusals print them in
        C(errors[].details.wipe_token), one for each.
      - Each is a digest of a device and of its content, and no longer valid when either changes.
    type: list
    elements: str
  state:
    description:
      - V(absent) removes the partitions that are listed, then the table, and wipes the first and the last 4 MiB of the
        disk. A partition that is not blank, and a table that had partitions, each take their O(wipe_token).
      - Where only settings are declared, V(absent) removes their rule of udev and leaves the disk as it is.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: A partition table without partitions on a blank disk
  bulkhead.storage.block_device:
    device: /dev/disk/by-id/virtio-blank-0001
    label: gpt

# needs: udev
- name: A scheduler and read-ahead, now and after each boot
  bulkhead.storage.block_device:
    device: /dev/disk/by-id/virtio-blank-0002
    scheduler: mq-deadline
    read_ahead: 4MiB

# needs: udev
- name: Two partitions, the second one as large as the disk allows
  bulkhead.storage.block_device:
    device: /dev/disk/by-id/virtio-blank-0002
    partitions:
      - number: 1
        size: 100MiB
        name: journal
      - number: 2
        type: lvm
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
    - kind: block_device
      entry: block_device (/dev/disk/by-id/virtio-blank-0001)
      port: gpt
      target: /dev/disk/by-id/virtio-blank-0001
      verb: create
      risk: forward
      before: null
      after: {label: gpt, whole: true}
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
  description: The disk as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    device:
      description: The device as declared.
      type: str
      returned: always
    label:
      description: The kind of its partition table, null when there is none.
      type: str
      returned: always
    partitions:
      description: The declared partitions that exist, by number, each with its place and size in bytes.
      type: list
      elements: dict
      returned: always
      contains:
        number:
          description: Its number in the table.
          type: int
          returned: always
        path:
          description: The path of its device.
          type: str
          returned: always
        start:
          description: Where it begins, in bytes.
          type: int
          returned: always
        size:
          description: Its size in bytes.
          type: int
          returned: always
        type:
          description: The GUID of its type.
          type: str
          returned: always
        name:
          description: Its name in the table.
          type: str
          returned: always
    scheduler:
      description: Its I/O scheduler. This and the following are null when no setting is declared.
      type: str
      returned: always
    read_ahead_bytes:
      description: How much is read ahead.
      type: int
      returned: always
    read_only:
      description: Whether the kernel refuses to write to it.
      type: bool
      returned: always
    size_bytes:
      description: Its size.
      type: int
      returned: always
    serial:
      description: Its serial number, empty when the kernel tells none.
      type: str
      returned: always
    by_id:
      description: Its names beneath C(/dev/disk/by-id).
      type: list
      elements: str
      returned: always
  sample:
    device: /dev/disk/by-id/virtio-blank-0001
    label: gpt
    scheduler: mq-deadline
    read_ahead_bytes: 131072
    read_only: false
    size_bytes: 335544320
    serial: blank-0001
    by_id: [/dev/disk/by-id/virtio-blank-0001]
    partitions:
      - number: 1
        path: /dev/disk/by-id/virtio-blank-0001-part1
        start: 1048576
        size: 104857600
        type: 0fc63daf-8483-4772-8e79-3d69d8477de4
        name: journal
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "change of gpt /dev/disk/by-id/virtio-blank-0001 would destroy content"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gpt
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.udev_rule import UdevRule
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import block_device


def main() -> None:
    ports = {"gpt": gpt.tables, "partition": gpt.partitions, "block": gpt.block, "udev_rule": UdevRule}
    _shell.run(block_device, ports)


if __name__ == "__main__":
    main()
