#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: A named, bounded place for files
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Makes a volume of a pool, bounded in a way that the kernel enforces, attaches it where jobs find it, and removes it.
  - The volume is recorded before it is made and until it is removed, so that whatever exists is known, even after a run
    that was killed.
  - Whoever writes past the size gets an error from the kernel, C(ENOSPC) or C(EDQUOT).
notes:
  - O(qos), O(encrypted=true) and an O(source.type) of V(image) or V(url) are not supported yet, nor is O(type=block)
    but in a pool with the backend V(lvm) or V(iscsi). They are refused with C(unsupported).
  - An existing volume is compared on the options that are given only.
  - A memory volume exists while it is attached. Detaching it loses its content.
  - Where an image or a logical volume is mounted in its pool, nobody chose the path. It is refused with C(in_use) while
    anything else lies there, as after a boot when somebody wrote into the bare directory.
  - In a pool with the backend V(nfs) the server must hold C(<export>/<namespace>/<name>) to the volume's size, which is
    read with statfs(2), in the server's blocks and rounded up. Another limit, or none, is refused with
    C(not_enforced), and a pool whose export is not mounted with C(not_found). When the limit is that of the whole
    export, it must be the only volume of the pool. Such volumes have no snapshots (C(unsupported)). A clone is a copy,
    and its directory must be empty (C(not_blank)).
seealso:
  - module: bulkhead.storage.volume_info
  - module: bulkhead.storage.pool
  - module: bulkhead.storage.layout
