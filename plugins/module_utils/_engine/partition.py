# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of a partition, from that of its disk and its number, as udev and the kernel write it; and the way back."""

from __future__ import annotations

import re

# /dev/disk/by-*/X-partN (60-persistent-storage.rules); /dev/nvme0n1pN and /dev/sdaN (block/partitions/core.c)
_PART = re.compile(r"(/dev/disk/.+)-part([1-9]\d*)|(/dev/.*\d)p([1-9]\d*)|(/dev/.*\D)([1-9]\d*)", re.ASCII)


def path(disk: str, number: int) -> str:
    """``/dev/disk/by-id/X-part1``, ``/dev/nvme0n1p1``, ``/dev/sda1``."""
    between = "-part" if disk.startswith("/dev/disk/") else "p" if disk[-1:].isdigit() else ""
    return "%s%s%d" % (disk, between, number)


def split(target: str) -> tuple[str, int]:
    """(disk, number) of what ``path`` made."""
    found = _PART.fullmatch(target)
    if found is None:
        return target, 0
    disk, number = [text for text in found.groups() if text is not None]
    return disk, int(number)
