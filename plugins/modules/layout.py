#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: layout
short_description: Reconcile the storage of a whole host in one call
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Takes typed lists of the same things that the collection's other modules take one at a time, and makes them so in
    one call. One scan for each kernel interface, one plan, one apply, one lock.
  - The order of the lists and of their entries does not matter. What stands on what follows from paths, devices and
    names.
  - Where an entry names a device it may name a LUN of an iSCSI session, as a dictionary of C(iscsi), the name of the
    target, and C(lun), its number. The session is one that this host has, or one that the same call connects. What is
    found on the LUN then decides whether anything is refused, and if so the session is disconnected again.
  - The plan is the same in check mode and in the real run, down to its C(plan_digest).
  - All refusals of a plan come at once, before anything is changed.
  - An action plugin serialises the declaration once on the controller. Keep large declarations in JSON, or in a file on
    the target, because parsing YAML is what costs most.
notes:
  - An entry whose destruction needs a consent carries the consent itself. Nothing on the level of the task consents.
seealso:
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.tree
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
  - bulkhead.storage._layout
"""

EXAMPLES = r"""
- name: Give a host a bounded scratch space and two volumes
  bulkhead.storage.layout:
    tmpfs:
      - path: /srv/scratch
        size: 64MiB
        persist: none
    volumes:
      - name: data
        size: 128MiB
      - name: cache
        type: memory
        size: 16MiB
    trees:
      - root: /srv/tenants
        entries:
          - path: blue
            mode: "0750"
          - path: blue/builds
            mode: "0750"

- name: Tear the same things down in one call
  bulkhead.storage.layout:
    state: absent
    tmpfs:
      - path: /srv/scratch
        persist: none
    volumes:
      - name: data
      - name: cache
    trees:
      - root: /srv/tenants
        entries:
          - path: blue
          - path: blue/builds
"""

RETURN = r"""
changed:
  description: Whether anything was changed. In check mode, whether anything would be.
  returned: always
  type: bool
  sample: true
actions:
  description:
    - The first O(actions_limit) actions of the plan, in the order in which they are taken.
    - The same list in check mode and in the real run.
  returned: success, or when an action failed
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the entry that the action belongs to, or V(implied) for what several entries need.
      type: str
      returned: always
    entry:
      description: The entry that the action belongs to.
      type: str
      returned: always
    port:
      description: The interface that carries it out, such as V(mount), V(fstab), V(node), V(quota) or V(superblock).
      type: str
      returned: always
    target:
      description: What it acts on, for example a path.
      type: str
      returned: always
    verb:
      description: One of V(create), V(change) and V(remove).
      type: str
      returned: always
    risk:
      description:
        - V(reversible) can be walked back. V(forward) cannot, but loses nothing. V(shrinks) and V(destroys) lose
          content and take a consent.
      type: str
      returned: always
    before:
      description: What is there, null when there is nothing, V(UNKNOWN) when it lies behind something yet to be opened.
      type: raw
      returned: always
    after:
      description: What will be there, null when nothing will.
      type: raw
      returned: always
  sample:
    - kind: tmpfs
      entry: tmpfs[0] (/srv/scratch)
      port: mount
      target: /srv/scratch
      verb: create
      risk: reversible
      before: null
      after: {source: tmpfs, fstype: tmpfs}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions there were. All of them 0 when the task was refused.
  returned: always
  type: dict
  contains:
    planned:
      description: Actions of the plan.
      type: int
      returned: always
    applied:
      description: Actions taken and still in force. 0 in check mode.
      type: int
      returned: always
    failed:
      description: Actions that failed.
      type: int
      returned: always
    undone:
      description: Actions walked back after a failure.
      type: int
      returned: always
    kept:
      description: Actions of a failed entry that could not be, or were not to be, walked back.
      type: int
      returned: always
    skipped:
      description: Actions not tried because what they stand on had failed.
      type: int
      returned: always
  sample: {planned: 1, applied: 1, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: /var/lib/bulkhead/journal/20260102T030405.678901-0a1b2c3d.jsonl
timings:
  description: Milliseconds spent on looking, planning, applying and looking again.
  returned: success
  type: dict
  sample: {scan: 3.1, plan: 0.8, apply: 0.0, settle: 0.0}
resources:
  description:
    - What stands now, for each list in its order, as the kind's own module returns it. In check mode, what would stand.
    - A result never exceeds 256 KiB, so that of very long lists only the first entries are here, which each list has an
      equal share of room for. All of them are counted in RV(resources_total).
  returned: when O(return_resources=true)
  type: dict
  sample:
    tmpfs:
      - path: /srv/scratch
        size_bytes: 67108864
        inodes: 4096
        used_bytes: 0
        used_inodes: 1
        options: [rw, nosuid, nodev, noexec, relatime]
resources_total:
  description: How many entries each list has, should RV(resources) have been cut to fit into a result.
  returned: when O(return_resources=true)
  type: dict
  sample: {tmpfs: 1}
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "volumes[3] (tenant-7/data): the volume is attached to build-1138 (detach it, or force: true)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: in_use
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "detach it, or force: true"
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

from ansible_collections.bulkhead.storage.plugins.module_utils import _shipped


def main() -> None:
    _shipped.run("_layout", "_kinds")


if __name__ == "__main__":
    main()
