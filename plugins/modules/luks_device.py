#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: luks_device
short_description: Encrypt a blank device with LUKS2, open it and replace its key
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes LUKS2 on a device that is proved to be blank by reading it, opens it as C(/dev/mapper/<name>) and keeps its
    line in C(/etc/crypttab). Anything that is not blank is refused with C(not_blank), and the refusal says what was
    found.
  - What it makes reads as zeros at both ends, so that a filesystem may stand on it at once, in the same call of
    M(bulkhead.storage.layout). An existing one is opened first, and what is in it is looked at then.
  - Replaces a key. The new one is proved to open the device before the old one is removed, and a run that is killed on
    the way is finished by the next one.
  - Keeps a copy of the header and its key slots in C(/var/lib/bulkhead/luks/<uuid>.img) (mode 0600), written when the
    device is made and renewed with each key, so that no copy is left which the old key opens. It is what
    C(cryptsetup luksHeaderRestore) takes.
  - A mapping that does not reach the end of its device, because that has grown, is grown while it is in use.
  - The devices of the root filesystem, of C(/boot), of the EFI system partition and of swap, and everything they stand
    on, are always refused with C(protected).
notes:
  - The source is cryptsetup(8), crypttab(5) and the LUKS2 On-Disk Format Specification 1.1.1. The header is read
    without a program. A device with a header of which neither copy is whole is C(unreadable), never blank.
  - Keys reach cryptsetup by standard input or an anonymous file. They are in no argument, no journal and no result.
  - The program cryptsetup must be installed (C(cryptsetup-bin) on Debian and Ubuntu), otherwise C(missing_tool). A
    kernel without device mapper is C(unsupported).
  - A key is tried when the mapping has to be opened, and one that does not fit is C(denied). While it is open, the key
    is not looked at. Of a O(new_key_file) that was proved, the header keeps a token with a digest of the name, inode,
    size and times of the file, of nothing that is in it. As long as these are the same, nothing is tried again.
  - To try a key costs seconds of processor time on purpose. Several devices are made and opened in parallel.
seealso:
  - module: bulkhead.storage.filesystem
  - module: bulkhead.storage.layout
