# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: what outlives a run on this host, as rows ``(kind, key) -> dict`` in one SQLite file.

Read with ``mode=ro`` while planning, so that a no-op writes nothing. One row is one transaction, on disk when ``put``
returns (rollback journal, synchronous=FULL): a row stands before what it tells of, so none is held back for a group
commit. That is four fdatasync each: 1,000 rows take a second on an idle disk, but 10 to 25 s on a busy one. The file
appears complete under its name by link(2): an empty, torn or foreign file there is never ours, and never replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import uuid
from typing import Any, Callable, Iterable, Iterator, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, UNKNOWN, state_of

Target = Tuple[str, str]
BORN_WITH_ID = ("volume", "pool")
APPLICATION = 0x424B4844
# MIGRATIONS[n] brings a file of version n to n + 1. ``grp`` and ``number`` are what rows are grouped and summed by:
# pool and size of a volume, id space and number of an id.
MIGRATIONS = (
    (
        "CREATE TABLE rows (kind TEXT, key TEXT, rev INTEGER NOT NULL, grp TEXT, number INTEGER, value TEXT NOT NULL,"
        " PRIMARY KEY (kind, key)) WITHOUT ROWID",
        "CREATE INDEX by_group ON rows (kind, grp, number)",
        "CREATE UNIQUE INDEX one_owner ON rows (grp, number) WHERE kind = 'id'",
    ),
)
_PROBLEMS = (
    ("locked", "locked", "another run is writing; try again"),
    ("full", "no_space", "make room on its filesystem"),
    ("readonly", "denied", "its filesystem is read-only"),
    ("unable to open", "denied", "root must be able to read and write it"),
    ("", "unreadable", "restore it from a backup, or move it away: it is never made anew over what is there"),
)


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Record:
    """Rows. ``new_id`` and ``now`` fill ``id`` and ``created_at`` of a new volume or pool; ``timeout`` in seconds."""

    name = "record"
    behind = False
    outlasts = True  # a row stands before what it tells of, and as long

    def __init__(
        self,
        base: str = "/var/lib/bulkhead",
        timeout: float = 10.0,
        new_id: Callable[[], str] = _new_id,
        now: Callable[[], str] = _now,
    ) -> None:
        self.base, self.path = base, os.path.join(base, "catalogue.sqlite")
        self.timeout, self.new_id, self.now = timeout, new_id, now

    def scan(self, targets: Iterable[Target] | None) -> dict[Target, Any]:
        found: dict[Target, Any] = {}
        try:
            os.stat(self.path)
        except FileNotFoundError:
            return found
        except OSError as error:
            raise failure(error, "cannot read %s" % self.path) from error
        with self._session("ro") as db:
            if targets is None:
                targets = db.execute("SELECT kind, key FROM rows").fetchall()
            wanted: dict[str, set[str]] = {}
            for kind, key in targets:
                wanted.setdefault(kind, set()).add(key)
            for kind, keys in wanted.items():
                query, few = "SELECT key, rev, value FROM rows WHERE kind = ?", list(keys) if len(keys) <= 500 else []
                if few:
                    query += " AND key IN (%s)" % ",".join("?" * len(few))
                for key, rev, value in db.execute(query, [kind] + few):
                    if key in keys:
                        found[kind, key] = dict(json.loads(value), _rev=rev)
            for kind, key in found:
                if kind == "pool":
                    found[kind, key].update(_contents(db, key))
        return found

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        born = {"id": UNKNOWN, "created_at": UNKNOWN} if now is None and target[0] in BORN_WITH_ID else {}
        used = {"last_used": UNKNOWN} if _used(now, declared) else {}
        return {**born, **(now or {}), **declared, **used}

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def put(self, target: Target, before: Any, after: Any) -> None:
        """``moved`` when the row is not ``before``; ``conflict`` when an id is taken; ``locked`` by a writer."""
        before, after = state_of(before), state_of(after)
        with self._session("rw") as db:
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
                born = now or {"id": self.new_id(), "created_at": self.now()}
                value = {**{k: born[k] for k in ("id", "created_at") if k in born}, **value}
                if _used(now, value):
                    value["last_used"] = self.now()
            _store(db, target, row[0] + 1, value)

    def allocate(self, kind: str, name: str, low: int, high: int) -> int:
        """The number of ``name`` in the id space ``kind``: the recorded one, else the lowest free one, recorded."""
        target = ("id", "%s:%s" % (kind, name))
        with self._session("rw") as db:
            row = db.execute("SELECT number FROM rows WHERE kind = ? AND key = ?", target).fetchone()
            if row:
                return int(row[0])
            taken = "SELECT number FROM rows WHERE kind = 'id' AND grp = ? AND number >= ? ORDER BY number"
            free = low
            for (number,) in db.execute(taken, (kind, low)):
                if number != free:
                    break
                free += 1
            if free > high:
                raise StorageError("limit_exceeded", "every %s id from %d to %d is taken" % (kind, low, high))
            _store(db, target, 1, {"id": free})
            return free

    @contextlib.contextmanager
    def _session(self, mode: str) -> Iterator[sqlite3.Connection]:
        """``rw``: one durable transaction, taken back when the block raises. ``ro``: a connection that cannot write."""
        try:
            if mode == "rw":
                self._create()
            with contextlib.closing(self._connect(mode)) as db:
                if mode == "rw":
                    db.execute("BEGIN IMMEDIATE")
                yield db
                if mode == "rw":
                    db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            code, hint = next((code, hint) for part, code, hint in _PROBLEMS if part in str(error))
            raise StorageError(code, "%s: %s" % (self.path, error), hint) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        plain = self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect("file:%s?mode=%s" % (plain, mode), self.timeout, isolation_level=None, uri=True)
        try:
            ours, version = (db.execute("PRAGMA " + p).fetchone()[0] for p in ("application_id", "user_version"))
            db.execute("PRAGMA synchronous = FULL")
            if ours != APPLICATION:
                raise sqlite3.DatabaseError("it is not a catalogue of bulkhead.storage")
            if version > len(MIGRATIONS):
                text = "%s was written by a newer release (schema %d, known is %d)"
                raise StorageError(
                    "unsupported", text % (self.path, version, len(MIGRATIONS)), "upgrade this collection"
                )
            if mode == "rw" and version < len(MIGRATIONS):
                _migrate(db)
        except sqlite3.OperationalError:
            db.close()
            if mode == "rw" or not os.path.exists(self.path + "-journal"):
                raise
            self._connect("rw").close()  # a writer was killed: SQLite takes its half transaction back
            return self._connect("ro")
        except BaseException:
            db.close()
            raise
        return db

    def _create(self) -> None:
        """Make the file under a private name, publish it whole. Only one maker at a time: the folder is locked."""
        private_directory(self.base)
        if os.path.lexists(self.path):
            return
        fresh = os.path.join(self.base, ".catalogue-%s" % _new_id())
        folder = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            for stale in os.listdir(folder):
                if stale.startswith(".catalogue-"):
                    os.unlink(stale, dir_fd=folder)
            os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as db:
                db.execute("PRAGMA application_id = %d" % APPLICATION)
                _migrate(db)
            with contextlib.suppress(FileExistsError):  # another maker was first
                os.link(fresh, self.path)
            os.unlink(fresh)
            os.fsync(folder)
        except OSError as error:
            raise failure(error, "cannot make %s" % self.path) from error
        finally:
            os.close(folder)


