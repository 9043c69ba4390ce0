#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_info
short_description: Volumes of this host, where they are and how full
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Lists the volumes that are recorded on this host and match all of the given options.
  - No volume that matches is an empty list.
notes:
  - A module that looks takes no lock, and may see a change half done.
seealso:
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.pool_info
options:
  name:
    description:
      - Only volumes of this name.
    type: str
  namespace:
    description:
      - Only volumes of this namespace. All namespaces when it is not given.
    type: str
  pool:
    description:
      - Only volumes of this pool.
    type: str
  labels:
    description:
      - Only volumes that have all of these labels with these values.
    type: dict
  job:
    description:
      - Only volumes that are attached to this job.
    type: str
extends_documentation_fragment:
  - bulkhead.storage._attributes.info
"""

EXAMPLES = r"""
- name: All volumes of a tenant
  bulkhead.storage.volume_info:
    namespace: blue

- name: Whatever a job has attached
  bulkhead.storage.volume_info:
    job: build-1138

- name: Volumes by label
  bulkhead.storage.volume_info:
    pool: fast
    labels:
      tier: pro
"""

RETURN = r"""
changed:
  description: Always false, because this module only looks.
  returned: always
  type: bool
  sample: false
volumes:
  description: The volumes, sorted by namespace and name.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description:
        - A number of its own that no other volume ever has, V(UNKNOWN) in check mode for one that would be made.
      type: str
      returned: always
    name:
      description: The volume's name.
      type: str
      returned: always
    namespace:
      description: The namespace of the name.
      type: str
      returned: always
    pool:
      description: The pool that it lies in, empty for a memory volume.
      type: str
      returned: always
    type:
      description: V(filesystem), V(memory) or V(block).
      type: str
      returned: always
    size_bytes:
      description: Its size.
      type: int
      returned: always
    path:
      description: Where its files are seen, null when nowhere.
      type: str
      returned: always
    device:
      description: The block device that it is on while it is attached, null when there is none.
      type: str
      returned: always
    status:
      description:
        - V(ready), V(in_use) while it is attached, V(error) when it is recorded but its content or a mount of it is
          missing or cannot be looked at, V(absent) when there is no such volume.
        - Mounts do not outlive a boot. Declaring what is attached again brings them back.
      type: str
      returned: always
    labels:
      description: Its labels.
      type: dict
      returned: always
    created_at:
      description: When it was made, in UTC.
      type: str
      returned: always
    last_used:
      description: When it was last attached, in UTC. Null when that is not recorded.
      type: str
      returned: always
    job_ids:
      description: The jobs that it is attached to.
      type: list
      elements: str
      returned: always
    usage:
      description: What it holds, each null when that is not known.
      type: dict
      returned: always
      contains:
        bytes:
          description: The bytes in use.
          type: int
          returned: always
        inodes:
          description: The inodes in use.
          type: int
          returned: always
    enforced_by:
      description: What enforces its size. V(block), V(tmpfs), V(simple_quota), V(qgroup) or V(project_quota).
      type: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "/var/lib/bulkhead/catalogue.sqlite: it is not a catalogue of bulkhead.storage"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unreadable
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "restore it from a backup, or move it away: it is never made anew over what is there"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume


def main() -> None:
    ports = Ports({"node": Node, "record": Record, "mount": Mounts, "quota": Quota, **lvm2late.makers()})
    _shell.inform(volume.FILTERS, lambda params: volume.gather(params, ports))


if __name__ == "__main__":
    main()
