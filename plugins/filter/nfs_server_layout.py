# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_server_layout
short_description: What the exports of a server mean to it
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps the exports of a host to O(bulkhead.storage.layout#module:nfs_exports) of M(bulkhead.storage.layout). The role
    P(bulkhead.storage.nfs_server#role) is this filter, a package and a service.
  - Addresses and networks are checked by netaddr where the controller has it, and on the target in any case.
positional: _input
options:
  _input:
    description: A list of dictionaries with the options of M(bulkhead.storage.nfs_export).
    type: list
    elements: dict
    required: true
  state:
    description:
      - With V(absent) everything declared is unexported.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A directory that a network may read
  vars:
    wanted: "{{ [{'path': '/srv/data', 'clients': [{'host': '192.0.2.0/24'}]}] | bulkhead.storage.nfs_server_layout }}"
  bulkhead.storage.layout:
    nfs_exports: "{{ wanted.nfs_exports }}"
"""

RETURN = r"""
_value:
  description: The list C(nfs_exports).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import nfs_server


def nfs_server_layout(exports: Any, **options: Any) -> dict[str, Any]:
    try:
        return nfs_server.layout(exports, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nfs_server_layout": nfs_server_layout}
