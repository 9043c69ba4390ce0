# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: shard_node_layout
short_description: What volumes with one primary and its backups mean to EC2 and to a node
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps volumes of Amazon EBS that one node writes to, while others stand by, to lists of
    M(bulkhead.storage.layout). The role P(bulkhead.storage.shard_node#role) is this filter and three tasks.
  - A volume is attached to the instances of its primary and of its backups, and to no other.
positional: _input
options:
  _input:
    description:
      - A list of volumes, each with C(name), C(ebs) (options of M(bulkhead.storage.ebs_volume)), C(primary),
        C(backups), C(path) and C(fstype), as P(bulkhead.storage.shard_node#role) documents them.
    type: list
    elements: dict
    required: true
  node:
    description:
      - The inventory name of the host whose disks are asked for. Without it, those of nobody.
    type: str
  instances:
    description:
      - The id of the instance of each node, by its inventory name. A node of a volume that has none is C(invalid).
    type: dict
  found:
    description:
      - What EC2 answered, the list C(resources.ebs_volumes) of the task that had C(ebs_volumes) of this filter.
      - A volume that is not made yet, or that the node does not have, has no disk there, and nothing is said of it.
        In check mode that is so of those that are still to be attached.
    type: list
    elements: dict
  demoted:
    description:
      - The results of the task that had C(demoted) of this filter, by inventory name.
      - When it is given, and O(node) is the primary of a volume, each backup that has the disk must show there that it
        has it read-only, otherwise C(unfenced).
    type: dict
"""

EXAMPLES = r"""
- name: Volumes, and the instances that have them
  vars:
    volumes:
      - name: shards-1
        ebs: {availability_zone: eu-central-1a, size: 500GiB, iops: 16000}
        primary: node-1
        backups: [node-2]
    instances: {node-1: i-0123456789abcdef0, node-2: i-0123456789abcdef1}
    wanted: "{{ volumes | bulkhead.storage.shard_node_layout(instances=instances) }}"
  bulkhead.storage.layout:
    ebs_volumes: "{{ wanted.ebs_volumes }}"
    return_resources: true
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - The list C(ebs_volumes); C(demoted) with the lists C(block_devices) and C(mounts), for the disks that O(node) is a
      backup of; C(promoted) with the list C(block_devices), for those that it is the primary of.
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import shard_node


def shard_node_layout(volumes: Any, **options: Any) -> dict[str, Any]:
    try:
        return shard_node.layout(volumes, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"shard_node_layout": shard_node_layout}
