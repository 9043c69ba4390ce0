# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing the catalogue: its file, its schema, its rows. Read it with ``catalogue``."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import catalogue
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import (
    APPLICATION,
    BORN_WITH_ID,
    Record,
    Target,
    fresh_id,
    was_used,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory, sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Action, state_of

RESERVE = 256 << 10  # for SQLite's rollback journal (a row takes some 30 KiB) and what a filesystem wants beside it


def put(record: Record, target: Target, before: Any, after: Any) -> None:
    """``moved`` when the row is not ``before``; ``conflict`` when an id is taken; ``locked`` by a writer.

    A row can go when the disk is full: for that time there is a file that only keeps room.
    """
    before, after = state_of(before), state_of(after)
    try:
        _put(record, target, before, after)
    except StorageError as error:
        full = error.code in ("no_space", "denied")  # XFS: "unable to open", for want of room for a file
        if after is not None or not full or not _spend(record.base):
            raise
        _put(record, target, before, after)
    else:
        if after is not None:
            _save(record.base)


def foresee(rows: dict[Any, Any], actions: list[Action]) -> None:
    """How many volumes a pool will hold, and what they were promised. ``rows``: as planned, by target."""
    for _unit, _port, target, before, after, _risk in actions:
        for value, one in ((before, -1), (after, 1)):
            pool = ("pool", value.get("pool")) if value else ()
            row = rows.get(pool)
            if isinstance(row, dict) and isinstance(target, tuple) and target[0] == "volume":
                count, promised = row.get("_volume_count", 0) + one, row.get("_provisioned", 0) + one * value["size"]
                rows[pool] = {**row, "_volume_count": count, "_provisioned": promised}


def _save(base: str) -> None:
    with contextlib.suppress(OSError):  # no room for it: the row is there all the same
        fd = os.open(os.path.join(base, "catalogue.reserve"), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_blocks * 512 < RESERVE:
                os.posix_fallocate(fd, 0, RESERVE)
        finally:
            os.close(fd)


def _spend(base: str) -> bool:
    try:
        os.unlink(os.path.join(base, "catalogue.reserve"))
        sync_directory(base)  # until this is on disk some filesystems give nothing back
    except OSError:
        return False
    return True


def _put(record: Record, target: Target, before: Any, after: Any) -> None:
    with record._session("rw") as db:
        row = db.execute("SELECT rev, value FROM rows WHERE kind = ? AND key = ?", target).fetchone() or (0, "null")
        now = json.loads(row[1])
        if not _agree(now, before):
            if _agree(now, after):
                return
            raise StorageError("moved", "the record of %s %s changed since it was read" % target, "run it again")
        if after is None:
            db.execute("DELETE FROM rows WHERE kind = ? AND key = ?", target)
            return
        value = {k: v for k, v in after.items() if v is not UNKNOWN}
        if target[0] in BORN_WITH_ID:
            born = now or {"id": record.new_id(), "created_at": record.now()}
            value = {**{k: born[k] for k in ("id", "created_at") if k in born}, **value}
            if was_used(now, value):
                value["last_used"] = record.now()
        store(db, target, row[0] + 1, value)


def allocate(record: Record, kind: str, name: str, low: int, high: int) -> int:
    """The number of ``name`` in the id space ``kind``: the recorded one, else the lowest free one, recorded."""
    return claim(record, kind, name, None, {}, (low, high), None)


def claim(
    record: Record,
    space: str,
    name: str,
    number: int | None,
    value: dict[str, Any],
    between: tuple[int, int],
    usable: Callable[[int], bool] | None,
) -> int:
    """The number of ``name`` in an id space, with ``value`` kept beside it, on disk.

    The recorded one, else ``number``, else the lowest one ``between`` that nobody has and that is ``usable``.
    ``conflict`` when another name has it.
    """
    target = ("id", "%s:%s" % (space, name))
    with record._session("rw") as db:
        rev, text = db.execute("SELECT rev, value FROM rows WHERE kind = ? AND key = ?", target).fetchone() or (0, "{}")
        kept = json.loads(text)
        if number is None and "id" not in kept:
            number = _lowest(db, space, *between, usable or (lambda _number: True))
        row = {**kept, **value, "id": kept.get("id", number)}
        if row != kept:
            store(db, target, rev + 1, row)
        return int(row["id"])


def _lowest(db: sqlite3.Connection, space: str, low: int, high: int, usable: Callable[[int], bool]) -> int:
    taken = db.execute("SELECT number FROM rows WHERE kind = 'id' AND grp = ? AND number >= ?", (space, low))
    known = {number for (number,) in taken}
    for number in range(low, high + 1):
        if number not in known and usable(number):
            return number
    raise StorageError("limit_exceeded", "every %s id from %d to %d is taken" % (space, low, high))


def release(record: Record, space: str, name: str) -> None:
    """The number of ``name`` may be another's."""
    with record._session("rw") as db:
        db.execute("DELETE FROM rows WHERE kind = 'id' AND key = ?", ("%s:%s" % (space, name),))


_made: set[str] = set()  # in this run


def create(base: str, path: str) -> None:
    """Make the file under a private name, publish it whole. Only one maker at a time: the folder is locked."""
    if path in _made and os.path.lexists(path) and not os.stat(base).st_mode & 0o077:
        return
    private_directory(base)
    _made.add(path)
    if os.path.lexists(path):
        return
    fresh = ".catalogue-%s" % fresh_id()
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _sweep(folder)
        try:
            os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
            with contextlib.closing(sqlite3.connect(os.path.join(base, fresh), isolation_level=None)) as db:
                db.execute("PRAGMA application_id = %d" % APPLICATION)
                migrate(db)
            if not os.path.lexists(path):  # another maker was first; none comes now
                os.rename(os.path.join(base, fresh), path)
            os.fsync(folder)
        finally:
            _sweep(folder)
    except OSError as error:
        raise failure(error, "cannot make %s" % path) from error
    finally:
        os.close(folder)


def _sweep(folder: int) -> None:
    """What a maker left that was killed or failed: nobody else makes one while we hold the folder."""
    for stale in os.listdir(folder):
        if stale.startswith(".catalogue-"):
            os.unlink(stale, dir_fd=folder)


def migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for version in range(db.execute("PRAGMA user_version").fetchone()[0], len(catalogue.MIGRATIONS)):
        for statement in (*catalogue.MIGRATIONS[version], "PRAGMA user_version = %d" % (version + 1)):
            db.execute(statement)
    db.execute("COMMIT")


def store(db: sqlite3.Connection, target: Target, rev: int, value: dict[str, Any]) -> None:
    kind, key = target
    grp, number = (key.partition(":")[0], value["id"]) if kind == "id" else (value.get("pool"), value.get("size"))
    upsert = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET "
    upsert += ", ".join("%s = excluded.%s" % (column, column) for column in ("rev", "grp", "number", "value"))
    try:
        db.execute(upsert, (kind, key, rev, grp, number, json.dumps(value, sort_keys=True)))
    except sqlite3.IntegrityError as error:
        raise StorageError("conflict", "%s id %s belongs to another than %s" % (grp, number, key)) from error


def _agree(now: Any, said: Any) -> bool:
    """Is the stored row what was said? What only we could choose (UNKNOWN) was not said."""
    if now is None or said is None:
        return now is said
    known = json.loads(json.dumps({k: v for k, v in said.items() if v is not UNKNOWN}))
    return bool({k: v for k, v in now.items() if k in known or k not in said} == known)
