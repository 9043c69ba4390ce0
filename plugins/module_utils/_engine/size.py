# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes: one parser, one meaning. Every unit is a power of 1024 (``1GB`` == ``1Gi`` == ``1GiB`` == 2**30 bytes)."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

MAXIMUM = 2**63 - 1
_UNITS = "BKMGTPE"
_TEXT = re.compile(r"([0-9]{1,19})(\.[0-9]{1,9})? ?([KMGTPE](?:i?B?)|B)?", re.ASCII | re.IGNORECASE)


def parse(value: Any, what: str = "size", minimum: int = 1, maximum: int = MAXIMUM, unit: int = 1) -> int:
    """Bytes meant by an int or a text such as ``512``, ``10KB``, ``1.5GiB``, ``100Mi``; case does not matter.

    Rounded up to a multiple of ``unit`` bytes. Raises ``invalid`` for anything else: bool, float, sign, exponent,
    hex, percent, a fraction without a unit, zero, less than ``minimum`` or more than ``maximum`` bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number, bare = value, True
    else:
        match = _TEXT.fullmatch(value) if isinstance(value, str) else None
        if match is None or (match.group(2) and not match.group(3)):
            raise _invalid(what, value, "is not a size", "write an integer number of bytes, or for example 10GiB")
        bare = not match.group(3)
        power = 0 if bare else _UNITS.index(match.group(3)[0].upper())
        number = _exactly(match.group(1) + match.group(2), power) if match.group(2) else int(match[1]) * 1024**power
    size = -(-number // unit) * unit
    if size < 1:
        raise _invalid(what, value, "must be greater than zero", "")
    if number < minimum:
        hint = "a bare number is bytes; did you mean %sGiB?" % value if bare else "the least is %d bytes" % minimum
        raise _invalid(what, value, "is less than %d bytes" % minimum, hint)
    if size > min(maximum, MAXIMUM):
        raise _invalid(what, value, "is more than %d bytes" % min(maximum, MAXIMUM), "")
    return int(size)


def _exactly(text: str, power: int) -> Any:
    from fractions import Fraction  # loaded only for the few who write 1.5GiB

    return Fraction(text) * 1024**power


def human(size: int) -> str:
    """The shortest exact text that parses back to ``size``: 1610612736 is ``1536MiB``."""
    power = 0
    while size and size % 1024 == 0 and power < len(_UNITS) - 1:
        size, power = size // 1024, power + 1
    return "%d%s" % (size, "B" if power == 0 else _UNITS[power] + "iB")


def _invalid(what: str, value: Any, problem: str, hint: str) -> StorageError:
    return StorageError("invalid", "%s %.80r %s" % (what, value, problem), hint, option=what)
