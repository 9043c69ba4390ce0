# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a directory that is there already, and empty, was filled with: a copy of another one, once.

A row of the catalogue says how far it came, on disk before the deed: ``copying``, into a folder that only root enters;
``moving``, from there to where it belongs; ``done``. It is about one volume, not about whatever has its name later.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD

Value = Dict[str, Any]
FOLDER = os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY
PART = ".bulkhead-copy"  # not of the shape of our other leftovers, which are swept: it may be half of the files


class Copied:
    """Port. Target: the directory. Declared: ``from``, the path of the other one; ``phase``, which is ``done``; and
    ``_volume``, the key of the volume. ``_others``: what else is in the directory, until its copy is moved.
    """

    name, behind = "copied", True

    def __init__(self, record: Any) -> None:
        self.record = record
        self.said: dict[str, Value] = {}

    def resolve(self, target: str, declared: Value) -> Value:
        self.said[target] = declared
        return {"from": declared["from"], "phase": declared["phase"]}

    def scan(self, targets: Iterable[str]) -> dict[str, Any]:
        whose = {target: ("volume", self.said[target]["_volume"]) for target in targets}
        known = self.record.scan([*whose.values(), *(("intent", target) for target in whose)])
        found: dict[str, Any] = {}
        for target, volume in whose.items():
            begun = known.get(("intent", target), {})
            if volume not in known or begun.get("of") != known[volume]["id"]:
                begun = {}
            phase = begun.get("phase", "copying")
            try:
                others = look(target, PART if begun else "") if phase == "copying" else []
            except StorageError as error:
                if error.code != "not_found":
                    found[target] = error
                continue
            found[target] = {"from": self.said[target]["from"], "phase": phase, "_others": others}
        return found

    def note(self, target: str, phase: str) -> None:
        volume = ("volume", self.said[target]["_volume"])
        Intents(self.record).begin(target, phase=phase, of=self.record.scan([volume])[volume]["id"])

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return False

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        return refusal(target, before) if before else None

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import copiedchange

        copiedchange.put(self, target, after)


def look(target: str, ours: str) -> list[str]:
    """The first few names in a directory."""
    with Walk() as walk:
        fd = walk.open(target, FOLDER)
    try:
        with os.scandir(fd) as entries:
            return sorted({entry.name for entry, _n in zip(entries, range(33))} - {ours})[:32]
    finally:
        os.close(fd)


def refusal(target: str, row: Value) -> StorageError | None:
    """``not_blank`` where somebody else's files would be mixed with the copy."""
    if not row["_others"]:
        return None
    text = "%s is to be a copy, and is not empty: %s" % (target, ", ".join(row["_others"][:10]))
    return StorageError("not_blank", text, "empty it, or leave source out", entries=row["_others"])
