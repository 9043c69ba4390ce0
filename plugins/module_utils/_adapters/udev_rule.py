# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of what udev sets on a disk when it appears: one rule file of our own for each disk (udev(7))."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, state_of

RULES, DATABASE = "/etc/udev/rules.d", "/run/udev/data"
# No pattern, no quote: it is compared as it is. Older versions of udev leave the blanks in the model of an NVMe disk.
_SAFE = re.compile(r"[A-Za-z0-9_.:+=-]+( +[A-Za-z0-9_.:+=-]+)*", re.ASCII)
_HEAD = "# Of bulkhead.storage, which replaces this file as a whole: %s\n"
_MATCH = 'ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ENV{ID_SERIAL}=="%s"'


class UdevRule:
    """Port ``udev_rule``: path of a disk -> the settings of port ``block`` that are kept, and ``intact``.

    ``intact``: the file is as we write it, for the serial number that the disk has.
    """

    name, behind = "udev_rule", False

    def __init__(self, rules: str = RULES, database: str = DATABASE) -> None:
        self.rules, self.database = rules, database

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "rules of udev are looked up by disk only")
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                row = self._row(target)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def file(self, target: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_.:-]", lambda m: "+%x+" % ord(m.group()), target.rpartition("/")[2])
        return "%s/90-bulkhead-%s.rules" % (self.rules, plain)

    def _row(self, target: str) -> Any:
        try:
            with open(self.file(target), encoding="utf-8", errors="surrogateescape") as stream:
                text = stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, "cannot read " + self.file(target)) from error
        try:
            found = json.loads(text[len(_HEAD) - 3 :].partition("\n")[0])
            kept = dict(found["settings"])
        except (ValueError, KeyError, TypeError):
            return {"intact": False, "_text": text}
        return {**kept, "intact": text == _text(target, kept, self.serial(target)), "_text": text}

    def serial(self, target: str) -> str:
        """The ID_SERIAL that udev knows a disk by; "" for none."""
        try:
            with open(self._entry(target), encoding="utf-8", errors="surrogateescape") as stream:
                found = re.search(r"^E:ID_SERIAL=(.*)$", stream.read(), re.MULTILINE)
        except FileNotFoundError:
            return ""
        return found.group(1) if found else ""

    def _known(self, target: str) -> bool:
        try:
            return os.path.exists(self._entry(target))
        except FileNotFoundError:  # not even the disk is there
            return False

    def _entry(self, target: str) -> str:
        rdev = os.stat(target).st_rdev
        return "%s/b%d:%d" % (self.database, os.major(rdev), os.minor(rdev))

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return bool(state_of(now) == declared)

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return declared

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        if after is None or _SAFE.fullmatch(self.serial(target)):
            return None
        if os.path.exists(os.path.dirname(self.database) + "/control") and not self._known(target):
            text = "udev has not told yet by what %s is known" % target  # its links come first
            return StorageError("not_found", text, "run it again, or set persist: false", option="persist")
        text = "udev knows no serial number of %s by which its settings could be kept" % target
        return StorageError("unsupported", text, "set persist: false", option="persist")

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic

        now = self._row(target)
        if (now and state_of(now)) != (before and state_of(before)):
            raise StorageError("moved", "%s changed since it was read" % self.file(target), "run it again")
        if after is None:
            _unlink(self.file(target))
            return
        kept = {k: v for k, v in state_of(after).items() if k != "intact"}
        text = after["_text"] if "_text" in after else _text(target, kept, self.serial(target))  # undone: as it was
        os.makedirs(self.rules, exist_ok=True)
        atomic.replace(self.file(target), text.encode("utf-8", "surrogateescape"), 0o644)


def _text(target: str, kept: dict[str, Any], serial: str) -> str:
    about = json.dumps({"device": target, "settings": kept}, sort_keys=True)
    parts = [_MATCH % serial]
    if "scheduler" in kept:
        parts.append('ATTR{queue/scheduler}="%s"' % kept["scheduler"])
    if "read_ahead" in kept:
        parts.append('ATTR{queue/read_ahead_kb}="%d"' % (kept["read_ahead"] // 1024))
    if "read_only" in kept:  # its attribute in sysfs cannot be written
        parts.append('RUN+="/usr/sbin/blockdev --set%s $devnode"' % ("ro" if kept["read_only"] else "rw"))
    return _HEAD % about + ", ".join(parts) + "\n"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise failure(error, "cannot remove " + path) from error
