# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which iSCSI target holds a block device that nothing else seems to use. sysfs does not tell, configfs does."""

from __future__ import annotations

import glob
import re
from typing import Iterable

_NUMBER = re.compile(r"Major: ([0-9]+) Minor: ([0-9]+)")


def targets(devices: Iterable[str], core: str = "/sys/kernel/config/target/core") -> list[str]:
    """By the name that plans know: that of a target of ours, else that of the storage object (see ``lio_target``)."""
    found = set()
    for path in glob.glob(core + "/iblock_*/*/info"):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                number = _NUMBER.search(stream.read())
        except OSError:  # it went while we looked
            continue
        if number and "%s:%s" % number.groups() in devices:
            found.add(re.sub(":lun[0-9]{1,5}$", "", path.split("/")[-2]))
    return sorted(found)
