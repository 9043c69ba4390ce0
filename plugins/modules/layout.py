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
actions:
  description:
    - The first O(actions_limit) actions of the plan, in the order in which they are taken. The same list in check mode.
  returned: always
  type: list
  elements: dict
  sample:
    - kind: tmpfs
      entry: tmpfs[0] (/srv/scratch)
      port: mount
      target: /srv/scratch
      verb: create
      risk: reversible
      before: null
      after: {fstype: tmpfs}
plan_digest:
  description: SHA-256 of the whole list of actions as planned, equal in check mode and in the real run.
  returned: always
  type: str
  sample: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
summary:
  description: How many actions were planned, applied, failed, undone, kept after a failure, and skipped.
  returned: always
  type: dict
  sample: {planned: 4, applied: 4, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description: The journal file that holds the whole plan and what became of it, empty when nothing changed.
  returned: always
  type: str
  sample: ""
timings:
  description: Milliseconds spent on looking, planning, applying and looking again.
  returned: always
  type: dict
  sample: {scan: 3.1, plan: 0.8, apply: 0.0, settle: 0.0}
resources:
  description: What stands now, for each list in its order. In check mode, what would stand.
  returned: when O(return_resources) is true
  type: dict
errors:
  description: Every refusal or failure, each with RV(errors[].entry), RV(errors[].code), its message, hint and details.
  returned: failure
  type: list
  elements: dict
  contains:
    entry:
      description: The list, index and name of the entry.
      type: str
      returned: always
    code:
      description: A stable code, see the collection's guide on errors.
      type: str
      returned: always
"""

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell


def main() -> None:
    _shell.run_layout(_kinds)


if __name__ == "__main__":
    main()