options:
  device:
    description:
      - The device by a stable name. An image file is refused with C(unsupported), attach it to a loop device first.
      - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
      - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its number.
    type: raw
    required: true
  name:
    description:
      - Name of the mapping, C(/dev/mapper/<name>). At most 127 letters, digits, C(_ . +) and C(-).
      - Where another device has it, C(conflict).
    type: str
    required: true
  key_file:
    description:
      - A file on the target with the key, all of its bytes, at most 8 MiB. C(not_found) when it is needed and missing.
      - One of O(key_file), O(passphrase) and O(tenant) is required when O(state=opened) or O(state=present).
    type: path
  passphrase:
    description:
      - The key as text, without an end of line.
    type: str
  tenant:
    description:
      - The tenant whose key it is. Not supported yet, refused with C(unsupported), because no keys of tenants are kept.
    type: str
  new_key_file:
    description:
      - A file on the target with the key that is to replace O(key_file) or O(passphrase).
      - When both open the device the old one is removed. A device that is made is made with this one.
      - The line in C(/etc/crypttab) names this one. Give it as O(key_file) from the next time on, if you like.
    type: path
  pbkdf:
    description:
      - How a key is made slow to guess, for keys that are added. When it is not given, as cryptsetup was built, which
        is V(argon2id) but in FIPS mode.
      - An existing device with another one is refused with C(unsupported).
    type: str
    choices: [argon2id, pbkdf2]
  pbkdf_iterations:
    description:
      - How often, at least 4, and 1000 for V(pbkdf2). When it is not given, it is measured so that a try takes two
        seconds. A random key of 32 bytes needs no more than the least.
    type: int
  pbkdf_memory:
    description:
      - How much memory a try takes, from 32 KiB to 4 GiB, such as C(64MiB). Not with V(pbkdf2), refused with
        C(invalid).
      - When it is not given, up to 1 GiB, less on a host with less.
    type: raw
  cipher:
    description:
      - The cipher as dm-crypt has it, such as C(aes-xts-plain64), which cryptsetup takes when it is not given.
      - An existing device with another one is refused with C(unsupported).
    type: str
  discards:
    description:
      - Whether discards pass through to the device. They tell which blocks are unused. Kept in the header and in
        C(/etc/crypttab).
      - When it is not given, not on a new device, and as the header says.
    type: bool
  nofail:
    description:
      - Whether the host boots although the device cannot be opened. When it is not given, as the line in
        C(/etc/crypttab) says, and not in a new line.
    type: bool
  persist:
    description:
      - V(crypttab) keeps one line in C(/etc/crypttab), every other byte of which stays as it is. Where systemd runs, it
        is told of a change.
      - V(none) does not look at it.
      - When it is not given, V(crypttab) with O(key_file), and V(none) with O(passphrase), for which the boot would
        wait.
    type: str
    choices: [crypttab, none]
  wipe_token:
    description:
      - Consent to destroy what is there. The refusal prints it in C(errors[].details.wipe_token).
      - It is a digest of the device and of its content, and no longer valid when either changes.
    type: str
  state:
    description:
      - V(opened) makes it where nothing is, opens it and writes its line.
      - V(closed) closes the mapping. Header and line stay. A mapping in use is refused with C(in_use), which names the
        mount points and devices.
      - V(present) makes it and writes its line, but neither opens nor closes it.
      - V(absent) closes it, erases the key slots, both copies of the header, the ends of the device and the copy of the
        header, and removes the line. It takes O(wipe_token), unless the mapping is open and reads as blank. A device
        without LUKS is left alone.
    type: str
    choices: [opened, closed, present, absent]
    default: opened
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: dm
- name: A blank disk encrypted with a random key that lies on the host
  bulkhead.storage.luks_device:
    device: /dev/disk/by-id/virtio-blank-0001
    name: vault
    key_file: /etc/keys/vault.key
    nofail: true

# needs: dm
- name: With a passphrase from the inventory, opened by the next run after a boot
  bulkhead.storage.luks_device:
    device: /dev/disk/by-id/virtio-blank-0001
    name: vault
    passphrase: correct horse battery staple
    discards: true

# needs: dm
- name: Another key
  bulkhead.storage.luks_device:
    device: /dev/disk/by-id/virtio-blank-0001
    name: vault
    key_file: /etc/keys/vault.key
    new_key_file: /etc/keys/vault-2027.key
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
    - kind: filesystem
      entry: filesystem (/dev/disk/by-id/virtio-blank-0001)
      port: superblock
      target: /dev/disk/by-id/virtio-blank-0001
      verb: create
      risk: forward
      before: null
      after: {fstype: ext4, label: data, uuid: UNKNOWN, size: 67108864, fills: true, quota: [project]}
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
  description: The device as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    device:
      description: The device as declared.
      type: str
      returned: always
    name:
      description: Name of the mapping.
      type: str
      returned: always
    path:
      description: Path of the mapping, null when it is not open.
      type: str
      returned: always
    uuid:
      description: UUID of the LUKS, V(UNKNOWN) in check mode for one that would be made, null when there is none.
      type: str
      returned: always
    keyslots:
      description: Key slots in use, V(UNKNOWN) in check mode when a key would be replaced. Empty when not looked at.
      type: raw
      returned: always
  sample:
    device: /dev/disk/by-id/virtio-blank-0001
    name: vault
    path: /dev/mapper/vault
    uuid: 33422f9c-b61c-4656-896e-b57cce20d6b3
    keyslots: [0]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "change of luks /dev/disk/by-id/virtio-blank-0001 would destroy content"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: not_blank
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "repeat the task with wipe_token: 5f0c to destroy what is there"
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.crypttab import Crypttab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dmcrypt import Mapping
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.luks import Luks
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import luks_device


def main() -> None:
    luks = Luks(execute)
    _shell.run(luks_device, {"luks": lambda: luks, "mapping": lambda: Mapping(luks), "crypttab": Crypttab})


if __name__ == "__main__":
    main()
