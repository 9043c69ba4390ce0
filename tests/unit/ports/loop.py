# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real loop device for the port contract suite."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.loopchange import Loop
from ansible_collections.bulkhead.storage.tests.support import namespace


class Grown(Loop):
    """The file grows when the suite wants a larger device: in a plan another port has done that before."""

    def put(self, target: str, before: Any, after: Any) -> None:
        if before is not None and after is not None and after["size"] > before["size"]:
            os.truncate(target, after["size"])
        super().put(target, before, after)


@contextmanager
def case_loop() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path:
        image = namespace.image(path + "/image", 4 << 20)
        yield Grown(), image, {"read_only": False, "size": 4 << 20}, {"read_only": False, "size": 8 << 20}
