# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: tenant_layout
short_description: What tenants and their tiers mean to a host
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps tenants to O(bulkhead.storage.layout#module:trees), O(bulkhead.storage.layout#module:quotas) and
    O(bulkhead.storage.layout#module:mounts) of M(bulkhead.storage.layout). The role P(bulkhead.storage.tenant#role) is
    this filter and one task.
  - A tenant is a btrfs subvolume below C(<base>/tenants), held to its total. In it lie three subvolumes with
    limits of their own, which are disjoint, so that the total is their sum. C(builds) is the scratch space, then there
    are C(artifacts) and C(cache).
  - For each build that is declared, C(builds/<build>) holds C(workspace), C(temp), C(logs), C(metadata) and C(rootfs).
    The latter is a bind mount of C(artifacts/<build>), so that what is written there is charged as an artifact.
  - The user of the build daemon and the tenant's group may read and write the three, and nobody else. Only root can
    write to the tenant's own directory.
  - Btrfs limits neither inodes nor has it soft limits. The tier's inodes are checked and not applied there.
positional: _input, tiers
options:
  _input:
    description:
      - The tenants, each a dictionary of C(name), C(tier), C(overrides) (of the tier's limits), C(builds) (a list of
        names, or a text with commas), C(group) (name or number of the tenant's group, by default its name), C(state)
        (V(present) or V(absent)) and C(confirm) (its name, to let it go).
    type: list
    elements: dict
    required: true
  tiers:
    description:
      - Limits by the name of the tier, each a dictionary of C(artifacts), C(cache) and C(scratch) (sizes),
        C(concurrent_builds) and C(inodes) (numbers). A C(total) may be given, and must be the sum of the three sizes.
    type: dict
    required: true
  base:
    description: The directory that holds C(tenants), on btrfs.
    type: str
    default: /var/lib/builderd
  daemon:
    description: Name or number of the user that the build daemon runs as.
    type: str
    default: builderd
  backend:
    description: What holds the limits.
    type: str
    choices: [btrfs]
    default: btrfs
"""

EXAMPLES = r"""
- name: Two tenants
  vars:
    wanted: "{{ tenants | bulkhead.storage.tenant_layout(tiers, base='/srv/builds') }}"
    tenants:
      - {name: acme, tier: free}
      - {name: globex, tier: free, overrides: {cache: 1GB}, builds: [b-1]}
    tiers:
      free: {artifacts: 500MB, cache: 500MB, scratch: 500MB, concurrent_builds: 1}
  bulkhead.storage.layout:
    trees: "{{ wanted.trees }}"
    quotas: "{{ wanted.quotas }}"
    mounts: "{{ wanted.mounts }}"
"""

RETURN = r"""
_value:
  description: The lists C(trees), C(quotas) and C(mounts).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import tenant


def tenant_layout(tenants: Any, tiers: Any, **options: Any) -> dict[str, Any]:
    try:
        return tenant.layout(tenants, tiers, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"tenant_layout": tenant_layout}
