# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: safe_join
short_description: A path beneath a directory, or a failure
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Joins a directory and parts beneath it. A part that is absolute, that holds V(..), an empty component or a control
    character fails instead of leading elsewhere.
  - Containment is by component, so V(/srv/tenant-1) and V(../tenant-12) do not join.
  - Symbolic links are a matter of the host. The modules of this collection do not follow those of others.
positional: _input
options:
  _input:
    description: The directory, an absolute path.
    type: str
    required: true
  parts:
    description: What lies beneath it, each part relative. More parts are given as further arguments.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The cache of a tenant whose name comes from elsewhere
  ansible.builtin.debug:
    msg: "{{ '/var/lib/builderd/tenants' | bulkhead.storage.safe_join(tenant, 'cache') }}"
"""

RETURN = r"""
_value:
  description: The absolute path.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def safe_join(base: Any, *parts: Any) -> str:
    try:
        return names.join(names.path(base), *parts)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"safe_join": safe_join}
