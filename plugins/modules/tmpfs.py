#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tmpfs
short_description: Mount a memory filesystem with bounds that hold
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Mounts, resizes, unmounts and persists a tmpfs that is bounded in bytes and in inodes.
  - It is always mounted C(nosuid,nodev), and C(noexec) unless said otherwise. There is no moment at which it is mounted
    without these flags.
  - A tmpfs that is already mounted is changed in place. Its content stays.
  - What the kernel was asked for is read back. A bound that it did not keep is a failure, C(not_enforced).
notes:
  - The sources are tmpfs(5), C(Documentation/filesystems/tmpfs.rst) of the kernel, fsconfig(2), mount_setattr(2),
    fstab(5) and systemd.mount(5).
  - Directories that are missing above O(path) are made, owned by root with mode 0755. They go again when the tmpfs
    goes, if they were made by this collection and are empty.
seealso:
  - module: bulkhead.storage.mount
  - module: bulkhead.storage.volume
    description: Memory volumes, named and recorded.
  - module: bulkhead.storage.layout
options:
  path:
    description:
      - Absolute path of the mount point, without C(..) components. A symbolic link is refused with C(unsafe_path).
    type: path
    required: true
  size:
    description:
      - The most bytes that its files may occupy, such as C(64MiB), C(1.5G) or C(1073741824). Units are powers of 1024.
      - At least one page (4096 bytes), rounded up to whole pages. Less is refused with C(invalid).
      - Making it smaller than what is in use is refused with C(in_use).
      - Required when O(state=mounted).
    type: str
  inodes:
    description:
      - The most files and directories that it may hold, from 2 to 2147483648.
      - When it is not given, one for every 16 KiB of O(size), at least 64.
    type: int
  mode:
    description:
      - Mode of its root directory, in octal digits as text. A number is taken as it is, since YAML reads V(0770) as
        octal.
      - When it is not given, 1777 on a new mount.
    type: raw
  owner:
    description:
      - Owner of its root directory, a name or a number. When it is not given, root on a new mount.
    type: str
  group:
    description:
      - Group of its root directory, a name or a number. When it is not given, root on a new mount.
    type: str
  noexec:
    description:
      - Whether programs on it must not be executed.
    type: bool
    default: true
  noswap:
    description:
      - Whether its content must never be written to swap, as for secrets. Needs Linux 6.4, else C(unsupported).
      - It can be chosen only while the tmpfs is mounted anew. When it is not given, not on a new mount.
    type: bool
  options:
    description:
      - Further mount options, one word or C(name=value) an entry, on top of C(nosuid,nodev), which cannot be lifted.
      - Flags such as C(noatime), and C(huge=), C(mpol=), C(inode32), C(inode64). Anything else is refused with
        C(invalid), and so is what has an option of its own here.
      - When they are not given, none on a new mount, and those of a line in C(/etc/fstab) stay.
    type: list
    elements: str
  persist:
    description:
      - Where the mount is written down for the next boot.
      - V(fstab) keeps one line in C(/etc/fstab), every other byte of which stays as it is. Where systemd runs, it is
        told of a change.
      - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, as M(bulkhead.storage.mount) does.
      - V(none) looks at neither.
    type: str
    choices: [fstab, unit, none]
    default: fstab
  state:
    description:
      - V(mounted) mounts it, or changes what is mounted, and persists it.
      - V(unmounted) unmounts it. Its content is lost. The line or unit stays, the mount point too.
      - V(absent) unmounts it and removes the line and the unit. Where several tmpfs lie over each other, all of them
        go.
      - A tmpfs that is used by a process, or has mounts beneath it, is refused with C(in_use), which names them.
    type: str
    choices: [mounted, unmounted, absent]
    default: mounted
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: A scratch space for everybody, also after the next boot
  bulkhead.storage.tmpfs:
    path: /srv/scratch
    size: 64MiB

- name: Twice as large, while it is in use
  bulkhead.storage.tmpfs:
    path: /srv/scratch
    size: 128MiB
    options: [noatime]

- name: A place in which one build agent may execute what it compiles, until the next boot
  bulkhead.storage.tmpfs:
    path: /srv/agents/7/build
    size: 256MiB
    inodes: 50000
    owner: "10007"
    group: "10007"
    mode: "0700"
    noexec: false
    persist: none

- name: Secrets that never reach swap
  bulkhead.storage.tmpfs:
    path: /srv/secrets
    size: 1MiB
    mode: "0700"
    noswap: true
    persist: none

- name: Unmounted until the next boot
  bulkhead.storage.tmpfs:
    path: /srv/scratch
    state: unmounted

- name: Gone for good
  bulkhead.storage.tmpfs:
    path: /srv/scratch
    state: absent

- name: The agent's place is gone too, with the directories that were made for it
  bulkhead.storage.tmpfs:
    path: /srv/agents/7/build
    persist: none
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
    - kind: tmpfs
      entry: tmpfs (/srv/scratch)
      port: fstab
      target: /etc/fstab /srv/scratch
      verb: create
      risk: reversible
      before: null
      after: {source: tmpfs, fstype: tmpfs, options: "nosuid,nodev,noexec,size=67108864", dump: 0, passno: 0}
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
  description: The tmpfs as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    path:
      description: The mount point.
      type: str
      returned: always
    size_bytes:
      description: The bound on its bytes, null when it is not mounted.
      type: int
      returned: always
    inodes:
      description: The bound on its inodes, null when it is not mounted.
      type: int
      returned: always
    used_bytes:
      description: The bytes in use, null when it is not mounted.
      type: int
      returned: always
    used_inodes:
      description: The inodes in use, null when it is not mounted.
      type: int
      returned: always
    options:
      description: The live mount options, read back from the kernel.
      type: list
      elements: str
      returned: always
  sample:
    path: /srv/scratch
    size_bytes: 67108864
    inodes: 4096
    used_bytes: 0
    used_inodes: 1
    options: [rw, nosuid, nodev, noexec, relatime, "gid=0", "mode=1777", "nr_inodes=4096", "size=67108864", "uid=0"]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "tmpfs (/srv/scratch): /srv/scratch cannot shrink to size 4096: 65536 are in use (remove files first)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: in_use
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: remove files first
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tmpfs


def main() -> None:
    def node() -> Any:
        """Asked only where the mount differs: what is mounted has a mount point."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node

        return Node()

    fstab = Fstab()  # systemd is told of both at once

    def unit() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units

        return Units(fstab)

    _shell.run(tmpfs, {"node": node, "mount": Mounts, "fstab": lambda: fstab, "unit": unit})


if __name__ == "__main__":
    main()
