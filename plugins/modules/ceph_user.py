#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_user
short_description: A user of a Ceph cluster, what it may do, and the file with its key
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Keeps the capabilities of a CephX user, and a file with its key where O(keyring_path) says so.
  - The cluster chooses the key once. It never changes, and it is in no result, no message, no command line and no
    file but that one.
notes:
  - The sources are the pages User Management and CephX Config Reference of the Ceph documentation. Tried with 16.2.
  - Asks through Python's C(rados) of any Python that has it (the package C(python3-rados)), else through C(ceph). With
    none of them it is C(missing_tool).
  - Needs no privileges but for O(keyring_path), and keeps nothing else on the host where it runs.
  - An C(osd) capability that names no pool holds in every pool, of which there is a warning.
  - See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_ceph).
seealso:
  - module: bulkhead.storage.ceph_pool
options:
  name:
    description:
      - The user, V(blue) or V(client.blue). At most 128 of letters, digits and C(_ . - @).
      - Daemons of the cluster, C(client.admin), C(client.bootstrap-*) and O(user) are C(protected).
    type: str
    required: true
  caps:
    description:
      - What it may do, a text for each of V(mon), V(osd), V(mgr) and V(mds). Required when O(state=present).
      - This is all that it may do, what it was given beside that is taken back.
      - Space, quotes and the order of clauses mean nothing. What the cluster cannot read is C(invalid), and then
        nothing has changed.
      - A C(namespace=) without a C(pool=) would hold in every pool that has a namespace of that name, which is
        C(invalid).
    type: dict
  keyring_path:
    description:
      - A file on the host where this runs, with the key of this user and nothing else. It belongs to who runs this
        and has the mode 0600 from the beginning. Other content, owner or mode is changed.
      - Its directory must exist, or be made by another entry of the same M(bulkhead.storage.layout), else it is
        C(not_found). A symbolic link is C(unsafe_path).
      - A file with the key of another user, or anything else in it, is a C(conflict), also with O(state=absent).
      - No file is written, looked at or removed where this is not given.
    type: path
  state:
    description:
      - V(absent) removes the user, and the file if O(keyring_path) is given. Who is connected stays so for a while.
      - A user of the same name that is made later has another key.
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
      - It needs the capability C(mon "allow rwx"), and can then give itself and others any other.
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
- name: A tenant that can use the images of one namespace
  bulkhead.storage.ceph_user:
    name: blue
    caps:
      mon: profile rbd
      osd: profile rbd pool=images namespace=blue
    keyring_path: /etc/ceph/ceph.client.blue.keyring
    user: bulkhead

# needs: ceph
- name: It goes, and the file with its key
  bulkhead.storage.ceph_user:
    name: blue
    keyring_path: /etc/ceph/ceph.client.blue.keyring
    state: absent
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
    - kind: ceph_user
      entry: ceph_user (blue)
      port: ceph_auth
      target: ceph/client.blue
      verb: create
      risk: reversible
      before: null
      after: {caps: {mon: profile rbd, osd: profile rbd pool=images namespace=blue}}
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
  description: The user as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    cluster:
      description: The cluster.
      type: str
      returned: always
      sample: ceph
    name:
      description: The user.
      type: str
      returned: always
      sample: client.blue
    caps:
      description: What it may do, in one spelling. Null where there is no such user.
      type: dict
      returned: always
      sample: {mon: profile rbd, osd: profile rbd pool=images namespace=blue}
    keyring_path:
      description: The file with its key, null where there is none.
      type: str
      returned: always
      sample: /etc/ceph/ceph.client.blue.keyring
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "ceph_user (admin): client.admin is the cluster's own user"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: protected
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "make one of your own"
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

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import worlds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_user


def main() -> None:
    auth = Auth(Clusters())

    def keyring() -> Any:
        """Asked only of users with a file."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_keyring import Keyrings

        return Keyrings(auth)

    _shell.run(ceph_user, {"ceph_auth": lambda: auth, "ceph_keyring": keyring}, worlds.held)


if __name__ == "__main__":
    main()
