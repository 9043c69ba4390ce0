#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mount
short_description: Mount a filesystem, an image or a directory
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - What is declared, what is mounted and what C(/etc/fstab) holds are one declaration. Where either differs, it is made
    equal. What is not declared stays as it is.
  - A mount is made detached, with its flags from the first instant, and only then moved onto its mount point.
  - What the kernel was asked for is read back. An option that it took and did not keep is a failure, C(not_enforced).
  - An unmount is never lazy and never forced. Users of the mount are named in the refusal.
notes:
  - The sources are mount(2), fsconfig(2), move_mount(2), mount_setattr(2), umount2(2), mount_namespaces(7),
    fstab(5) and systemd.mount(5).
  - Directories that are missing on the way to O(path) are made, owned by root with mode 0755.
  - An image file gets a loop device that goes with its mount.
seealso:
  - module: bulkhead.storage.filesystem
    description: Make the filesystem that is mounted.
  - module: bulkhead.storage.tmpfs
  - module: bulkhead.storage.layout
options:
  path:
    description:
      - Absolute path of the mount point, without C(..) components. A symbolic link is refused with C(unsafe_path).
    type: path
    required: true
  source:
    description:
      - A device, C(UUID=), C(LABEL=), C(PARTUUID=) or C(PARTLABEL=), an image file, or a directory when O(bind=true).
      - Required when O(state=mounted) or O(state=present).
      - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its number.
      - Its line also says C(_netdev).
    type: raw
    aliases: [src]
  fstype:
    description:
      - Type of the filesystem, such as C(ext4), C(xfs) or C(btrfs), or V(auto) for what is found on the device.
      - Required unless O(bind=true). A C(tmpfs) is refused with C(invalid), it has a module of its own.
    type: str
  options:
    description:
      - Mount options, one word or C(name=value) an entry, or all of them in one text with commas.
      - When they are not given, none on a new mount, and those of a line in O(fstab) stay. Given, they are all options
        of the line but those that have an option of their own here.
      - Options that can lose committed data at power loss (unless O(allow_unsafe_options) has them), that run a helper,
        that set a context, that let others than root mount and unmount (C(user), C(users), C(owner), C(group)) or that
        hold a secret (instead of naming the file that does) are refused with C(invalid).
    type: list
    elements: str
    aliases: [opts]
  bind:
    description:
      - Whether O(source) is a directory or file that is to be seen at O(path) too.
    type: bool
    default: false
  recursive:
    description:
      - Whether a bind takes the mounts beneath O(source) along. What is missing beneath it is mounted.
      - When it is not given, not on a new mount, and as a line in O(fstab) says.
    type: bool
  read_only:
    description:
      - Whether nobody may write through this mount. When it is not given, as O(options) say or as it is.
    type: bool
  propagation:
    description:
      - Whether mounts made beneath it later are seen elsewhere, see mount_namespaces(7).
    type: str
    choices: [private, slave, shared]
  persist:
    description:
      - V(fstab) keeps one line in O(fstab), every other byte of which stays as it is. Where systemd runs, it is told of
        a change of C(/etc/fstab).
      - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, enabled, with what systemd-fstab-generator(8)
        would make of the line. In a unit that somebody else wrote only source, type and options change. A masked one
        is a C(conflict).
      - V(none) looks at neither.
    type: str
    choices: [fstab, unit, none]
    default: fstab
  fstab:
    description:
      - The file that V(fstab) means.
    type: path
    default: /etc/fstab
  dump:
    description:
      - The fifth field of the line, see fstab(5). When it is not given, 0 in a new line.
    type: int
  passno:
    description:
      - The sixth field of the line, the order of checks at boot, see fstab(5). 0 means no check.
      - When it is not given, 0 in a new line.
    type: int
  nofail:
    description:
      - Whether the host boots although the device is missing. When it is not given, as O(options) say, as the line is,
        and not in a new line.
    type: bool
  allow_unsafe_options:
    description:
      - Which of C(barrier=0), C(nobarrier), C(nobh), C(data=writeback) O(options) may have, by the same word.
    type: list
    elements: str
  on_drift:
    description:
      - What to do where something is mounted at O(path) in another way than declared.
      - V(remount) changes what can be changed in place.
      - V(replace) also unmounts what cannot, and mounts anew.
      - V(fail) changes nothing.
    type: str
    choices: [remount, fail, replace]
    default: remount
  state:
    description:
      - V(mounted) mounts and persists it.
      - V(unmounted) unmounts it. The line or unit stays.
      - V(present) writes the line or unit only.
      - V(absent) unmounts it and removes the line and the unit. Where several mounts lie over each other, all of them
        go. The mount point goes when it was made by this collection and is empty.
      - A mount that is used by a process, or has mounts beneath it, is refused with C(in_use), which names them.
    type: str
    choices: [mounted, unmounted, present, absent]
    default: mounted
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: A data disk by its stable name
  bulkhead.storage.mount:
    path: /mnt/data
    source: /dev/disk/by-id/virtio-data-0001
    fstype: ext4
    options: [noatime, nodev, nosuid]
    passno: 2
    nofail: true

- name: One of its directories, read only, elsewhere
  bulkhead.storage.mount:
    path: /srv/public
    source: /srv/data/public
    bind: true
    read_only: true
    options: [nosuid, nodev]
    persist: unit

- name: An image file, for this boot only
  bulkhead.storage.mount:
    path: /mnt/image
    source: /srv/images/tools.img
    fstype: ext4
    read_only: true
    persist: none

- name: A line for the next boot, nothing is mounted now
  bulkhead.storage.mount:
    path: /mnt/archive
    source: LABEL=archive
    fstype: xfs
    options: [noatime]
    nofail: true
    state: present

- name: Unmounted, until the next boot
  bulkhead.storage.mount:
    path: /mnt/data
    state: unmounted

- name: Gone for good
  bulkhead.storage.mount:
    path: /srv/public
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
resource:
  description: The mount as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    path:
      description: The mount point.
      type: str
      returned: always
    source:
      description: What is mounted, null when nothing is.
      type: str
      returned: always
    fstype:
      description: Type of the filesystem, null when nothing is mounted, and for a bind.
      type: str
      returned: always
    options:
      description: The live mount options, read back from the kernel.
      type: list
      elements: str
      returned: always
    persisted:
      description: Whether O(fstab), or a unit, has it.
      type: bool
      returned: always
    drift:
      description:
        - In what it was found mounted otherwise than declared, such as V(read_only), V(source) or the name of an
          option.
        - That was mended, unless O(state=present), which leaves the mount alone.
      type: list
      elements: str
      returned: always
  sample:
    path: /mnt/data
    source: /dev/disk/by-id/virtio-data-0001
    fstype: ext4
    options: [rw, nosuid, nodev, noatime]
    persisted: true
    drift: []
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "mount (/mnt/data): /mnt/data has mounts beneath it: /mnt/data/a"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: in_use
hint:
  description: What to do about the first error.
  returned: failure
  type: str
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
"""

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount


def main() -> None:
    def node() -> Any:  # asked only where the mount differs
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node

        return Node()

    fstab = Fstab()  # systemd is told of both at once

    def unit() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units

        return Units(fstab)

    _shell.run(mount, {"node": node, "mount": Mounts, "fstab": lambda: fstab, "unit": unit})


if __name__ == "__main__":
    main()
