#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: quota
short_description: Limit what a directory, a user or a group may store
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Sets a limit that the kernel enforces, turns accounting on where that is possible while mounted, and reads both
    back.
  - On Btrfs a project is a subvolume, limited by simple quota (Linux 6.7) or by a qgroup, together with every subvolume
    nested in it.
  - On XFS and ext4 a project is an id that the whole tree carries, and that new files inherit.
  - A limit that cannot be enforced is a failure, C(not_enforced), never a silent success.
notes:
  - The sources are quotactl(2), ioctl_xfs_fsgetxattr(2), btrfs-quota(8), btrfs-qgroup(8) and C(fs/btrfs/qgroup.c) of
    the kernel.
  - XFS and ext4 enforce what their mount options say (V(prjquota)), ext4 with the features C(quota) and C(project).
  - Its owner can take a file out of a project (C(chattr -p)), but not from a user namespace. Run tenants with
    C(PrivateUsers=yes). See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_quota).
  - Accounting is never turned off again, because limits of others may count on it.
seealso:
  - module: bulkhead.storage.quota_info
  - module: bulkhead.storage.tree
    description: Make the subvolume to be limited.
  - module: bulkhead.storage.volume
    description: A limited place by name.
options:
  path:
    description:
      - For O(kind=project) the directory that is charged, on Btrfs a subvolume. Otherwise any path on the filesystem.
    type: path
    required: true
  paths:
    description:
      - For O(kind=project) the trees that are charged together. When it is not given, O(path).
      - All are on one filesystem. More than one is C(unsupported) on Btrfs.
    type: list
    elements: path
  kind:
    description:
      - What is charged. Btrfs knows V(project) only, the others are C(unsupported) there.
    type: str
    choices: [project, user, group]
    default: project
  name:
    description:
      - Name of the project (when not given, its path), user or group. A user or group needs this or O(id).
      - C(unsupported) on Btrfs.
    type: str
  id:
    description:
      - Number of the project (when not given, a free one from 100000 on), user or group, in 1..4294967294.
      - C(unsupported) on Btrfs.
    type: int
  soft:
    description:
      - Bytes that may be exceeded for the time of O(grace), such as C(8GiB), or V(none) to lift the limit. At least
        4096, and no more than O(hard).
      - C(unsupported) on Btrfs.
    type: str
  hard:
    description:
      - Bytes that are never exceeded, such as C(10GiB), or V(none) to lift the limit. At least 4096.
      - Rounded down to a KiB on ext4, to a block on XFS.
      - At least one limit is required when O(state=present).
    type: str
  inodes_soft:
    description:
      - Inodes that may be exceeded for the time of O(grace), or V(none) to lift the limit. C(unsupported) on Btrfs.
    type: str
  inodes_hard:
    description:
      - Inodes that are never exceeded, or V(none) to lift the limit. C(unsupported) on Btrfs.
    type: str
  grace:
    description:
      - How long a soft limit may be exceeded, in seconds or such as V(12h), V(7d).
      - It holds for a whole filesystem and O(kind), so all entries must agree. C(unsupported) on Btrfs.
    type: str
  parent:
    description:
      - Another limited subvolume whose limit this one counts against as well. Btrfs only.
    type: path
  state:
    description:
      - V(absent) lifts all limits. What is stored stays.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: No more than 1 GiB in a tenant's subvolume
  bulkhead.storage.quota:
    path: /srv/projects/blue
    hard: 1GiB

- name: Raise it
  bulkhead.storage.quota:
    path: /srv/projects/blue
    hard: 2GiB

- name: What its builds store counts against the tenant's own limit as well
  bulkhead.storage.quota:
    path: /srv/projects/blue/builds
    hard: 512MiB
    parent: /srv/projects/blue

- name: The builds may fill all that the tenant has
  bulkhead.storage.quota:
    path: /srv/projects/blue/builds
    hard: none

# needs: xfs
- name: No more than 100,000 files for a user
  bulkhead.storage.quota:
    path: /srv/projects
    kind: user
    id: 20001
    inodes_hard: 100000

- name: No limit any more
  bulkhead.storage.quota:
    path: /srv/projects/blue
    state: absent
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
    - kind: quota
      entry: quota (/srv/projects/blue)
      port: quota
      target: project /srv/projects/blue
      verb: create
      risk: reversible
      before: null
      after: {hard: 1073741824, soft: null, inodes_hard: null, inodes_soft: null, parent: null, nested: true}
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
  description: The quota as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    path:
      description: The path as declared.
      type: str
      returned: always
    id:
      description: Number of what is charged, on Btrfs the id of the subvolume. Null when there is no limit.
      type: int
      returned: always
    name:
      description: Name of what is charged, null when it has none.
      type: str
      returned: always
    limits:
      description: The limits in force, each null when there is none.
      type: dict
      returned: always
      contains:
        soft:
          description: Bytes that may be exceeded for a while.
          type: int
          returned: always
        hard:
          description: Bytes that are never exceeded.
          type: int
          returned: always
        inodes_soft:
          description: Inodes that may be exceeded for a while.
          type: int
          returned: always
        inodes_hard:
          description: Inodes that are never exceeded.
          type: int
          returned: always
    grace:
      description: Seconds for which a soft limit may be exceeded, null where there is no such thing.
      type: int
      returned: always
    used_bytes:
      description: The bytes charged, null when that is not known.
      type: int
      returned: always
    used_inodes:
      description: The inodes charged, null when that is not known.
      type: int
      returned: always
    ratio:
      description: The bytes charged divided by the hard limit, null when there is none.
      type: float
      returned: always
    enforced_by:
      description:
        - What enforces it, V(simple_quota), V(qgroup), V(project_quota), V(user_quota) or V(group_quota). Null when
          there is no limit.
      type: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "quota (/srv/projects): /srv/projects is on btrfs, but not a subvolume"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unsupported
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: only a subvolume can be limited, make it one
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota, QuotaEnabled
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota


def main() -> None:
    _shell.run(quota, {"quota": Quota, "quota_enabled": QuotaEnabled})


if __name__ == "__main__":
    main()
