#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot
short_description: What a volume held at one moment
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Keeps what a volume holds, read-only, beside it in its pool, and removes what was kept.
  - A snapshot lies at C(.snapshots/<namespace>/<volume>/<name>) in the directory of the pool. Only root can enter
    C(.snapshots), so nobody that a volume belongs to can change or read what is kept there.
  - It is recorded before it is made and until it is removed. A volume is not removed before its snapshots.
  - In a Btrfs pool it is a read-only subvolume, made at once also while somebody writes. Subvolumes that are nested in
    the volume are kept too, each as of a moment of its own.
  - Of an image file it is a copy that shares blocks where the filesystem of the pool can do that (XFS, Btrfs). A volume
    that is attached is held still meanwhile, so that the copy is of one moment and needs no repair, and whoever writes
    waits. Without shared blocks that lasts as long as copying does. After 60 seconds it is a C(timeout), and nothing is
    kept.
  - Of a thin logical volume it is a thin snapshot, C(/dev/<vg>/s+<namespace>+<volume>+<name>), read-only, made at once
    while LVM holds the filesystem still. It is not active, and may be activated to look at it (C(lvchange -ay -K)).
  - Of a directory it is a copy of the tree, which shares blocks too. It is not of one moment when somebody writes
    meanwhile. It is charged to no project.
notes:
  - What a snapshot holds is not charged to its volume a second time. With simple quota, blocks stay charged to the
    volume that wrote them for as long as a snapshot has them, also once the volume has removed them. With qgroups they
    are charged to everybody who has them.
  - Memory volumes and thick logical volumes have no snapshots, which is C(unsupported).
  - What O(keep) does not keep is removed before the new one is made, which leaves room for it.
seealso:
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.layout
options:
  name:
    description:
      - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without C(..).
      - Or a template of such a name, with fields that hold the time of the run in UTC, C(%Y %m %d %H %M %S %j %G %V %u)
        as strftime(3) knows them. One snapshot is made for each name that it gives, for example one a day.
      - With O(state=absent) a template stands for all that it has named.
    type: str
    required: true
  volume:
    description:
      - The name of the volume.
    type: str
    required: true
  namespace:
    description:
      - The namespace of the volume.
    type: str
    default: default
  keep:
    description:
      - Which snapshots of the template O(name) are kept. The others are removed. Snapshots with other names, also when
        they look alike, stay.
      - What any of the rules keeps is kept. At least one of them is more than 0, otherwise C(invalid).
    type: dict
    suboptions:
      last:
        description:
          - How many of the newest are kept, 0 to 100000.
        type: int
      hourly:
        description:
          - For how many hours that have a snapshot the newest one of the hour is kept, 0 to 100000.
        type: int
      daily:
        description:
          - As O(keep.hourly), for days.
        type: int
      weekly:
        description:
          - As O(keep.hourly), for weeks that begin on Monday.
        type: int
      monthly:
        description:
          - As O(keep.hourly), for months.
        type: int
  restore_id:
    description:
      - Which restore this is. It is recorded with the snapshot, and the same one is not done twice, whatever became of
        the volume since. Written like a name.
      - The name of the snapshot when it is not given, so that it is restored once.
    type: str
  state:
    description:
      - V(present) makes the snapshot once. What is there under its name is never made again.
      - V(absent) removes it, with what it holds.
      - V(restored) gives the volume what the snapshot holds, once. What the volume held until then is kept as the
        snapshot C(before-restore-<restore_id>). Nothing is lost, so it takes no consent.
      - A volume is restored while it is not attached, otherwise C(in_use). Its owner, mode and limit stay as they are.
        An image or a logical volume has the size that it had (C(conflict)).
      - A volume of backend V(directory) is C(unsupported).
      - With simple quota, what a volume shares with its snapshots is charged to the subvolume that wrote it. A volume
        that was restored begins with nothing charged to it.
    type: str
    choices: [present, absent, restored]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: Keep what a workspace holds before it is upgraded
  bulkhead.storage.snapshot:
    name: before-upgrade
    volume: workspace
    namespace: blue

- name: One snapshot a day, of which some are kept for long
  bulkhead.storage.snapshot:
    name: daily-%Y-%m-%d
    volume: workspace
    namespace: blue
    keep:
      daily: 7
      weekly: 4
      monthly: 12

- name: The workspace as it was before the upgrade
  bulkhead.storage.snapshot:
    name: before-upgrade
    volume: workspace
    namespace: blue
    state: restored

- name: It is not needed any more
  bulkhead.storage.snapshot:
    name: before-upgrade
    volume: workspace
    namespace: blue
    state: absent
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
    - kind: snapshot
      entry: snapshot (blue/workspace/before-upgrade)
      port: snapshot
      target: /srv/pools/fast/.snapshots/blue/workspace/before-upgrade
      verb: create
      risk: reversible
      before: null
      after: {type: subvolume, read_only: true, source: /srv/pools/fast/blue/workspace}
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
  description: The snapshot as it stands, in check mode as it would stand.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: always
    volume:
      description: The name of its volume.
      type: str
      returned: always
    namespace:
      description: The namespace of its volume.
      type: str
      returned: always
    id:
      description: What it was given when it was made, unlike any other. Null when there is none.
      type: str
      returned: always
    pool:
      description: The pool that it lies in.
      type: str
      returned: always
    path:
      description: Where it lies. Of a logical volume its device, which is there while somebody has it activated.
      type: str
      returned: always
    size_bytes:
      description: The size that its volume had.
      type: int
      returned: always
    status:
      description: V(ready), V(absent), or V(error) when it is recorded and not there.
      type: str
      returned: always
    created_at:
      description: When it was made, in UTC.
      type: str
      returned: always
    restored:
      description: The restores that it was used for, the last one last.
      type: list
      elements: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "snapshot (blue/workspace/daily): there is no volume blue/workspace (declare it, or name another one)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: not_found
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "declare it, or name another one"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.clock import Clock
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.content import Content
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import snapshot


def main() -> None:
    record = Record()
    ports = {"snapshot": Snapshots, "node": Node, "clock": Clock, "content": Content}
    _shell.run(snapshot, {**ports, "record": lambda: record, **lvm2late.makers(record)})


if __name__ == "__main__":
    main()
