#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_export
short_description: Let NFS clients mount a directory
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Keeps one line for O(path) in C(/etc/exports.d/bulkhead.exports), and makes the table of exportfs(8), from which the
    kernel is answered, say the same. What that does not show is C(not_enforced).
  - O(clients) is all that may mount O(path). Who was given it by hand loses it, here and in the line.
  - Exports of other paths stay as they are. Neither C(exportfs -r) nor C(exportfs -a) is run, which would take along
    what others exported by hand.
notes:
  - The sources are exports(5), exportfs(8), nfs.conf(5) and the source of nfs-utils 2.6.3. Tried with 2.8.3.
  - A path that C(/etc/exports) or another file in C(/etc/exports.d) exports too is a C(conflict), which names the file
    and the line.
  - Works whether the NFS server runs or not. Stopping the server commonly empties the table of exportfs(8), which
    the next run fills again.
  - exportfs(8) drops an export to a host name that the resolver does not know. A declared name is C(not_found) then,
    and a name of somebody else's export, which would go too, is a C(conflict).
  - Needs exportfs(8), otherwise C(missing_tool), and its state in C(/var/lib/nfs), otherwise C(unsupported).
  - See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_nfs).
seealso:
  - module: bulkhead.storage.mount
  - module: bulkhead.storage.quota
    description: How much of a filesystem the clients of an export can fill.
options:
  path:
    description:
      - The directory, without C(..) components. A way that leads through a symbolic link is C(unsafe_path), because
        exportfs(8) would export what it leads to.
      - It must exist, or be made by another entry of the same M(bulkhead.storage.layout), otherwise C(not_found).
      - A backslash is C(invalid), and so is more than 1000 bytes.
      - Who may mount a directory can reach the whole filesystem that it lies on by guessing file handles, unless
        O(clients[].options) has V(subtree_check), see exports(5). Give an export a filesystem or a volume of its own.
    type: path
    required: true
  clients:
    description:
      - Who may mount it, and how. Required when O(state=present).
      - Where several match, an address or name counts before a network, then come wildcards, netgroups and V(*), and
        within these the first that is declared.
    type: list
    elements: dict
    suboptions:
      host:
        description:
          - An address, a network such as V(192.0.2.0/24) or V(2001:db8::/64), a host name, a wildcard such as
            V(*.example.com), a netgroup such as V(@trusted), or V(*) for everybody.
          - An address with a length that is not the first of its network is C(invalid), and the hint names the network.
          - Two that mean the same client are C(invalid), or a C(conflict) where only the resolver knows.
        type: str
        required: true
      options:
        description:
          - Options of exports(5), one word or C(name=value) an entry, or all of them in one text with commas.
          - What is not given has the default of exports(5), also where it was changed by hand, so a client has
            V(ro), V(sync), V(root_squash), V(no_subtree_check), V(secure) and V(sec=sys) unless these say otherwise.
          - V(no_root_squash) lets root of a client write as root here. V(insecure) lets every user of a client act as
            any other. V(async) loses what clients think is written when this host goes down. V(crossmnt) exports every
            filesystem that is mounted beneath. None of them is refused.
          - C(auth_nlm), C(no_auth_nlm) and C(mp) are written as C(secure_locks), C(insecure_locks) and C(mountpoint).
            C(fsid=root) is V(fsid=0).
          - Words that contradict, and V(all_squash) beside V(no_root_squash), are C(invalid). C(reexport=) is not
            supported.
        type: list
        elements: str
  state:
    description:
      - V(absent) removes the line and unexports the path to every client. What clients have open there keeps the
        filesystem busy until they close it or the server stops.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: nfs
- name: Build hosts write their artifacts, everybody else in the network reads them
  bulkhead.storage.nfs_export:
    path: /srv/projects
    clients:
      - host: 192.0.2.10
        options: [rw]
      - host: 192.0.2.0/24

# needs: nfs
- name: A directory whose files belong to one user, whoever writes them
  bulkhead.storage.nfs_export:
    path: /srv/data
    clients:
      - host: "*.example.com"
        options: [rw, all_squash, anonuid=1000, anongid=1000]
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
    - kind: nfs_export
      entry: nfs_export (/srv/projects)
      port: exportfs
      target: /srv/projects
      verb: create
      risk: reversible
      before: null
      after: {clients: ["192.0.2.0/24(ro,sync,secure,root_squash,no_subtree_check)"]}
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
  description: The export as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    path:
      description: The directory.
      type: str
      returned: always
      sample: /srv/projects
    clients:
      description: Who may mount it, in the order that counts. Empty when it is not exported.
      type: list
      elements: dict
      returned: always
      contains:
        host:
          description: The client, in the spelling of exports(5).
          type: str
          returned: always
          sample: 192.0.2.0/24
        options:
          description: What was declared, and the defaults that matter for safety.
          type: list
          elements: str
          returned: always
          sample: [ro, sync, secure, root_squash, no_subtree_check]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "nfs_export (/srv/projects): /srv/projects is exported by line 3 of /etc/exports too"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: conflict
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "remove it there, or here: one place says who may mount it"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exportfs import ExportTable
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import Exports
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_export


def main() -> None:
    _shell.run(nfs_export, {"exports": Exports, "exportfs": ExportTable})


if __name__ == "__main__":
    main()
