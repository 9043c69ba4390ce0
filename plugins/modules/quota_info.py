#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: quota_info
short_description: Limits in force and what they are filled with
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Reads the limits of directories, users or groups, and how much of each is used.
  - A path without a limit is listed with all limits null. A path that cannot be looked at fails the task.
notes:
  - The sources are quotactl(2), btrfs-qgroup(8) and C(fs/btrfs/qgroup.c) of the kernel.
  - A module that looks takes no lock, and may see a change half done.
seealso:
  - module: bulkhead.storage.quota
options:
  path:
    description:
      - The paths to look at, one or a list. On Btrfs each is a subvolume.
    type: list
    elements: path
    required: true
  kind:
    description:
      - What is charged. Btrfs knows V(project) only, the others are C(unsupported) there.
    type: str
    choices: [project, user, group]
    default: project
  name:
    description:
      - Name of the user or group. O(kind=user) and O(kind=group) need this or O(id). Not used for a project.
    type: str
  id:
    description:
      - Number of the user or group, in 1..4294967294. Not used for a project.
    type: int
extends_documentation_fragment:
  - bulkhead.storage._attributes.info
"""

EXAMPLES = r"""
- name: How full is a tenant
  bulkhead.storage.quota_info:
    path: /srv/projects/blue

- name: How full are several, in this order
  bulkhead.storage.quota_info:
    path:
      - /srv/projects/blue
      - /srv/projects/blue/builds
"""

RETURN = r"""
changed:
  description: Always false, because this module only looks.
  returned: always
  type: bool
  sample: false
quotas:
  description: One entry for each path, in the order of O(path).
  returned: success
  type: list
  elements: dict
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
        - What enforces it, V(simple_quota) or V(qgroup) on Btrfs, V(project_quota), V(user_quota) or V(group_quota)
          elsewhere. Null when there is no limit.
      type: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "/srv/projects/green does not exist (name a path that exists)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: not_found
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: name a path that exists
errors:
  description: Every refusal or failure, all at once.
  returned: failure
  type: list
  elements: dict
  contains:
    entry:
      description: The entry that the error is about. Empty when it is about the task.
      type: str
      returned: always
    code:
      description: A stable code.
      type: str
      returned: always
    message:
      description: What is wrong.
      type: str
      returned: always
    hint:
      description: What to do about it.
      type: str
      returned: always
    details:
      description:
        - What a program may want to know, such as a consent to repeat, users of a device or the option at fault.
      type: dict
      returned: always
errors_total:
  description: How many errors there are, should RV(errors) have been cut to fit into a result.
  returned: failure
  type: int
  sample: 1
"""

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota


def main() -> None:
    _shell.inform(quota.FILTERS, lambda params: quota.gather(params, {"quota": Quota()}))


if __name__ == "__main__":
    main()
