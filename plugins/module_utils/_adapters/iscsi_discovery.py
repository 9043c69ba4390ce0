# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host proves who it is with when it asks a portal for its targets, and whether one of them is offered there.

``send_targets/<address>,<port>/st_config`` is a record of open-iscsi as those of targets are (iscsiadm(8), FILES).
"""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_record
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, Secret, met, state_of

Target = Tuple[str, str]  # IQN and portal
AUTH = "discovery.sendtargets.auth."
SENT, FILE = "/send_targets", "/st_config"


class IscsiDiscovery:
    """Port ``iscsi_discovery``: (IQN, portal) -> ``{username, password, mutual_username, mutual_password, offered}``.

    The portal is asked when it is put, not when it is looked at: a target that has a record there was offered.
    """

    name, behind, slow = "iscsi_discovery", False, True

    def __init__(
        self,
        run: Callable[..., Any] | None = None,
        folder: str | None = None,
        locks: str = iscsi_record.LOCKS,
        seconds: float = 30.0,
    ) -> None:
        self.run, self.locks, self.seconds = run, locks, seconds
        self.records = iscsi_record.IscsiRecord(run, folder, locks)
        self.asked: set[Target] = set()

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        if targets is None:
            raise StorageError("unsupported", "what a portal offers is looked up by target only")
        rows: dict[Target, Any] = {}
        for target in targets:
            try:
                row: Any = self.row(target)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def base(self) -> str:
        base = self.records.base()
        return base + SENT if base else ""

    def row(self, target: Target) -> dict[str, Any] | None:
        record = self.record(target[1])
        if record is None:
            return None
        known = self.records.row(target[0]) or {"portals": ()}
        said = dict(filter(None, map(iscsi_record.named, iscsi_record.lines(record.text))))
        row = iscsi_record.chap(said, AUTH)
        told = record.exposed and any(isinstance(value, Secret) for value in row.values())
        left = [name for name in iscsi_record.listed(self.base()) or () if name.startswith(iscsi_record.TEMPORARY)]
        row["offered"] = target in self.asked or target[1] in known["portals"]
        row["intact"] = record.whole and not (told or left or iscsi_record.abandoned(self.locks))
        row["_text"] = Secret(record.text.decode("utf-8", "surrogateescape"))
        return row

    def record(self, portal: str) -> iscsi_record.Record | None:
        place = self.place(portal) if self.base() else ""
        return iscsi_record.read(place + FILE, portal) if place and os.path.lexists(place + FILE) else None

    def place(self, portal: str) -> str:
        """As iscsiadm calls it when it is asked for that portal."""
        host, _colon, port = portal.rpartition(":")
        return "%s/%s,%s" % (self.base(), host.strip("[]"), port)

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        method = iscsi_record.method(declared) if "username" in declared else now["authmethod"]
        return bool(now["intact"]) and now["authmethod"] == method and met(now, state_of(declared))

    def merge(self, target: Target, now: Any, declared: Any) -> dict[str, Any]:
        after = {**state_of(now or {}), **state_of(declared), "offered": True, "intact": True}
        return {**after, "authmethod": iscsi_record.method(declared)} if "username" in declared else after

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: Target, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_recordchange

        return iscsi_recordchange.unfit(before or {}, after) or iscsi_recordchange.unable()

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_discoverychange

        iscsi_discoverychange.put(self, target, before, after)
