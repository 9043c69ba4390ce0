#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_mount
short_description: Mount an export of an NFS server
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - What is declared, what is mounted and what C(/etc/fstab) holds are one declaration. Where either differs, it is made
    equal. What is not declared stays as it is.
  - Speaks NFS 4.1 and 4.2. A mount is C(hard) unless it is read-only and said to be soft, and always C(nosuid) and
    C(nodev). It is made detached, with its flags from the first instant, and only then moved onto its mount point.
  - What the server negotiated is no drift, such as a smaller O(rsize) than was asked for.
  - Whatever a server has to answer is asked by a process that is killed when O(timeout) is over. A server that is away
    never hangs a run, it is C(unreachable), and nothing is changed.
  - An unmount is never lazy and never forced. What was written is with the server before it begins.
notes:
  - The sources are nfs(5), mount.nfs(8), fsconfig(2), move_mount(2), umount2(2), fstab(5) and systemd.mount(5).
  - Directories that are missing on the way to O(path) are made, owned by root with mode 0755.
  - With C(sec=sys) a server believes a client about who its users are. That is no boundary between tenants.
  - The kernel mounts it. At boot systemd runs C(mount.nfs4), which must be there (C(missing_tool)) unless
    O(persist=none).
seealso:
  - module: bulkhead.storage.mount
    description: Mount what is no export.
  - module: bulkhead.storage.layout
options:
  path:
    description:
      - Absolute path of the mount point, without C(..) components. A symbolic link is refused with C(unsafe_path).
    type: path
    required: true
  server:
    description:
      - Name or address of the server. An address of IPv6 may be in brackets.
      - Required when O(state=mounted) or O(state=present).
    type: str
  export:
    description:
      - Absolute path of the export as the server names it, without blanks.
      - Required when O(state=mounted) or O(state=present).
    type: str
  version:
    description:
      - The version of the protocol.
    type: str
    choices: ['4.1', '4.2']
    default: '4.2'
  sec:
    description:
      - How users are known to the server, see C(sec=) in nfs(5). V(krb5p) also encrypts what goes over the network. All
        but V(sys) need C(rpc.gssd) and a keytab on this host.
      - When it is not given, as a line in C(/etc/fstab) says, or what the server offers.
    type: str
    choices: [sys, krb5, krb5i, krb5p]
  hard:
    description:
      - Whether who reads or writes waits for a server that is away until it is back.
      - V(false) lets them fail after a while, which loses what could not be written, so it takes O(read_only=true), and
        is C(invalid) else.
    type: bool
    default: true
  rsize:
    description:
      - The largest read, 1024 bytes to 1 MiB. The server may lower it.
      - When it is not given, as a line in C(/etc/fstab) says, or as large as the server takes.
    type: str
  wsize:
    description:
      - The largest write, as O(rsize).
    type: str
  nconnect:
    description:
      - How many connections to the server are made, 1 to 16. The first mount of a server decides for all of them. A
        later one that asks for another number is C(not_enforced).
    type: int
  automount:
    description:
      - Whether systemd mounts it at boot only when somebody looks (C(x-systemd.automount)). It takes effect with the
        next boot, and needs O(persist=fstab).
      - When it is not given, as a line in C(/etc/fstab) says.
    type: bool
  read_only:
    description:
      - Whether nobody may write through this mount. When it is not given, as O(options) say or as it is.
    type: bool
  options:
    description:
      - More mount options, one word or C(name=value) an entry.
      - When they are not given, those of a line in C(/etc/fstab) stay. Given, they are all options of the line but
        those that have an option of their own here, and C(nosuid), C(nodev), C(nofail) and C(_netdev), which it always
        has.
      - C(intr) and C(nointr) are dropped with a warning, since Linux ignores them.
    type: list
    elements: str
  persist:
    description:
      - V(fstab) keeps one line in C(/etc/fstab), every other byte of which stays as it is.
      - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, enabled.
      - V(none) looks at neither.
    type: str
    choices: [fstab, unit, none]
    default: fstab
  timeout:
    description:
      - Seconds that the server may take to be mounted, and to answer for what is mounted, 1 to 3600. An unmount waits
        30 seconds for it.
    type: int
    default: 30
  on_drift:
    description:
      - What to do where something is mounted at O(path) in another way than declared.
      - V(remount) changes what can be changed in place, which is whether it is read-only, and the times of access.
      - V(replace) also unmounts what cannot, and mounts anew. So does it with what the server does not know any more.
      - V(fail) changes nothing.
    type: str
    choices: [remount, fail, replace]
    default: remount
  state:
    description:
      - V(mounted) mounts and persists it.
      - V(unmounted) unmounts it. The line or unit stays.
      - V(present) writes the line or unit only.
      - V(absent) unmounts it and removes the line and the unit. The mount point goes when it was made by this
        collection and is empty.
      - A mount that is used by a process, or has mounts beneath it, is refused with C(in_use), which names them.
    type: str
    choices: [mounted, unmounted, present, absent]
    default: mounted
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: nfs
- name: The builds of all tenants
  bulkhead.storage.nfs_mount:
    path: /var/lib/builderd
    server: nfs1.example.com
    export: /exports/builderd
    rsize: 1MiB
    wsize: 1MiB

# needs: nfs
- name: Tools that only are read, soft, mounted when somebody looks
  bulkhead.storage.nfs_mount:
    path: /opt/tools
    server: 2001:db8::17
    export: /exports/tools
    read_only: true
    hard: false
    automount: true

- name: A line for the next boot, nothing is mounted now
  bulkhead.storage.nfs_mount:
    path: /srv/archive
    server: nfs1.example.com
    export: /exports/archive
    sec: krb5p
    state: present

- name: Gone for good
  bulkhead.storage.nfs_mount:
    path: /srv/archive
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
      description: C(nfs4), null when nothing is mounted.
      type: str
      returned: always
    options:
      description: The live mount options, read back from the kernel.
      type: list
      elements: str
      returned: always
    persisted:
      description: Whether C(/etc/fstab), or a unit, has it.
      type: bool
      returned: always
    server:
      description: The server that it is mounted from, null when nothing is mounted.
      type: str
      returned: always
    export:
      description: The export of the server, null when nothing is mounted.
      type: str
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
    source: nfs1.example.com:/exports/builderd
    fstype: nfs4
    options: [rw, nosuid, nodev, relatime, hard, proto=tcp, rsize=1048576, vers=4.2, wsize=1048576]
    persisted: true
    server: nfs1.example.com
    export: /exports/builderd
    drift: []
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "nfs_mount (/mnt/builds): nfs1.example.com does not answer: Connection refused"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unreachable
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import NetworkMounts
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_mount


def main() -> None:
    def node() -> Any:  # asked only where the mount differs
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node

        return Node()

    fstab = Fstab()  # systemd is told of both at once

    def unit() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units

        return Units(fstab)

    _shell.run(nfs_mount, {"node": node, "mount": NetworkMounts, "fstab": lambda: fstab, "unit": unit})


if __name__ == "__main__":
    main()
