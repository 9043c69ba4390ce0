#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_pool_info
short_description: Pools of a Ceph cluster, and what is in them
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Lists the pools of a cluster with their settings and what is stored in them.
  - No pool that matches is an empty list.
notes:
  - A module that looks takes no lock, and may see a change half done.
  - What is stored is what the OSDs told some seconds ago.
seealso:
  - module: bulkhead.storage.ceph_pool
options:
  name:
    description:
      - Only this pool.
    type: str
  cluster:
    description:
      - The name of the cluster. Files that are not named are looked for under it.
      - Tells the clusters of one M(bulkhead.storage.layout) apart. Runs on one host wait for each other by it.
    type: str
    default: ceph
  conf:
    description:
      - Its configuration, which says where the monitors are. C(/etc/ceph/<cluster>.conf) where this is not given.
      - It must be there (C(not_found)), and belong to root, C(ceph) or who runs this and be writable by nobody else
        (C(unsafe_path)).
    type: path
  user:
    description:
      - The user to connect as, V(bulkhead) or V(client.bulkhead). Required, C(client.admin) is never assumed.
      - It needs the capability C(mon "allow r").
    type: str
  keyring:
    description:
      - The file with the key of O(user), held to the same rules as O(conf). Where this is not given, it is the first
        of what O(conf) names, by default C(/etc/ceph/<cluster>.client.<user>.keyring).
    type: path
  timeout:
    description:
      - Seconds for a whole look at the cluster, and for each thing that is changed, from 1 to 3600. Monitors that do
        not answer for so long are C(unreachable), or C(timeout) where they did before, and are asked no more.
    type: int
    default: 30
extends_documentation_fragment:
  - bulkhead.storage._attributes.away_info
"""

EXAMPLES = r"""
# needs: ceph
- name: All pools
  bulkhead.storage.ceph_pool_info:
    user: bulkhead

# needs: ceph
- name: How full a pool is
  bulkhead.storage.ceph_pool_info:
    name: images
    user: bulkhead
"""

RETURN = r"""
changed:
  description: Always false, because this module only looks.
  returned: always
  type: bool
  sample: false
pools:
  description: The pools, sorted by their names.
  returned: success
  type: list
  elements: dict
  contains:
    cluster:
      description: The cluster.
      type: str
      returned: always
      sample: ceph
    name:
      description: The pool.
      type: str
      returned: always
      sample: images
    id:
      description: The number that the cluster gave it. Null where there is no pool, as before it is made.
      type: int
      returned: always
      sample: 7
    type:
      description: V(replicated) or V(erasure).
      type: str
      returned: always
      sample: replicated
    size:
      description: How many copies or parts there are.
      type: int
      returned: always
      sample: 3
    min_size:
      description: With fewer of them nothing is read or written.
      type: int
      returned: always
      sample: 2
    pg_num:
      description: How many placement groups it has, or is on its way to.
      type: int
      returned: always
      sample: 32
    autoscale:
      description: Whether the cluster chooses that number.
      type: str
      returned: always
      sample: "on"
    crush_rule:
      description: The rule that says where they lie.
      type: str
      returned: always
      sample: replicated_rule
    ec_profile:
      description: The profile of erasure coding, null where there is none.
      type: str
      returned: always
    ec_overwrites:
      description: Whether erasure coded objects may be overwritten in part.
      type: bool
      returned: always
      sample: false
    quota_bytes:
      description: Bytes that it may hold, null for any number.
      type: int
      returned: always
      sample: 2199023255552
    quota_objects:
      description: Objects that it may hold, null for any number.
      type: int
      returned: always
    nodelete:
      description: Whether the cluster refuses to remove it.
      type: bool
      returned: always
      sample: true
    ready:
      description: Whether all placement groups of a new pool have been active.
      type: bool
      returned: always
      sample: true
    application:
      description: What uses it.
      type: list
      elements: str
      returned: always
      sample: [rbd]
    compression:
      description: How it is compressed. Null is what the OSDs are set to.
      type: dict
      returned: always
      contains:
        mode:
          description: When.
          type: str
          returned: always
        algorithm:
          description: With what.
          type: str
          returned: always
        required_ratio:
          description: What is not smaller than this part of what it was is not compressed.
          type: float
          returned: always
    objects:
      description: Objects in it.
      type: int
      returned: always
      sample: 1138
    stored_bytes:
      description: Bytes that were written to it, not counting copies.
      type: int
      returned: always
      sample: 4773118
    used_bytes:
      description: Bytes that they take on all OSDs.
      type: int
      returned: always
      sample: 14319354
    max_avail_bytes:
      description: Bytes that could still be written, before the first OSD is full.
      type: int
      returned: always
      sample: 1099511627776
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "the cluster ceph did not answer within 30 s"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unreachable
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "see to its monitors, mon_host in /etc/ceph/ceph.conf and the network"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_pool


def main() -> None:
    _shell.inform(ceph_pool.FILTERS, lambda params: ceph_pool.gather(params, {"ceph_pool": Pools(Clusters())}))


if __name__ == "__main__":
    main()
