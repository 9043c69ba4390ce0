#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_target
short_description: Serve images and devices of this host over iSCSI
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Has the kernel's own target (LIO) serve image files and block devices, to the initiators that are named and to
    nobody else. All of it is written to configfs and read back.
  - What a reboot brings back is kept in C(saveconfig.json), where C(targetctl restore) finds it. Other targets and
    storage objects in the kernel and in that file stay as they are.
  - A new target is enabled when all of it is there. One that was half made when a run was killed is completed by the
    next.
notes:
  - The sources are C(Documentation/target) of the kernel, targetctl(8), RFC 7143 and RFC 3722.
  - The LUNs and initiators of a target are exactly those that are declared. Taking away a LUN, a portal, an initiator
    or the target while somebody is logged in who would miss it is C(in_use), and names them.
  - A LUN has a serial number that is made of its target and number, unless it has another one already. So
    C(/dev/disk/by-id) on initiators stays the same when a target is made again.
  - An image is written through (C(O_DSYNC)). What an initiator was told to be written is not lost with this host.
  - Needs the kernel modules C(target_core_mod), C(target_core_file), C(target_core_iblock) and C(iscsi_target_mod),
    which are loaded, and configfs, which is mounted. C(unsupported) where the kernel has none.
seealso:
  - module: bulkhead.storage.volume_group
    description: Logical volumes that can be served.
