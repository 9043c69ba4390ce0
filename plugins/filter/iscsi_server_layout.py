# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: iscsi_server_layout
short_description: What the targets of an iSCSI server mean to it
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps the targets of an iSCSI server to O(bulkhead.storage.layout#module:iscsi_targets) of
    M(bulkhead.storage.layout). The role P(bulkhead.storage.iscsi_server#role) is this filter and one task, beside the
    package and the service that restore targets at boot.
positional: _input
options:
  _input:
    description: A list of targets. Entries take the options of M(bulkhead.storage.iscsi_target).
    type: list
    elements: dict
    required: true
  state:
    description:
      - With V(absent) every declared target goes. Images and devices stay.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A volume for a build host
  vars:
    target: iqn.2026-01.org.example:builds
    wanted: "{{ [{'target': target, 'luns': [{'lun': 0, 'device': '/dev/data/builds'}],
                  'initiators': [{'iqn': 'iqn.1993-08.org.debian:01:build7'}]}]
                | bulkhead.storage.iscsi_server_layout }}"
  bulkhead.storage.layout:
    iscsi_targets: "{{ wanted.iscsi_targets }}"
"""

RETURN = r"""
_value:
  description: The list C(iscsi_targets).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import iscsi_server


def iscsi_server_layout(targets: Any, **options: Any) -> dict[str, Any]:
    try:
        return iscsi_server.layout(targets, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"iscsi_server_layout": iscsi_server_layout}