class Intents:
    """What we began and may not have finished (mkfs on a blank device): on disk before the deed, gone after it."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def begin(self, what: str, **details: Any) -> None:
        with self._record._session("rw") as db:
            _store(db, ("intent", what), 1, dict(details, at=self._record.now()))

    def is_ours(self, what: str) -> bool:
        return bool(self._record.scan([("intent", what)]))

    def end(self, what: str) -> None:
        with self._record._session("rw") as db:
            db.execute("DELETE FROM rows WHERE kind = 'intent' AND key = ?", (what,))


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for version in range(db.execute("PRAGMA user_version").fetchone()[0], len(MIGRATIONS)):
        for statement in (*MIGRATIONS[version], "PRAGMA user_version = %d" % (version + 1)):
            db.execute(statement)
    db.execute("COMMIT")


def _used(now: Any, value: Any) -> bool:
    """Attaching and detaching are the uses of a volume that its row hears of."""
    return bool("attachments" in value and value["attachments"] != (now or {}).get("attachments", {}))


def _store(db: sqlite3.Connection, target: Target, rev: int, value: dict[str, Any]) -> None:
    kind, key = target
    grp, number = (key.partition(":")[0], value["id"]) if kind == "id" else (value.get("pool"), value.get("size"))
    upsert = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET "
    upsert += ", ".join("%s = excluded.%s" % (column, column) for column in ("rev", "grp", "number", "value"))
    try:
        db.execute(upsert, (kind, key, rev, grp, number, json.dumps(value, sort_keys=True)))
    except sqlite3.IntegrityError as error:
        raise StorageError("conflict", "%s id %s belongs to another than %s" % (grp, number, key)) from error


def _contents(db: sqlite3.Connection, pool: str) -> dict[str, Any]:
    volumes = "SELECT key, number FROM rows WHERE kind = 'volume' AND grp = ? ORDER BY key"
    rows = db.execute(volumes, (pool,)).fetchall()
    provisioned = sum(number or 0 for _key, number in rows)  # here, not in SQL, where a sum may overflow
    return {"_volumes": [key for key, _n in rows[:16]], "_volume_count": len(rows), "_provisioned": provisioned}


def _agree(now: Any, said: Any) -> bool:
    """Is the stored row what was said? What only we could choose (UNKNOWN) was not said."""
    if now is None or said is None:
        return now is said
    known = json.loads(json.dumps({k: v for k, v in said.items() if v is not UNKNOWN}))
    return bool({k: v for k, v in now.items() if k in known or k not in said} == known)
