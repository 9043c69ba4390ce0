# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a job host's pools and volumes to options of ``layout``. Pure; raises StorageError.

Entries take exactly the options of the modules ``pool`` and ``volume``; ``layout`` checks them. Added here: where a
pool lies that does not say so, and the directory of the jobs.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_ON_A_PATH = ("auto", "directory", "loop", "btrfs")
# What an entry still says when the whole host goes: its name, and its consent.
_LEAVING = {"pools": ("name", "confirm"), "volumes": ("name", "namespace", "force")}


def layout(
    base: str, pools: Any = None, volumes: Any = None, state: str = "present"
) -> dict[str, list[dict[str, Any]]]:
    """``pools``, ``volumes`` and ``trees`` of ``layout``. With ``state`` absent everything that is declared goes."""
    base = names.path(base, "base")
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, entries in (("pools", pools), ("volumes", volumes)):
        found[kind] = [_entry(kind, index, entry, base) for index, entry in enumerate(_list(kind, entries))]
        if state == "absent":
            kept = _LEAVING[kind]
            found[kind] = [
                {**{option: value for option, value in entry.items() if option in kept}, "state": "absent"}
                for entry in found[kind]
            ]
    # Jobs find their own directory by its name, but cannot list those of others.
    jobs = {"path": "jobs", "owner": "0", "group": "0", "mode": "0711"}
    found["trees"] = [{"root": base, "entries": [jobs], "state": state}]
    return found


def _entry(kind: str, index: int, entry: Any, base: str) -> dict[str, Any]:
    where = "job_host_%s[%d]" % (kind, index)
    if not isinstance(entry, dict):
        raise StorageError("invalid", "%s %.80r is not a dictionary" % (where, entry), option=kind)
    try:
        name = names.identifier(entry.get("name"))
    except StorageError as error:
        error.at(where)
        raise
    said = {option: value for option, value in entry.items() if value not in (None, "")}  # "": not answered in a survey
    config = said.get("config") or {}
    if kind == "pools" and said.get("backend") in _ON_A_PATH and isinstance(config, dict) and not config.get("path"):
        home = names.join(base, "volumes") if name == "default" else names.join(base, "pools", name)
        said["config"] = {**config, "path": home}
    return said


def _list(kind: str, entries: Any) -> list[Any]:
    if entries in (None, ""):
        return []
    if isinstance(entries, list):
        return entries
    raise StorageError("invalid", "job_host_%s %.80r is not a list" % (kind, entries), option=kind)
