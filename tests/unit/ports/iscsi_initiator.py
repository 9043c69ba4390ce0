# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real file with an initiator's name, as Debian leaves it before its first use, for the port contract suite."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import IscsiInitiator
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextmanager
def case_iscsi_initiator() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        with open(path + "/initiatorname.iscsi", "wb") as stream:
            stream.write(b"## InitiatorName=not this one\nGenerateName=yes\n")
        port = IscsiInitiator(sessions=path + "/no", pid=path + "/no")
        first, second = ({"name": "iqn.2026-01.org.example:" + each} for each in ("one", "two"))
        yield port, path + "/initiatorname.iscsi", first, second
