#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_session
short_description: Log in to an iSCSI target, now and at boot, and find its LUNs
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Keeps the record of a target in the database of open-iscsi, logs in through every portal that is declared, and tells
    the disks that come of it, by names that stay the same.
  - Secrets are in the record, which is written at once and for root only, and on no command line.
  - Before a login the portal is asked whether it would let this host in. A wrong secret is C(denied), a target that is
    not served there is C(not_found), a portal that does not answer is C(unreachable), each within seconds, and what was
    written for it is taken back.
notes:
  - The sources are iscsiadm(8), iscsid(8), RFC 7143, and C(scsi_transport_iscsi) of the kernel.
  - A target is known by its whole name, C(vol1) is not C(vol10).
  - What stands on a LUN may be declared in the same call of M(bulkhead.storage.layout), and names it by C(iscsi), the
    target, and C(lun), its number. What a LUN carries is looked at after the login. When it is refused then, the
    session ends again.
  - A LUN that became larger is seen at its new size. One that is no longer served is not told any more.
  - The boot logs in by C(open-iscsi.service) (Debian, Ubuntu) or C(iscsi.service), which has to be enabled.
seealso:
  - module: bulkhead.storage.iscsi_target
    description: Serves them.
options:
  target:
    description:
      - The name of the target, such as C(iqn.2026-01.org.example:disks), in lower case. Names that begin with C(eui.)
        and C(naa.) are taken too.
    type: str
    required: true
  portals:
    description:
      - Where it is served, each an address and a port, such as C(10.0.0.1:3260) or C([2001:db8::1]:3260). The port is
        3260 when it is not given. Required when O(state=connected) or O(state=present).
      - With several of them the LUNs are maps of dm-multipath, C(unsupported) where no C(multipathd) runs.
      - A session through any other portal is ended, and its record removed.
    type: list
    elements: str
  chap:
    description:
      - How this host proves who it is, and the target with the mutual words. What the record says stays when this is
        not given.
      - New secrets are proved at every portal first. A session that stands takes them over without losing a disk.
    type: dict
    suboptions:
      username:
        description:
          - The name that is said, at most 255 printable characters of ASCII.
        type: str
        required: true
      password:
        description:
          - The secret that is proved to be known. Targets may refuse one of less than 12 characters (RFC 7143 9.2.1).
        type: str
        required: true
      mutual_username:
        description:
          - The name that the target says.
        type: str
      mutual_password:
        description:
          - The secret that the target proves to know, not the same as the other one.
        type: str
  discovery_chap:
    description:
      - When it is given, a portal is asked what it offers (SendTargets) before the first login, with these words, and
        a target that is not in its list is C(not_found).
    type: dict
    suboptions:
      username:
        description:
          - The name that is said, at most 255 printable characters of ASCII.
        type: str
        required: true
      password:
        description:
          - The secret that is proved to be known. Targets may refuse one of less than 12 characters (RFC 7143 9.2.1).
        type: str
        required: true
      mutual_username:
        description:
          - The name that the target says.
        type: str
      mutual_password:
        description:
          - The secret that the target proves to know, not the same as the other one.
        type: str
  initiator_name:
    description:
      - The name of this host, written to C(/etc/iscsi/initiatorname.iscsi). C(in_use) while another one is logged in.
      - One for the whole host, so entries of M(bulkhead.storage.layout) must agree. It stays when this is not given.
    type: str
  startup:
    description:
      - Whether the boot logs in. V(automatic) for a new record.
    type: str
    choices: [automatic, manual]
  luns:
    description:
      - Numbers of LUNs, in 0..65535, that must be there. They are looked for anew when one is missing, and it is
        C(not_found) when it does not appear.
    type: list
    elements: int
  wait:
    description:
      - Seconds for the logins, and for the disks to appear, in 1..600.
    type: int
    default: 30
  state:
    description:
      - V(connected) logs in and keeps the record. V(present) keeps the record only, and leaves sessions as they are.
      - V(disconnected) logs out and leaves the record. V(absent) removes it too.
      - Logging out while something uses a LUN is C(in_use).
    type: str
    choices: [connected, disconnected, present, absent]
    default: connected
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: iscsi
- name: A session now and after each boot
  bulkhead.storage.iscsi_session:
    target: iqn.2026-01.org.example:builds
    portals: [10.0.0.1]
    chap:
      username: build7
      password: correct horse battery
    luns: [0]

# needs: iscsi
- name: Log out
  bulkhead.storage.iscsi_session:
    target: iqn.2026-01.org.example:builds
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
    - kind: iscsi_session
      entry: iscsi_session (iqn.2026-01.org.example:builds)
      port: iscsi_session
      target: iqn.2026-01.org.example:builds
      verb: create
      risk: reversible
      before: null
      after: {portals: ["10.0.0.1:3260"]}
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
  description: The sessions and disks as they are now. In check mode, as they would be, as far as that is known.
  returned: success
  type: dict
  contains:
    target:
      description: The name as declared.
      type: str
      returned: always
    sessions:
      description: One for each portal.
      type: list
      elements: dict
      returned: always
      contains:
        portal:
          description: Where it is logged in.
          type: str
          returned: always
          sample: "10.0.0.1:3260"
        state:
          description: As the kernel tells it, C(LOGGED_IN), C(FAILED) or C(FREE).
          type: str
          returned: when there is a session
    devices:
      description: The LUNs that the target shows to this host.
      type: list
      elements: dict
      returned: always
      contains:
        lun:
          description: Its number.
          type: int
          returned: always
        path:
          description: The device, by a name that stays the same.
          type: str
          returned: always
          sample: /dev/disk/by-id/scsi-3600140592f2c1b8d3a0e4b6fbb0f7c61
        by_id:
          description: Its name in C(/dev/disk/by-id).
          type: str
          returned: always
        multipath:
          description: Whether it is a map of dm-multipath.
          type: bool
          returned: always
        size_bytes:
          description: Its size.
          type: int
          returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "iscsi_session (iqn.2026-01.org.example:builds): portal 10.0.0.1:3260 does not take the CHAP user and secret
    (status 0201), for iqn.2026-01.org.example:builds (see chap, and the initiators of the target)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: denied
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: see chap, and the initiators of the target
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import IscsiInitiator
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import IscsiRecord
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_session import IscsiSession
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_session


def main() -> None:
    ports = {"iscsi_initiator": IscsiInitiator, "iscsi_record": IscsiRecord, "iscsi_session": IscsiSession}
    _shell.run(iscsi_session, ports)


if __name__ == "__main__":
    main()
