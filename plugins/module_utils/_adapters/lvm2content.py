# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume of a pool holds, replaced as a whole by what a thin snapshot of it kept.

A thin snapshot of the snapshot is made beside the volume, the volume takes the place of what is kept, and the new one
the place of the volume. Killed between the two, the volume has no name: the ports ``lv`` and ``lv_content`` go on from
there. A tag says which restore a volume came from. lvconvert(8) --merge would use the snapshot up.
"""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2 import RESTORED, VOLUME, _Port, restoring
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD


class Content(_Port):
    """Port ``lv_content``. Target: the device of a volume. Declared: ``restored``, the mark of a restore; ``from``, the
    snapshot; ``kept``, where what was there before goes. ``sealed``: what is kept cannot be changed."""

    name = "lv_content"

    def resolve(self, target: str, declared: Any) -> Any:
        self.wanted[target] = declared
        return declared

    def scan(self, targets: Iterable[str]) -> dict[str, Any]:
        groups = self.lvm.report(self.name)["groups"]
        rows: dict[str, Any] = {}
        for target in targets:
            vg, name = target.split("/")[2:]
            lvs = groups.get(vg, {}).get("lvs", {})
            if name in lvs:
                kept = lvs.get(self.wanted[target]["kept"].rpartition("/")[2])
                sealed = kept is None or (kept["read_only"] and not kept["active"])
                rows[target] = {"restored": lvs[name]["restored"], "sealed": sealed, "_open": lvs[name]["open"]}
            elif restoring(name) in lvs:
                rows[target] = {"restored": "", "sealed": False, "_open": lvs[restoring(name)]["open"]}
        return rows

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return all(now[key] == declared[key] for key in ("restored", "sealed"))

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return dict(declared)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD  # nothing is lost: what was there is kept

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        if before is None:
            return StorageError("not_found", "%s is not there" % target, "make the volume first")
        if before["_open"] and before["restored"] != after["restored"]:
            return StorageError("in_use", "%s is open" % target, "release it first")
        return None

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2change import call, volume

        vg, name = target.split("/")[2:]
        rest, kept = restoring(name), after["kept"].rpartition("/")[2]
        full = "%s/%%s" % vg
        now, coming = volume(self.lvm, full % name), volume(self.lvm, full % rest)
        if now is None:  # killed between the two renames, which may have been of another restore
            call(self.lvm, ["lvrename", vg, rest, name])
            now, coming = volume(self.lvm, full % name), None
        if now is None or now["restored"] != after["restored"]:
            if volume(self.lvm, full % kept) is not None:
                raise StorageError("conflict", "%s is there already" % after["kept"], "say another restore_id")
            if coming is not None and coming["restored"] != after["restored"]:
                call(self.lvm, ["lvchange", "-an", full % rest])  # of another restore, which never came to anything
                call(self.lvm, ["lvremove", full % rest])
                coming = None
            if coming is None:
                argv = ["lvcreate", "-s", "-n", rest, "-kn", "-prw", "--addtag", VOLUME]
                argv += ["--addtag", RESTORED + after["restored"], full % after["from"].rpartition("/")[2]]
                call(self.lvm, argv)
            call(self.lvm, ["lvchange", "-an", full % name])  # fails where somebody has it open
            call(self.lvm, ["lvrename", vg, name, kept])
            try:
                call(self.lvm, ["lvrename", vg, rest, name])
            except StorageError:
                call(self.lvm, ["lvrename", vg, kept, name])
                raise
        call(self.lvm, ["lvchange", "-ky", "-pr", full % kept])
