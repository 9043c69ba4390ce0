#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tree
short_description: Directories of one root with owner, mode and ACLs
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes directories and Btrfs subvolumes beneath one root, and sets their owner, mode and POSIX ACLs, in one call.
  - Everything beneath O(root) is reached by file descriptor. A symbolic link or a mount that somebody else put in the
    way is refused with C(unsafe_path), it is never followed, not even while this runs.
  - A directory is made under a private name with nobody's rights but root's, completed, and only then published under
    its own name.
  - What is not declared about an existing directory stays as it is.
notes:
  - The sources are openat2(2), acl(5), C(fs/posix_acl.c) of the kernel and btrfs-subvolume(8).
  - Nothing is done recursively. The content of a directory keeps its owners, modes and ACLs.
seealso:
  - module: bulkhead.storage.quota
    description: Limits on what a subvolume may hold.
  - module: bulkhead.storage.layout
options:
  root:
    description:
      - Absolute path of the directory that all entries lie in. Missing directories on the way to it are made, owned by
        root with mode 0755.
    type: path
    required: true
  entries:
    description:
      - What is in it. Parents may be declared before or after their children. Parents that are not declared are made,
        owned by root with mode 0755.
      - Required when O(state=present). An empty list declares O(root) alone.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - Path relative to O(root), without C(..). V(.) is O(root) itself.
        type: str
        required: true
      type:
        description:
          - V(directory) is also met by a subvolume. V(subvolume) takes Btrfs, elsewhere it is C(unsupported).
          - V(absent) removes an empty directory. One that is not empty is refused with C(would_destroy), because a tree
            never removes content.
        type: str
        choices: [directory, subvolume, absent]
        default: directory
      owner:
        description:
          - Owner, a name or a number. When it is not given, root on a new directory.
        type: str
      group:
        description:
          - Group, a name or a number. When it is not given, root on a new directory.
        type: str
      mode:
        description:
          - Octal digits as text, such as V("0750"). When it is not given, 0755 on a new directory.
          - Where O(entries[].acl) names users or groups, the group digits are the rights of the owning group, not the
            mask.
        type: raw
      acl:
        description:
          - The named entries of the access ACL as setfacl(1) writes them, such as V("u:builder:rwX") or V("g:ops:r-x").
            C(X) is C(x) on directories.
          - The list is complete. An empty list removes all named entries. The owner's, the group's and others' rights
            come from O(entries[].mode), the mask is calculated.
        type: list
        elements: str
      default_acl:
        description:
          - The named entries of the default ACL, which new files and directories in it inherit. The list is complete,
            an empty list removes the default ACL.
        type: list
        elements: str
      selinux:
        description:
          - The SELinux label, and a local file context for the directory and all beneath, so that C(restorecon) keeps
            it. Of what lies beneath already no label changes.
          - Refused with C(unsupported) where SELinux is not enabled, with C(invalid) where the policy does not know it.
            Sources are selinux(8), C(/sys/fs/selinux/context) and semanage-fcontext(8).
        type: dict
        suboptions:
          type:
            description:
              - Type of the label.
            type: str
            required: true
          level:
            description:
              - MLS or MCS level of the label. When it is not given, that of the label stays.
            type: str
      project:
        description:
          - Name of a quota to charge it to. Not supported yet, refused with C(unsupported).
        type: str
  purge:
    description:
      - Whether to remove what is in O(root) and not declared. Not supported yet, refused with C(unsupported).
    type: bool
    default: false
  confirm:
    description:
      - The value of O(root) again. It is the consent to remove subvolumes, and directories with everything in them,
        that are declared absent. Without it only empty directories go.
      - Nothing is followed out of a tree, and a mount in it is refused with C(unsafe_path).
    type: path
  state:
    description:
      - V(absent) removes the declared entries, deepest first, or O(root) when none are declared. Only what is empty
        goes, anything else is refused with C(would_destroy).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: A tenant's directories
  bulkhead.storage.tree:
    root: /srv/tenants/blue
    entries:
      - path: .
        owner: root
        group: "20001"
        mode: "0750"
      - path: builds
        owner: "20001"
        group: "20001"
        mode: "2770"
      - path: logs
        owner: "20001"
        group: "20001"
        mode: "0750"

- name: An agent may write to the builds, and to whatever is made in them
  bulkhead.storage.tree:
    root: /srv/tenants/blue
    entries:
      - path: builds
        acl: ["u:10007:rwX"]
        default_acl: ["u:10007:rwX"]

- name: A Btrfs subvolume, to be limited with bulkhead.storage.quota
  bulkhead.storage.tree:
    root: /srv/tenants/green
    entries:
      - path: data
        type: subvolume
        owner: "20002"
        group: "20002"
        mode: "0750"

- name: The agent's rights are taken back, and the logs go elsewhere
  bulkhead.storage.tree:
    root: /srv/tenants/blue
    entries:
      - path: builds
        acl: []
        default_acl: []
      - path: logs
        type: absent

- name: The empty directories go
  bulkhead.storage.tree:
    root: /srv/tenants/blue
    state: absent
    entries:
      - path: builds
      - path: .
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
    - kind: tree
      entry: tree (/srv/tenants/blue)
      port: node
      target: /srv/tenants/blue/builds
      verb: create
      risk: reversible
      before: null
      after: {type: directory, uid: 20001, gid: 20001, mode: "2770", acl: [], default_acl: []}
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
  description: The tree as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    counts:
      description: How many entries are declared, and how many of them are there.
      type: dict
      returned: always
      contains:
        declared:
          description: Declared entries.
          type: int
          returned: always
        present:
          description: Declared entries that are there.
          type: int
          returned: always
    changed_paths:
      description: The paths that were changed, the first 100 of them, fewer where they are very long.
      type: list
      elements: str
      returned: always
  sample:
    counts: {declared: 3, present: 3}
    changed_paths: [/srv/tenants/blue/builds]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "tree (/srv/tenants/blue): /srv/tenants/blue/logs is a symbolic link (look at it by hand)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unsafe_path
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: look at it by hand
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, Node
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tree


def main() -> None:
    def label() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import Labels

        return Labels()

    def fcontext() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import FileContexts

        return FileContexts()

    _shell.run(tree, {"node": Node, "data": DataDir, "label": label, "fcontext": fcontext})


if __name__ == "__main__":
    main()
