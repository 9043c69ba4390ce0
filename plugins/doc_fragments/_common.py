# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is private to the collection: it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    # What every module that changes a host takes: _shell.COMMON.
    DOCUMENTATION = r"""
options:
  rollback:
    description:
      - Whether to walk back what was already done for an entry when a later step of it fails, newest first.
      - The walk stops at the first step that cannot be taken back, such as making a filesystem. What was kept then is
        counted in RV(summary) and named in C(errors[].details).
    type: bool
    default: true
  workers:
    description:
      - How many independent slow steps, such as making filesystems, may run side by side. At least 1.
      - The outcome is the same as with 1.
    type: int
    default: 4
  lock_timeout:
    description:
      - Seconds to wait for another run on the same host to end, before failing with C(locked), which names the holder.
      - The lock is taken only when there is something to change, never in check mode.
    type: int
    default: 30
  actions_limit:
    description:
      - How many actions RV(actions) lists at most. All of them are in the file that RV(journal) names, and all of them
        are counted in RV(summary) and summed in RV(plan_digest).
      - A result never exceeds 256 KiB, so that fewer are listed where each is very large.
    type: int
    default: 100
  allow_unstable_device:
    description:
      - Whether a device may be named by a path that can mean another device after the next boot, such as C(/dev/sdb).
      - Without it such a name is refused with C(unstable_device), and the refusal lists the stable names of the device.
      - Names beneath C(/dev/disk/by-id), C(/dev/disk/by-uuid), C(/dev/disk/by-partuuid) and C(/dev/mapper), logical
        volumes, and image files by their path are stable. C(/dev/loop0) is not.
    type: bool
    default: false
"""
