# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: size_human
short_description: The shortest exact text for a number of bytes
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - V(1610612736) becomes V(1536MiB). Nothing is rounded, so the text reads back as the same number.
  - A text is read as a size first, see P(bulkhead.storage.size_bytes#filter).
positional: _input
options:
  _input:
    description: Number of bytes, or a size.
    type: raw
    required: true
seealso:
  - plugin: bulkhead.storage.size_bytes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say how large a volume is
  ansible.builtin.debug:
    msg: "{{ 1073741824 | bulkhead.storage.size_human }}" # 1GiB
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def size_human(value: Any) -> str:
    try:
        return size.human(0 if value == 0 and not isinstance(value, bool) else size.parse(value))
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"size_human": size_human}
