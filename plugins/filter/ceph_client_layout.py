# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ceph_client_layout
short_description: What pools and users of a Ceph cluster mean to a host
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps pools and users to O(bulkhead.storage.layout#module:ceph_pools) and
    O(bulkhead.storage.layout#module:ceph_users) of M(bulkhead.storage.layout). The role
    P(bulkhead.storage.ceph_client#role) is this filter and one task, beside the packages.
positional: _input
options:
  _input:
    description: A list of pools. Entries take the options of M(bulkhead.storage.ceph_pool).
    type: list
    elements: dict
    required: true
  users:
    description: A list of users. Entries take the options of M(bulkhead.storage.ceph_user).
    type: list
    elements: dict
    default: []
  access:
    description:
      - How to reach the cluster, for entries that do not say it themselves. C(cluster), C(conf), C(user), C(keyring),
        C(timeout).
    type: dict
    default: {}
  state:
    description:
      - With V(absent) every declared user and pool goes. A pool takes C(confirm) then.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A pool, and who may use it
  vars:
    wanted: "{{ [{'name': 'images', 'application': ['rbd']}]
                | bulkhead.storage.ceph_client_layout(access={'user': 'bulkhead'},
                  users=[{'name': 'builds', 'caps': {'mon': 'profile rbd', 'osd': 'profile rbd pool=images'}}]) }}"
  bulkhead.storage.layout:
    ceph_pools: "{{ wanted.ceph_pools }}"
    ceph_users: "{{ wanted.ceph_users }}"
"""

RETURN = r"""
_value:
  description: The lists C(ceph_pools) and C(ceph_users).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import ceph_client


def ceph_client_layout(pools: Any, **options: Any) -> dict[str, Any]:
    try:
        return ceph_client.layout(pools, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"ceph_client_layout": ceph_client_layout}
