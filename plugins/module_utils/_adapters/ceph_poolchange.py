# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of Ceph made, changed and removed: a command for each difference. Loaded only where one differs."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_pool
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Session
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import met, state_of

_PAUSE = 0.2  # seconds between two looks at what is on its way
_NAMING = 3  # seconds for the manager to say what is not
_AGAIN = 10  # seconds for what did not become as it should be to go, or to be as it was
# What the cluster is told when a pool is made, by the name that it has there; all else is set afterwards.
_AT_FIRST = {"type": "pool_type", "ec_profile": "erasure_code_profile", "crush_rule": "rule", "size": "size"}
_AT_FIRST.update(pg_num="pg_num", autoscale="autoscale_mode")
_SET = {"size": "size", "crush_rule": "crush_rule", "pg_num": "pg_num", "autoscale": "pg_autoscale_mode"}
_LATER = {"min_size": "min_size", "nodelete": "nodelete", "ec_overwrites": "allow_ec_overwrites"}
_LATER.update((word, word) for word in ("compression_mode", "compression_algorithm", "compression_required_ratio"))
_QUOTA = {"quota_bytes": "max_bytes", "quota_objects": "max_objects"}


def put(session: Session, name: str, before: Any, after: Any) -> None:
    now = ceph_pool.look(session).pools.get(name)
    if (now is None) != (before is None) or (now is not None and not _as_planned(now, before)):
        raise _moved(name)
    if after is None:
        _remove(session, name, before)
        return
    if now is None:
        _make(session, name, after)
        return
    try:
        _change(session, name, now, after)
        _settle(session, name, after)
    except StorageError as error:
        if not ceph_pool.forward(now, after):
            again = session.more(_AGAIN)
            _take_back(error, name, lambda: _change(again, name, ceph_pool.look(again).pools[name], state_of(now)))
        raise


def _as_planned(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """What the autoscaler does meanwhile is no harm, nor that a new pool gets ready."""
    own = ("ready", "pg_num") if now["autoscale"] == "on" else ("ready",)
    same = {word: said for word, said in state_of(before).items() if word not in own}
    return met(now, same) and before.get("_id", now["_id"]) == now["_id"]


def _make(session: Session, name: str, after: dict[str, Any]) -> None:
    """All of it, or nothing: what did not become as it should be goes again."""
    said = {word: after[option] for option, word in _AT_FIRST.items() if option in after}
    if after.get("size") == 1:  # the cluster asks whether that is allowed only when a size is set
        del said["size"]
    (made,) = session.ask({"prefix": "osd pool create", "pool": name, **said})
    if "already exists" in made.text:
        raise _moved(name)
    try:
        _change(session, name, ceph_pool.look(session).pools[name], after)
        _settle(session, name, after)
    except StorageError as error:
        _take_back(error, name, lambda: _remove(session.more(_AGAIN), name, after))
        raise


def _take_back(error: StorageError, name: str, work: Callable[[], None]) -> None:
    try:
        work()
    except StorageError as stays:
        error.details["kept"] = "what was done of the pool %s stays: %s" % (name, stays.message)


def _change(session: Session, name: str, now: dict[str, Any], after: dict[str, Any]) -> None:
    """Another size comes first: the cluster chooses ``min_size`` with it, which nobody asked for.

    What uses a pool no more goes before what is to use it, as there may be four at most.
    """
    differs = {word for word, said in state_of(after).items() if now[word] != said}
    if now["autoscale"] == "on" == after.get("autoscale", "on"):
        differs.discard("pg_num")
    first = [_set(name, _SET[word], after[word]) for word in _SET if word in differs]
    if first:
        session.ask(*first)
        now = ceph_pool.look(session).pools[name]
        differs = {word for word, said in state_of(after).items() if now[word] != said}
    later = [_set(name, _LATER[word], after[word]) for word in _LATER if word in differs]
    quota = {"prefix": "osd pool set-quota", "pool": name}
    later += [{**quota, "field": _QUOTA[word], "val": str(after[word] or 0)} for word in _QUOTA if word in differs]
    users = set(now["application"]), set(after.get("application", now["application"]))
    gone, new = _applications("disable", name, users[0] - users[1]), _applications("enable", name, users[1] - users[0])
    for batch in (later + gone, new) if gone else (later + new,):
        if batch:
            session.ask(*batch)


def _set(name: str, variable: str, value: Any) -> dict[str, Any]:
    if value is None:
        text = "0" if variable == "compression_required_ratio" else "unset"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    sure = {"yes_i_really_mean_it": True} if (variable, value) == ("size", 1) else {}  # confirm said so
    return {"prefix": "osd pool set", "pool": name, "var": variable, "val": text, **sure}


def _applications(verb: str, name: str, which: set[str]) -> list[dict[str, Any]]:
    """What it asks to be sure of, the declaration says."""
    said = {"prefix": "osd pool application " + verb, "pool": name, "yes_i_really_mean_it": True}
    return [{**said, "app": app} for app in sorted(which)]


def _settle(session: Session, name: str, after: dict[str, Any]) -> None:
    while True:
        now = ceph_pool.look(session).pools.get(name)
        if now is None:
            raise _moved(name)
        if now["ready"] or not after.get("ready"):
            return
        if session.left() < 2 * _PAUSE:
            raise _late(session, name)
        time.sleep(_PAUSE)


def _late(session: Session, name: str) -> StorageError:
    waiting = []
    with contextlib.suppress(StorageError):  # who may not ask, or gets no answer, is told less
        session = session.more(_NAMING)
        (said,) = session.ask({"prefix": "pg ls-by-pool", "poolstr": name}, to="mgr")
        waiting = [(pg["pgid"], pg["state"]) for pg in said.value["pg_stats"] if "active" not in pg["state"]]
    listed = ", ".join("%s %s" % pg for pg in waiting[:8]) or "nobody tells which"
    text = "placement groups of the pool %s are not active after %d s: %s" % (name, session.access["timeout"], listed)
    return StorageError("timeout", text, "see ceph health detail; a larger timeout waits longer", waiting=len(waiting))


def _remove(session: Session, name: str, before: dict[str, Any]) -> None:
    """A pool that was just made, and is taken back, goes only while nothing is in it."""
    if "_id" not in before:
        (stats,) = session.ask({"prefix": "df"})
        if any(each["stats"]["objects"] for each in stats.value["pools"] if each["name"] == name):
            raise StorageError("in_use", "the pool %s is not empty any more" % name)
        if before.get("nodelete"):
            session.ask(_set(name, "nodelete", False))
    try:
        session.ask({"prefix": "osd pool delete", "pool": name, "pool2": name, "yes_i_really_really_mean_it": True})
    except StorageError as error:
        if error.code == "denied" and "mon_allow_pool_delete" in error.message:
            error.hint = "ceph config set mon mon_allow_pool_delete true, and back again afterwards"
        raise


def _moved(name: str) -> StorageError:
    return StorageError("moved", "the pool %s is not as it was planned for" % name, "run it again")
