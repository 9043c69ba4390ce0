# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a mount is written down for the next boot: a line of fstab or a unit file, never both.

Loaded where a unit is declared, and where there is no line, because then there may be a unit instead.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell


def before(path: str, line: Any, look: Any) -> Any:
    """The record that is there, for what is not declared of it stays. The unit counts: systemd prefers it."""
    unit = look.look("unit", [path]).get(path)
    return unit if isinstance(unit, dict) else line


def cells(persist: str, path: str, line: Cell, before: Any, look: Any) -> list[Cell]:
    """The record as declared, the other one gone, in an order in which a run that is killed never leaves both."""
    unit = look.look("unit", ()).get(path)
    if persist == "fstab":
        gone = isinstance(unit, dict)  # a masked one is none of ours
        return [Cell("unit", path, None)] * gone + [line]
    value = line.value
    if value is not None:
        moved = {"passno": before["passno"]} if isinstance(before, dict) and "passno" in before else {}
        value = {**moved, **value}
    return [line._replace(value=None), Cell("unit", path, value)]
