#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_pool
short_description: A pool of a Ceph cluster
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes a pool, changes it, or removes it. Only what is declared is compared, everything else stays as it is, such as
    the O(size) of a pool where no size is declared.
  - A new pool is there when the monitors have heard of each of its placement groups that it was active. A pool that a
    killed run left behind before that is waited for by the next one.
  - Any number of pools in one M(bulkhead.storage.layout) is looked at through one connection, with two questions.
notes:
  - The sources are the pages Pools, Placement Groups, Erasure code, CRUSH Maps and User Management of the Ceph
    documentation, and the source of Ceph 16.2. Tried with 16.2.
  - Asks through Python's C(rados) of any Python that has it (the package C(python3-rados)), else through C(ceph) and
    C(rbd). With none of them it is C(missing_tool).
  - Needs no privileges on the host where it runs, and keeps nothing there.
  - See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_ceph).
seealso:
  - module: bulkhead.storage.ceph_pool_info
  - module: bulkhead.storage.ceph_user
    description: Who may use a pool.
options:
  name:
    description:
      - The pool. At most 128 of letters, digits and C(_ . -), not beginning with C(-).
    type: str
    required: true
  type:
    description:
      - How it keeps what it holds safe, V(replicated) for whole copies, V(erasure) for parts. A new pool is
        V(replicated), or V(erasure) where O(ec_profile) is given.
      - Cannot be changed, that is a C(conflict).
    type: str
    choices: [replicated, erasure]
  size:
    description:
      - How many copies there are, from 1 to 10. A new pool has the cluster's C(osd_pool_default_size), commonly 3.
        Not for O(type=erasure).
      - More copies than O(crush_rule) finds places for are C(limit_exceeded).
      - With another size the cluster would choose another O(min_size) too. It is set back to what it was.
      - V(1) also takes O(confirm), and the cluster refuses it (C(denied)) unless C(mon_allow_pool_size_one) is set. A
        lost disk is lost data then.
    type: int
  min_size:
    description:
      - With fewer copies than these nothing is read or written. From 1 to O(size), for O(type=erasure) from C(k) to
        C(k+m) of the profile. A new pool has what the cluster chooses, commonly O(size) less half of it, or C(k+1).
    type: int
  pg_num:
    description:
      - The number of placement groups, a power of two from 1 to 65536. A new pool has the cluster's
        C(osd_pool_default_pg_num), commonly 32.
      - While O(autoscale) is V(on), declared or not, this is only what a new pool begins with.
      - On an existing pool it is what the cluster goes towards by and by.
      - More than C(mon_max_pg_per_osd) allows for are C(limit_exceeded).
    type: int
  autoscale:
    description:
      - Whether the cluster chooses the number of placement groups, or only warns. A new pool has the cluster's
        C(osd_pool_default_pg_autoscale_mode), commonly V(on).
    type: str
    choices: ["on", "off", warn]
  crush_rule:
    description:
      - The name of the rule that says where copies or parts lie. It must exist (C(not_found)) and be for the O(type).
      - A new pool has the cluster's default. One of O(type=erasure) has a rule of its own name, which the cluster makes
        as the profile says, and which stays when the pool goes.
    type: str
  ec_profile:
    description:
      - The name of a profile of erasure coding, which must exist (C(not_found)). A new pool of O(type=erasure) has
        C(default). Cannot be changed, that is a C(conflict).
    type: str
  ec_overwrites:
    description:
      - Whether objects of a pool of O(type=erasure) may be overwritten in part, which RBD and CephFS need. Made as
        V(false). It cannot be taken back, that is a C(conflict).
    type: bool
  application:
    description:
      - What uses the pool, such as V(rbd), V(cephfs) or V(rgw). These are all, one that is not listed goes, but not
        one that has settings in the pool (C(in_use)).
      - A new pool has none, of which C(ceph health) warns.
    type: list
    elements: str
  quota_bytes:
    description:
      - Bytes that it may hold, not counting copies, such as V(100GiB), or V(none). At least 4096. A new pool has none.
      - Clients notice a full pool some seconds later, so a little more may be written.
    type: str
  quota_objects:
    description:
      - Objects that it may hold, at least 1, or V(none). A new pool has none.
    type: str
  compression:
    description:
      - How BlueStore compresses what is written from now on. What is not given here stays as it is, for a new pool as
        the OSDs are set.
    type: dict
    suboptions:
      mode:
        description:
          - V(none), V(passive) where a client hints that it pays, V(aggressive) unless it hints that it does not, or
            V(force).
        type: str
        choices: [none, passive, aggressive, force]
      algorithm:
        description:
          - With what.
        type: str
        choices: [lz4, snappy, zlib, zstd]
      required_ratio:
        description:
          - What is not smaller than this, as a part of what it was, is kept as it is. Above 0 and at most 1.
        type: float
  namespaces:
    description:
      - Namespaces of RBD that are to be there, named as pools are. Capabilities can be bound to one, see
        M(bulkhead.storage.ceph_user).
      - One that is not listed stays. They go with their pool.
    type: list
    elements: str
  nodelete:
    description:
      - Whether the cluster refuses to remove it. Made as V(false). O(state=absent) is C(protected) while it is set.
    type: bool
  confirm:
    description:
      - The name of the pool once more, as consent to O(state=absent), without which it is C(would_destroy), or to
        O(size=1).
    type: str
  state:
    description:
      - V(absent) removes the pool and all that is in it. A pool that is not there is no error.
      - A pool of a filesystem or a cache tier is C(in_use), and the cluster's own are C(protected).
      - C(denied) unless C(mon_allow_pool_delete) is set, which is the cluster's own matter, and is not changed.
    type: str
    choices: [present, absent]
    default: present
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
      - It needs the capabilities C(mon "allow rw"), and for O(namespaces) C(osd "allow rwx pool=<name>") or
        C(osd "profile rbd pool=<name>"). With C(mgr "allow r") a message can say which placement groups are late.
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
  - bulkhead.storage._attributes.away
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: ceph
- name: A pool for images with a namespace for a tenant
  bulkhead.storage.ceph_pool:
    name: images
    size: 3
    application: [rbd]
    quota_bytes: 2TiB
    namespaces: [blue]
    nodelete: true
    user: bulkhead

# needs: ceph
- name: An erasure coded pool for cold data
  bulkhead.storage.ceph_pool:
    name: archive
    ec_profile: k4m2
    autoscale: "on"
    compression:
      mode: aggressive
      algorithm: zstd
    user: bulkhead

# needs: ceph
- name: A pool goes with all that is in it
  bulkhead.storage.ceph_pool:
    name: scratch
    state: absent
    confirm: scratch
    user: bulkhead
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
    - kind: ceph_pool
      entry: ceph_pool (images)
      port: ceph_pool
      target: ceph/images
      verb: create
      risk: reversible
      before: null
      after: {size: 3, application: [rbd], ready: true}
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
  description: The pool as it stands now. In check mode, as it would stand, with null for what the cluster will choose.
  returned: success
  type: dict
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
    namespaces:
      description: Those of the declared namespaces that are there, null where none are declared.
      type: list
      elements: str
      returned: always
      sample: [blue]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "ceph_pool (images): the pool images is marked nodelete"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: protected
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "set nodelete: false on it first, in a task of its own"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import worlds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rbd_namespace import Namespaces
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_pool


def main() -> None:
    clusters = Clusters()
    ports = {"ceph_pool": lambda: Pools(clusters), "ceph_namespace": lambda: Namespaces(clusters)}
    _shell.run(ceph_pool, ports, worlds.held)


if __name__ == "__main__":
    main()
