# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of LVM for kinds that rarely need them: loaded by the first who asks one of them."""

from __future__ import annotations

from typing import Any, Callable

PORTS = ("vg", "pv", "pv_leaving", "thin_pool", "lv", "lv_content")


def makers(record: Any = None, run: Any = None) -> dict[str, Callable[[], Any]]:
    """By name, as ``lvm2.makers``: they share one report, and ``record``, the catalogue. ``run`` executes programs."""
    made: dict[str, Any] = {}

    def maker(name: str) -> Callable[[], Any]:
        def make() -> Any:
            if not made:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

                made.update(lvm2.makers(run or execute, record))
            if name == "lv_content":
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2content import Content

                return Content(*made["lv"].args)
            port: Any = made[name]()
            return port

        return make

    return {name: maker(name) for name in PORTS}
