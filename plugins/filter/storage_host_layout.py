# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: storage_host_layout
short_description: What the disks of a host mean to it
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps the disks of a host, up to what is mounted, to O(bulkhead.storage.layout#module:block_devices),
    O(bulkhead.storage.layout#module:luks_devices), O(bulkhead.storage.layout#module:volume_groups),
    O(bulkhead.storage.layout#module:filesystems) and O(bulkhead.storage.layout#module:mounts) of
    M(bulkhead.storage.layout). The role P(bulkhead.storage.storage_host#role) is this filter and one task.
positional: _input
options:
  _input:
    description: A dictionary of these lists, each of which may be missing. Entries take the options of the modules.
    type: dict
    required: true
  state:
    description:
      - With V(absent) everything declared goes. What holds data still needs its C(wipe_token).
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A disk with a filesystem that is mounted
  vars:
    disk: /dev/disk/by-id/virtio-data1
    wanted: "{{ {'filesystems': [{'device': disk, 'fstype': 'xfs'}],
                 'mounts': [{'path': '/srv/data', 'source': disk, 'fstype': 'xfs'}]}
                | bulkhead.storage.storage_host_layout }}"
  bulkhead.storage.layout:
    filesystems: "{{ wanted.filesystems }}"
    mounts: "{{ wanted.mounts }}"
"""

RETURN = r"""
_value:
  description: The lists C(block_devices), C(luks_devices), C(volume_groups), C(filesystems) and C(mounts).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import storage_host


def storage_host_layout(wanted: Any, **options: Any) -> dict[str, Any]:
    try:
        return storage_host.layout(wanted, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"storage_host_layout": storage_host_layout}
