# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real table of exports(5), and in a guest the one of exportfs(8), for the port contract suite."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exportfs import ExportTable
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import Exports
from ansible_collections.bulkhead.storage.tests.support import namespace

SAID = "sync,secure,root_squash,no_subtree_check"
FIRST = {"clients": ("192.0.2.0/24(ro,%s)" % SAID, "2001:db8::/64(rw,%s)" % SAID)}
SECOND = {"clients": ("192.0.2.0/24(rw,%s)" % SAID, "*(ro,%s,anonuid=99,sec=krb5:sys)" % SAID)}


@contextmanager
def case_exports() -> Iterator[tuple[Any, Any, Any, Any]]:
    """The folder is made for the first and goes with the last."""
    with namespace.place() as path:
        with open(path + "/exports", "wb") as f:
            f.write(b"# one\n/srv/others 192.0.2.1(ro)\n")
        yield Exports(path + "/exports"), (path + "/exports.d/ours.exports", "/srv/a b"), FIRST, SECOND


@contextmanager
def case_exports_among_others() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        with open(path + "/ours.exports", "wb") as f:
            f.write(b'"/srv/one two" *(ro) \\\n  @trusted(rw)\n# kept\n/srv/a#b\\040c host(ro)')
        yield Exports(path + "/exports"), (path + "/ours.exports", '/srv/"é'), FIRST, SECOND


@contextmanager
def guest_case_exportfs() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        yield ExportTable(), path, FIRST, SECOND
