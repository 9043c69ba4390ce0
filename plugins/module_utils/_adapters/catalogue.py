# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: what outlives a run on this host, as rows ``(kind, key) -> dict`` in one SQLite file.

Read with ``mode=ro`` while planning, so that a no-op writes nothing. One row is one transaction, on disk when ``put``
returns (rollback journal, synchronous=FULL): a row stands before what it tells of, so none is held back for a group
commit. That is four fdatasync each: 1,000 rows take a second on an idle disk, but 10 to 25 s on a busy one. The file
appears complete under its name by rename(2): an empty, torn or foreign file there is never ours, and never replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, UNKNOWN, Action

if TYPE_CHECKING:
    import sqlite3

Target = Tuple[str, str]
BORN_WITH_ID = ("volume", "pool", "snapshot")
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
    (
        "full",
        "no_space",
        "make room on its filesystem (Btrfs takes a while to free what was removed), then run it again",
    ),
    ("readonly", "denied", "its filesystem is read-only"),
    ("unable to open", "denied", "root must be able to read and write it"),
    ("", "unreadable", "restore it from a backup, or move it away: it is never made anew over what is there"),
)


def fresh_id() -> str:
    import uuid

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
        new_id: Callable[[], str] = fresh_id,
        now: Callable[[], str] = _now,
    ) -> None:
        self.base, self.path = base, os.path.join(base, "catalogue.sqlite")
        self.timeout, self.new_id, self.now = timeout, new_id, now

    def scan(self, targets: Iterable[Target] | None) -> dict[Target, Any]:
        found: dict[Target, Any] = {}
        if not self._there():
            return found
        with self._session("ro") as db:
            if targets is None:
                targets = db.execute("SELECT kind, key FROM rows").fetchall()
            wanted: dict[str, set[str]] = {}
            for kind, key in targets:
                wanted.setdefault(kind, set()).add(key)
            for key in wanted.pop("snapshots", ()):  # all of a volume
                query = "SELECT key, rev, value FROM rows WHERE kind = 'snapshot' AND key > ? AND key < ?"
                for name, rev, value in db.execute(query, (key + "/", key + "0")):
                    found["snapshot", name] = dict(json.loads(value), _rev=rev)
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

    def ids(self, space: str) -> dict[str, dict[str, Any]]:
        """Every name of an id space, such as ``project``, with its number (``id``) and what is kept beside it."""
        if not self._there():
            return {}
        with self._session("ro") as db:
            rows = db.execute("SELECT key, value FROM rows WHERE kind = 'id' AND grp = ?", (space,)).fetchall()
        return {key[len(space) + 1 :]: json.loads(value) for key, value in rows}

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        born = {"id": UNKNOWN, "created_at": UNKNOWN} if now is None and target[0] in BORN_WITH_ID else {}
        used = {"last_used": UNKNOWN} if was_used(now, declared) else {}
        return {**born, **(now or {}), **declared, **used}

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def foresee(self, rows: dict[Target, Any], actions: list[Action]) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite

        cataloguewrite.foresee(rows, actions)

    def put(self, target: Target, before: Any, after: Any) -> None:
        """``moved`` when the row is not ``before``; ``conflict`` when an id is taken; ``locked`` by a writer."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite

        cataloguewrite.put(self, target, before, after)

    def allocate(self, kind: str, name: str, low: int, high: int) -> int:
        """The number of ``name`` in the id space ``kind``: the recorded one, else the lowest free one, recorded."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite

        return cataloguewrite.allocate(self, kind, name, low, high)

    def _there(self) -> bool:
        try:
            os.stat(self.path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise failure(error, "cannot read %s" % self.path) from error
        return True

    @contextlib.contextmanager
    def _session(self, mode: str) -> Iterator[sqlite3.Connection]:
        """``rw``: one durable transaction, taken back when the block raises. ``ro``: a connection that cannot write."""
        import sqlite3

        try:
            if mode == "rw":
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite

                cataloguewrite.create(self.base, self.path)
            with contextlib.closing(self._connect(mode)) as db:
                if mode == "rw":
                    db.execute("BEGIN IMMEDIATE")
                yield db
                if mode == "rw":
                    db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _problem(self.path, str(error)) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        import sqlite3

        plain = self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect("file:%s?mode=%s" % (plain, mode), timeout=self.timeout, isolation_level=None, uri=True)
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
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cataloguewrite import migrate

                migrate(db)
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


class Intents:
    """What we began and may not have finished (mkfs on a blank device): on disk before the deed, gone after it."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def begin(self, what: str, **details: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cataloguewrite import store

        with self._record._session("rw") as db:
            store(db, ("intent", what), 1, dict(details, at=self._record.now()))

    def begun(self, whats: Iterable[str]) -> set[str]:
        return {what for _kind, what in self._record.scan([("intent", what) for what in whats])}

    def is_ours(self, what: str, **details: Any) -> bool:
        """Was it begun here, and not with other details than these?"""
        row = self._record.scan([("intent", what)]).get(("intent", what))
        return row is not None and all(row.get(name, value) == value for name, value in details.items())

    def end(self, what: str) -> None:
        with self._record._session("rw") as db:
            db.execute("DELETE FROM rows WHERE kind = 'intent' AND key = ?", (what,))


def was_used(now: Any, value: Any) -> bool:
    """Attaching and detaching are the uses of a volume that its row hears of."""
    return bool("attachments" in value and value["attachments"] != (now or {}).get("attachments", {}))


def _problem(path: str, text: str) -> StorageError:
    code, hint = next((code, hint) for part, code, hint in _PROBLEMS if part in text)
    return StorageError(code, "%s: %s" % (path, text), hint)


def _contents(db: sqlite3.Connection, pool: str) -> dict[str, Any]:
    volumes = "SELECT key, number FROM rows WHERE kind = 'volume' AND grp = ? ORDER BY key"
    rows = db.execute(volumes, (pool,)).fetchall()
    provisioned = sum(number or 0 for _key, number in rows)  # here, not in SQL, where a sum may overflow
    return {"_volumes": [key for key, _n in rows[:16]], "_volume_count": len(rows), "_provisioned": provisioned}
