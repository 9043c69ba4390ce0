#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: io_limit
short_description: Limit how fast a slice, a unit or a cgroup reads and writes a disk
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Sets C(io.max) of cgroup v2 for the disk that a path lies on, and reads it back. What the kernel does not show is
    C(not_enforced).
  - The limit is also kept in a drop-in of systemd, so that it holds when the unit starts again and after a reboot.
    Where the unit runs, it holds at once.
  - A rate counts for all processes of the slice, unit or cgroup together.
  - Direct and buffered I/O are both held, buffered writes on Btrfs, ext4 and XFS when they go to the disk.
notes:
  - The sources are C(Documentation/admin-guide/cgroup-v2.rst) of the kernel, systemd.resource-control(5) and
    systemd.unit(5).
  - The kernel counts at whole disks. A partition, a logical volume and a LUKS device are limited at the disk beneath,
    together with everything else on it that the same slice uses. systemd does the same whenever it sets a limit anew.
    A loop device is a disk of its own. See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_io_limit).
  - Other settings for the same disk in the same unit are C(conflict), because systemd would keep one of them only.
  - Needs cgroup v2 with the controller C(io), otherwise C(unsupported).
seealso:
  - module: bulkhead.storage.quota
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.block_device
    description: The scheduler of a disk, which O(weight) may need.
options:
  name:
    description:
      - Name of the limit, 1 to 63 of C(a-z 0-9 _ . -).
      - The same name with another slice, device or O(persist) takes the place of the earlier limit.
    type: str
    required: true
  path:
    description:
      - A path on the disk to limit, such as the mount point of a volume. This or O(device) is required when
        O(state=present).
      - On tmpfs, overlay and network filesystems, and on Btrfs of several devices, C(not_enforced).
    type: path
  device:
    description:
      - The disk, or what stands on it, by a stable name such as C(/dev/disk/by-id/nvme-eui.0025388b710116a1).
      - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
      - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its number.
    type: raw
  slice:
    description:
      - The slice, or another unit of systemd with its suffix, such as C(tenants.slice) or C(backup.service). What is no
        slice must exist, otherwise C(not_found).
      - When neither this nor O(cgroup) is given, C(bulkhead-<name>.slice), with C(\x2d) for each dash of the name, so
        that it lies within no other limit by accident. Run units in it with C(Slice=) or C(systemd-run --slice=).
    type: str
  cgroup:
    description:
      - A cgroup by its path beneath C(/sys/fs/cgroup). That of a unit means the unit.
      - One that belongs to no unit takes O(persist=false), otherwise C(unsupported). It must exist, otherwise
        C(conflict).
    type: path
  read_bps:
    description:
      - Bytes read each second, such as C(10MiB). At least 4096. No limit when it is not given.
    type: str
  write_bps:
    description:
      - Bytes written each second, such as C(10MiB). At least 4096. No limit when it is not given.
    type: str
  read_iops:
    description:
      - Reads each second, in 1..4294967294. No limit when it is not given.
    type: int
  write_iops:
    description:
      - Writes each second, in 1..4294967294. No limit when it is not given.
    type: int
  weight:
    description:
      - The share of the disk among those who want it at the same time, in 1..10000. Others have 100.
      - C(not_enforced) where neither BFQ schedules the disk nor C(io.cost.qos) is on for it. BFQ has one step for 11
        above 100.
    type: int
  min_bps:
    description:
      - Always C(unsupported), the kernel has no floor for a rate.
    type: str
  min_iops:
    description:
      - Always C(unsupported), the kernel has no floor for a rate.
    type: int
  burst_bps:
    description:
      - Always C(unsupported), C(io.max) has no burst.
    type: str
  burst_iops:
    description:
      - Always C(unsupported), C(io.max) has no burst.
    type: int
  burst_seconds:
    description:
      - Always C(unsupported), C(io.max) has no burst.
    type: int
  persist:
    description:
      - Whether the limit is kept in C(/etc/systemd/system), otherwise in C(/run/systemd/system) until the next boot.
      - C(unsupported) where udev knows no name of the disk that stays the same.
      - A unit that is limited for good requires the disk, and does not start where it is missing.
    type: bool
    default: true
  state:
    description:
      - V(absent) removes what O(name) keeps, wherever that is, and the limit that holds now. Other lines of C(io.max)
        and drop-ins of others stay.
      - For a O(cgroup) that belongs to no unit the device or path must be named too.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: cgroup
- name: The jobs of a tenant write no more than 10 MiB each second to the disk of their volumes
  bulkhead.storage.io_limit:
    name: blue
    path: /srv/projects
    write_bps: 10MiB
    read_bps: 50MiB

# needs: cgroup
- name: A backup leaves the disk to others
  bulkhead.storage.io_limit:
    name: backup
    slice: backup.slice
    device: /dev/disk/by-id/virtio-data-0001
    read_iops: 200
    write_iops: 200
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
    - kind: io_limit
      entry: io_limit (blue)
      port: io_max
      target: bulkhead-blue.slice /srv/volumes/blue
      verb: create
      risk: reversible
      before: null
      after: {read_bps: null, write_bps: 10485760, read_iops: null, write_iops: null, weight: null}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions were C(planned), C(applied), C(failed), C(undone), C(kept) and C(skipped).
  returned: always
  type: dict
  sample: {planned: 2, applied: 2, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: /var/lib/bulkhead/journal/20260102T030405.678901-0a1b2c3d.jsonl
resource:
  description: The limit as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    name:
      description: The name as declared.
      type: str
      returned: always
    device:
      description: The disk that is limited, as C(major:minor). Null when there is no limit.
      type: str
      returned: always
      sample: "8:0"
    slice:
      description: The unit of systemd that is limited. Null for a cgroup that belongs to none.
      type: str
      returned: always
    cgroup:
      description: The path of the cgroup. Null while the unit does not run.
      type: str
      returned: always
    applied:
      description: What the kernel shows. Null while the unit does not run, it has its limit when it starts.
      type: dict
      returned: always
      contains:
        read_bps:
          description: Bytes read each second, null for no limit.
          type: int
          returned: always
        write_bps:
          description: Bytes written each second, null for no limit.
          type: int
          returned: always
        read_iops:
          description: Reads each second, null for no limit.
          type: int
          returned: always
        write_iops:
          description: Writes each second, null for no limit.
          type: int
          returned: always
        weight:
          description: The share of the disk, null when none is set for it.
          type: int
          returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "io_limit (blue): /run/shm lies on no block device of this host"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: not_enforced
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "tmpfs, overlay and network filesystems have none to limit: name a device"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_io import IoMax
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_io import Dropins, Kept
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit


def main() -> None:
    _shell.run(io_limit, {"io_kept": Kept, "io_dropin": Dropins, "io_max": IoMax})


if __name__ == "__main__":
    main()
