# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times: one parser, one meaning, as for sizes."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(value: Any, what: str) -> int:
    """Seconds meant by an int or a text such as ``90``, ``5m``, ``24h``, ``7d``, ``2w``: 1 to 2**31 - 1."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _SECONDS else (text, "s")
    if number.isascii() and number.isdigit() and len(number) <= 10 and 1 <= int(number) * _SECONDS[unit] < 2**31:
        return int(number) * _SECONDS[unit]
    hint = "seconds, or a number with s, m, h, d or w, such as 7d"
    raise StorageError("invalid", "%s %.80r is not a time" % (what, value), hint, option=what)
