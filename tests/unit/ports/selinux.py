# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels and file contexts, where a policy is loaded: in the guest that has one."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.selinux import FileContexts, Labels
from ansible_collections.bulkhead.storage.tests.support import namespace

_numbers = itertools.count()
FIRST, SECOND = {"type": "var_log_t", "level": "s0:c1"}, {"type": "var_lib_t", "level": "s0:c1,c2"}


class WithItsDirectory(Labels):
    """A label comes and goes with its directory, which is the port ``node``'s."""

    def put(self, target: str, before: Any, after: Any) -> None:
        node = Node()
        if before is None:
            node.put(target, None, node.merge(target, None, {"type": "directory"}))
        super().put(target, before, after)
        if after is None:
            node.put(target, node.scan([target])[target], None)


@contextlib.contextmanager
def selinux_case_label() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as base:
        port, target = WithItsDirectory(), base + "/t"
        yield port, target, port.resolve(target, FIRST), port.resolve(target, SECOND)


@contextlib.contextmanager
def selinux_case_fcontext() -> Iterator[tuple[Any, Any, Any, Any]]:
    """As a run has it until its end: what is committed then takes seconds, and tests of its own."""
    port, target = FileContexts(), "/srv/contract/%d" % next(_numbers)
    yield port, target, port.resolve(target, FIRST), port.resolve(target, SECOND)