options:
  name:
    description:
      - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without C(..).
    type: str
    required: true
  namespace:
    description:
      - The namespace of the name, such as a tenant. Written like O(name).
    type: str
    default: default
  pool:
    description:
      - The pool that it is made in. V(default) when it is not given. A volume does not move to another pool, that is a
        C(conflict).
    type: str
  type:
    description:
      - V(filesystem) keeps its files on the pool. V(memory) is a tmpfs and has no pool. V(block) is a bare device, the
        one that C(resource.device) names, without a filesystem, an owner or a O(target); its pool must have a thin
        pool, of which it sees nothing that others wrote.
      - V(filesystem) when it is not given. It cannot be changed later.
    type: str
    choices: [filesystem, memory, block]
  size:
    description:
      - How much it may hold, such as C(10GiB) or C(10737418240). Units are powers of 1024. Rounded up to 4096 bytes, in
        a volume group to its extents.
      - At least 4 KiB, in a Btrfs pool 64 KiB, in an image file or a logical volume 1 MiB for V(ext4), 109 MiB for
        V(btrfs) and 300 MiB for V(xfs). Less is refused with C(invalid).
      - Required to make a volume. A larger size later lets it grow, a smaller one takes O(allow_shrink).
    type: str
  provisioning:
    description:
      - V(thin) takes room when it is written to, V(thick) at once. V(thin) when it is not given. It cannot be changed
        later. Only image files and logical volumes can be V(thick). A logical volume is V(thin) where its pool has a
        thin pool and V(thick) where it has none.
    type: str
    choices: [thin, thick]
  source:
    description:
      - What a new volume holds. Without effect on an existing one.
    type: dict
    suboptions:
      type:
        description:
          - V(clone) copies another volume, by reflink or snapshot where the pool can. Subvolumes that are
            nested in it come along, and can be written in the copy.
          - A thin logical volume is cloned by a thin snapshot, while it is in use too. The filesystem in it keeps its
            UUID, a clone of V(xfs) is mounted with C(nouuid) and begins with the size of its source, V(btrfs) is not
            cloned so.
          - V(snapshot) copies what a snapshot holds, likewise. The volume may go on, or be long detached.
        type: str
        choices: [empty, clone, snapshot, image, url]
        default: empty
      name:
        description:
          - The volume to copy, or as C(<volume>/<snapshot>) its snapshot. Required for V(clone) and V(snapshot).
        type: str
      namespace:
        description:
          - The namespace of that name. The volume's own when it is not given.
        type: str
      url:
        description:
          - Where to download from.
        type: str
      checksum:
        description:
          - What the download must hash to, V(sha256:) and 64 hexadecimal digits.
        type: str
  fstype:
    description:
      - The filesystem in an image file or a logical volume. V(ext4) when it is not given. It cannot be changed later.
    type: str
    choices: [ext4, xfs, btrfs]
  owner:
    description:
      - Owner of its root directory, a name or a number. root when it is not given.
    type: str
  group:
    description:
      - Group of its root directory, a name or a number. root when it is not given.
    type: str
  mode:
    description:
      - Mode of its root directory, octal digits as text. V("0750") when it is not given.
    type: raw
  labels:
    description:
      - Names and values to find it by, at most 63 and 255 characters. The given ones replace all others.
    type: dict
  qos:
    description:
      - Limits on its input and output. Not supported yet, refused with C(unsupported).
    type: dict
    suboptions:
      read_bps:
        description:
          - The most bytes read in a second.
        type: str
      write_bps:
        description:
          - The most bytes written in a second.
        type: str
      read_iops:
        description:
          - The most reads in a second.
        type: str
      write_iops:
        description:
          - The most writes in a second.
        type: str
      min_iops:
        description:
          - Reads and writes in a second that are granted.
        type: str
      min_bps:
        description:
          - Bytes in a second that are granted.
        type: str
      burst_iops:
        description:
          - Reads and writes in a second during a burst.
        type: str
      burst_bps:
        description:
          - Bytes in a second during a burst.
        type: str
      burst_seconds:
        description:
          - How long a burst may last.
        type: str
  encrypted:
    description:
      - Whether it is encrypted with the key of O(tenant). Not supported yet, refused with C(unsupported).
    type: bool
  tenant:
    description:
      - The tenant whose key encrypts it.
    type: str
  sharing:
    description:
      - V(exclusive) lets one job attach it at a time, others are refused with C(in_use). V(read_only) takes
        O(read_only=true) of whoever attaches it. V(read_write) when it is not given.
      - Those who have it attached already count too. As long as one of them may do more, it is refused with C(in_use).
    type: str
    choices: [exclusive, read_only, read_write]
  scope:
    description:
      - Of a memory volume. V(job) gives each job that attaches it one of its own, V(host) keeps one for all of them.
      - V(job) when it is not given. It cannot be changed later.
    type: str
    choices: [job, host]
  job:
    description:
      - The job that it is attached to or detached from. The host itself when it is not given.
      - No job can be called C(host).
    type: str
  target:
    description:
      - Absolute path at which an attached volume is seen as well. C(nosuid,nodev) always.
    type: path
  read_only:
    description:
      - Whether nobody may write through O(target).
    type: bool
    default: false
  force:
    description:
      - Whether O(state=absent) detaches it first. It does not stop anybody who uses it.
    type: bool
    default: false
  allow_shrink:
    description:
      - Consent to a smaller O(size). A filesystem that does not fit into it is refused all the same, and so is any
        smaller O(size) with O(type=block), where nothing tells what fits.
    type: bool
    default: false
  state:
    description:
      - V(present) makes it. An image file or a logical volume is not mounted then.
      - V(attached) makes it where it is missing, and mounts it.
      - V(detached) takes it from O(job), from O(target), or from everybody when neither is given.
      - V(absent) removes it with all it holds. One that is attached is refused with C(in_use) unless O(force=true).
    type: str
    choices: [present, absent, attached, detached]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
- name: The first volume, in the pool that is there without being declared
  bulkhead.storage.volume:
    name: data
    size: 64MiB

- name: A volume of a tenant in a Btrfs pool
  bulkhead.storage.volume:
    name: workspace
    namespace: blue
    pool: fast
    size: 1GiB
    owner: "20001"
    group: "20001"
    labels:
      tier: pro

- name: Seen by a job at a path of its own
  bulkhead.storage.volume:
    name: workspace
    namespace: blue
    pool: fast
    job: build-1138
    target: /srv/jobs/build-1138/workspace
    state: attached

