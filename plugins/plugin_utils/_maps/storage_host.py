# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the disks of a host to options of ``layout``, up to what is mounted. Pure; raises StorageError.

Entries take exactly the options of the modules they are named after; ``layout`` checks them and finds their order.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# What an entry still says when the whole host goes: what it is known by, how to reach it, and its consent.
LEAVING = {
    "block_devices": ("device", "wipe_token", "persist"),
    "luks_devices": ("device", "name", "wipe_token", "persist"),
    "volume_groups": ("vg", "pvs", "wipe_token"),
    "filesystems": ("device", "fstype", "wipe_token"),
    "mounts": ("path", "source", "fstab", "persist"),
}


def layout(wanted: Any, state: str = "present") -> dict[str, list[dict[str, Any]]]:
    """The lists of ``layout``, each of which may be left out. With ``state`` absent everything declared goes."""
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    unknown = sorted(str(kind) for kind in wanted if kind not in LEAVING) if isinstance(wanted, dict) else ["?"]
    if unknown:
        text = "storage_host has no %s" % ", ".join(unknown)
        raise StorageError("invalid", text, "a dictionary of %s" % ", ".join(LEAVING))
    return {kind: [_entry(kind, *pair, state) for pair in enumerate(_list(kind, wanted.get(kind)))] for kind in LEAVING}


def _entry(kind: str, index: int, entry: Any, state: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        text = "storage_host_%s[%d] %.80r is not a dictionary" % (kind, index, entry)
        raise StorageError("invalid", text, option=kind)
    said = {option: value for option, value in entry.items() if value not in (None, "")}  # "": not answered in a survey
    if state == "absent":
        return {**{option: value for option, value in said.items() if option in LEAVING[kind]}, "state": "absent"}
    return said


def _list(kind: str, entries: Any) -> list[Any]:
    if entries in (None, ""):
        return []
    if isinstance(entries, list):
        return entries
    raise StorageError("invalid", "storage_host_%s %.80r is not a list" % (kind, entries), option=kind)
