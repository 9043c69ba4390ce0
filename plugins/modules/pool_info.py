#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_info
short_description: Pools of this host and how full they are
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Lists the pools that are recorded on this host, and the pool V(default), which is there without being declared.
  - No pool that matches is an empty list.
notes:
  - A module that looks takes no lock, and may see a change half done.
seealso:
  - module: bulkhead.storage.pool
  - module: bulkhead.storage.volume_info
options:
  name:
    description:
      - Only the pool of this name.
    type: str
extends_documentation_fragment:
  - bulkhead.storage._attributes.info
"""

EXAMPLES = r"""
- name: All pools
  bulkhead.storage.pool_info:

- name: One pool
  bulkhead.storage.pool_info:
    name: fast
"""

RETURN = r"""
changed:
  description: Always false, because this module only looks.
  returned: always
  type: bool
  sample: false
pools:
  description: The pools, sorted by name.
  returned: success
  type: list
  elements: dict
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool


def main() -> None:
    _shell.inform(
        pool.FILTERS,
        lambda params: pool.gather(
            params, Ports({"node": Node, "record": Record, "fsinfo": FsInfo, **lvm2late.makers()})
        ),
    )


if __name__ == "__main__":
    main()