options:
  target:
    description:
      - The name of the target, such as C(iqn.2026-01.org.example:disks), in lower case. Names that begin with C(eui.)
        and C(naa.) are taken too.
    type: str
    required: true
  portals:
    description:
      - Where it listens, each an address and a port, such as C(10.0.0.1:3260) or C([2001:db8::1]:3260). The port is
        3260 when it is not given.
      - When this is not given, V(0.0.0.0:3260) for a new target, all addresses of IPv4, and those that it has for
        another.
      - Every other portal of the target is removed when it is given.
    type: list
    elements: str
  luns:
    description:
      - What is served. Required when O(state=present), may be empty.
      - A LUN that stands on something else than declared is C(conflict). Take it out first.
    type: list
    elements: dict
    suboptions:
      lun:
        description:
          - Its number, in 0..65535.
        type: int
        required: true
      device:
        description:
          - A block device by a stable name, such as C(/dev/vg/lv). This or O(luns[].file) is required. It grows when
            the device does.
          - Refused with C(protected) when the host itself stands on it, and with C(in_use) when it is mounted or
            something stands on it. A name such as C(/dev/sdb) is C(unstable_device) unless
            O(allow_unstable_device=true).
        type: path
      file:
        description:
          - An image file, in a folder where nobody but root can write, otherwise C(unsafe_path).
          - A missing one is made, sparse and readable by root only, when O(luns[].size) is given. One that this target
            has served is C(not_found) instead, since its filesystem may just not be mounted.
        type: path
      size:
        description:
          - Size of the image, rounded up to a multiple of 512 bytes. A larger one lets the image and the LUN grow,
            which initiators see when they scan for it (C(iscsiadm -m session --rescan)).
          - A smaller one is C(would_shrink), because nobody can tell what initiators keep at its end.
          - When it is not given, that of the file.
        type: str
  initiators:
    description:
      - Who may log in, and sees every LUN under its number. Nobody when it is empty or not given.
      - Others that the target lets in are removed.
    type: list
    elements: dict
    suboptions:
      iqn:
        description:
          - The name of the initiator, in lower case, as in its C(/etc/iscsi/initiatorname.iscsi).
        type: str
        required: true
      chap:
        description:
          - How it proves who it is. Either all initiators of a target have one, or none, otherwise C(invalid).
          - Who can read this host's network without one can name itself as any initiator.
          - A change counts for the next login, sessions stay.
        type: dict
        suboptions:
          username:
            description:
              - The name it says, at most 255 printable characters of ASCII.
            type: str
            required: true
          password:
            description:
              - The secret it proves to know. Initiators may refuse one of less than 12 characters (RFC 7143 9.2.1), and
                Windows one of more than 16.
              - The kernel takes at most 255 characters, and none that begins with C(NULL).
            type: str
            required: true
          mutual_username:
            description:
              - The name that this target says to the initiator.
            type: str
          mutual_password:
            description:
              - The secret that this target proves to know, not the same as the other one.
            type: str
  persist:
    description:
      - Whether the target comes back after a reboot. It is kept in C(/etc/rtslib-fb-target/saveconfig.json) (Debian,
        Ubuntu) or C(/etc/target/saveconfig.json), with its passwords, readable by root only.
      - C(missing_tool) where no service of C(targetcli) would read it. That service must be enabled, as the role
        P(bulkhead.storage.iscsi_server#role) does.
    type: bool
    default: true
  state:
    description:
      - V(absent) ends serving it, now and after a reboot. Image files and devices stay, with what is on them.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: lio
- name: A disk for one initiator that proves who it is
  bulkhead.storage.iscsi_target:
    target: iqn.2026-01.org.example:builds
    luns:
      - {lun: 0, file: /srv/images/builds.img, size: 10GiB}
    initiators:
      - iqn: iqn.1993-08.org.debian:01:build7
        chap:
          username: build7
          password: correct horse battery

# needs: lio
- name: A disk, on one network only
  bulkhead.storage.iscsi_target:
    target: iqn.2026-01.org.example:data
    portals: ["10.20.0.1:3260", "[2001:db8::1]:3260"]
    luns:
      - {lun: 0, device: /dev/disk/by-id/virtio-blank-0001}
    initiators:
      - iqn: iqn.1993-08.org.debian:01:node1
      - iqn: iqn.1993-08.org.debian:01:node2
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
    - kind: iscsi_target
      entry: iscsi_target (iqn.2026-01.org.example:builds)
      port: lio_backing
      target: /srv/images/builds.img
      verb: create
      risk: reversible
      before: null
      after: {type: file, size: 10737418240}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions were C(planned), C(applied), C(failed), C(undone), C(kept) and C(skipped).
  returned: always
  type: dict
  sample: {planned: 3, applied: 3, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: /var/lib/bulkhead/journal/20260102T030405.678901-0a1b2c3d.jsonl
resource:
  description: The target as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    target:
      description: The name as declared.
      type: str
      returned: always
    portals:
      description: Where it listens. Empty when it is absent.
      type: list
      elements: str
      returned: always
      sample: ["0.0.0.0:3260"]
    luns:
      description: What is served.
      type: list
      elements: dict
      returned: always
      contains:
        lun:
          description: Its number.
          type: int
          returned: always
        file:
          description: The image.
          type: str
          returned: when it is one
        device:
          description: The device.
          type: str
          returned: when it is one
        size_bytes:
          description: Size of an image as the kernel serves it, null for a device.
          type: int
          returned: always
        serial:
          description:
            - The serial number that initiators see. C(scsi-36001405) and its first 25 digits are what it is called in
              C(/dev/disk/by-id) there.
          type: str
          returned: always
    initiators:
      description: Who may log in.
      type: list
      elements: dict
      returned: always
      contains:
        iqn:
          description: The name of the initiator.
          type: str
          returned: always
        chap:
          description: Whether it has to prove who it is.
          type: bool
          returned: always
        logged_in:
          description: Whether it is logged in.
          type: bool
          returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "iscsi_target (iqn.2026-01.org.example:builds): iqn.2026-01.org.example:builds goes, but
    iqn.1993-08.org.debian:01:build7 is logged in (log out there first)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: in_use
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: log out there first
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_backing import LioBacking
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import LioSaved
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import LioTarget
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target


def main() -> None:
    _shell.run(iscsi_target, {"lio_backing": LioBacking, "lio_target": LioTarget, "lio_saved": LioSaved})


if __name__ == "__main__":
    main()