- name: It grows while it is in use
  bulkhead.storage.volume:
    name: workspace
    namespace: blue
    size: 2GiB

- name: A copy of it that shares what neither of them changes
  bulkhead.storage.volume:
    name: workspace-copy
    namespace: blue
    pool: fast
    size: 2GiB
    source:
      type: clone
      name: workspace

- name: Memory for one job
  bulkhead.storage.volume:
    name: scratch
    namespace: blue
    type: memory
    size: 16MiB
    owner: "20001"
    mode: "0700"
    job: build-1138
    target: /srv/jobs/build-1138/scratch
    state: attached

- name: An image file with an XFS of its own, mounted while it is attached
  bulkhead.storage.volume:
    name: archive
    size: 320MiB
    fstype: xfs
    target: /mnt/archive
    state: attached

- name: The job is done
  bulkhead.storage.volume:
    name: workspace
    namespace: blue
    job: build-1138
    state: detached

- name: The archive is not needed here any more
  bulkhead.storage.volume:
    name: archive
    state: detached

- name: Remove a volume with all it holds
  bulkhead.storage.volume:
    name: workspace-copy
    namespace: blue
    state: absent

- name: Remove one that is still attached
  bulkhead.storage.volume:
    name: scratch
    namespace: blue
    state: absent
    force: true
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
    - kind: volume
      entry: volume (blue/workspace)
      port: quota
      target: project /srv/pools/fast/blue/workspace
      verb: change
      risk: reversible
      before: {hard: 1073741824, soft: null, inodes_hard: null, inodes_soft: null, parent: null, nested: true}
      after: {hard: 2147483648, soft: null, inodes_hard: null, inodes_soft: null, parent: null, nested: true}
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
  description: The volume as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    id:
      description:
        - A number of its own that no other volume ever has, V(UNKNOWN) in check mode for one that would be made.
      type: str
      returned: always
    name:
      description: The volume's name.
      type: str
      returned: always
    namespace:
      description: The namespace of the name.
      type: str
      returned: always
    pool:
      description: The pool that it lies in, empty for a memory volume.
      type: str
      returned: always
    type:
      description: V(filesystem), V(memory) or V(block).
      type: str
      returned: always
    size_bytes:
      description: Its size.
      type: int
      returned: always
    path:
      description: Where its files are seen, null when nowhere.
      type: str
      returned: always
    device:
      description:
        - The block device that it is on while it is attached, null when there is none. That of a logical volume is
          there at all times, and has this name after a boot too.
      type: str
      returned: always
    status:
      description:
        - V(ready), V(in_use) while it is attached, V(error) when it is recorded but its content or a mount of it is
          missing or cannot be looked at, V(absent) when there is no such volume.
        - Mounts do not outlive a boot. Declaring what is attached again brings them back.
      type: str
      returned: always
    labels:
      description: Its labels.
      type: dict
      returned: always
    created_at:
      description: When it was made, in UTC.
      type: str
      returned: always
    last_used:
      description: When it was last attached, in UTC. Null when that is not recorded.
      type: str
      returned: always
    job_ids:
      description: The jobs that it is attached to.
      type: list
      elements: str
      returned: always
    usage:
      description: What it holds, each null when that is not known.
      type: dict
      returned: always
      contains:
        bytes:
          description: The bytes in use; of a thin logical volume what it takes of its pool, null of a thick one.
          type: int
          returned: always
        inodes:
          description: The inodes in use.
          type: int
          returned: always
    enforced_by:
      description: What enforces its size. V(block), V(tmpfs), V(simple_quota), V(qgroup) or V(project_quota).
      type: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "volume (blue/workspace): the volume is attached to build-1138 (detach it, or force: true)"
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

from ansible_collections.bulkhead.storage.plugins.module_utils import _ports, _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume


def main() -> None:
    _shell.run(volume, _ports.volume())


if __name__ == "__main__":
    main()
