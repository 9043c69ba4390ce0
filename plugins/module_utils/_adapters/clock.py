# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time of a run: read once, so that every plan that the run makes has the same."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """Target ``utc``: seconds since 1970."""

    name, behind = "clock", False

    def __init__(self) -> None:
        self.utc = 0

    def scan(self, targets: Any) -> dict[str, int]:
        self.utc = self.utc or int(time.time())
        return {"utc": self.utc}
