# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: size_bytes
short_description: Bytes meant by a size
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Reads a size as every module of this collection does. All units are powers of 1024, whatever their spelling.
  - V(512) and V('512') are bytes, V(10KB) is 10240, V(1GB), V(1Gi) and V(1GiB) are 1073741824. Case does not matter.
  - Anything else fails, such as a sign, an exponent, a percentage, or a fraction without a unit.
positional: _input
options:
  _input:
    description: The size.
    type: raw
    required: true
seealso:
  - plugin: bulkhead.storage.size_human
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Compare two sizes
  ansible.builtin.assert:
    that: "'1GiB' | bulkhead.storage.size_bytes < '1.5GB' | bulkhead.storage.size_bytes"
"""

RETURN = r"""
_value:
  description: Number of bytes.
  type: int
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def size_bytes(value: Any) -> int:
    try:
        return size.parse(value)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"size_bytes": size_bytes}
