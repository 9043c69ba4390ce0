# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports ``node`` and ``data`` on a fresh tmpfs, for the contract suite."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, Node
from ansible_collections.bulkhead.storage.tests.support.namespace import place


@contextlib.contextmanager
def _case(port: Node) -> Iterator[tuple[Any, str, dict[str, Any], dict[str, Any]]]:
    with place() as top:
        target = top + "/tenant"
        first = port.resolve(target, {"type": "directory", "owner": 64001, "mode": 0o2750, "acl": ["u:64002:rwX"]})
        second = port.resolve(target, {"mode": 0o700, "acl": [], "default_acl": ["g:64003:r-x"]})
        after = port.merge(target, None, first or {})
        yield port, target, after, port.merge(target, after, second or {})


def case_node() -> contextlib.AbstractContextManager[Any]:
    return _case(Node())


def case_data() -> contextlib.AbstractContextManager[Any]:
    return _case(DataDir())
