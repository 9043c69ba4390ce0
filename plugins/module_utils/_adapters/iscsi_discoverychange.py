# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a portal for its targets (SendTargets, RFC 7143, appendix C), and writing what with. Loaded only to do so."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, iscsi_record, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_discovery import AUTH, FILE, Target
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_recordchange import (
    lines_of,
    locked,
    mend,
    rewritten,
    unable,
    unfit,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of

_NOTHING, _DENIED = 21, 24  # exit status, iscsiadm(8)
_SILENT = (4, 8, 11, 33)  # no connection, or no answer in time


def put(port: Any, target: Target, before: Any, after: Any) -> None:
    now = port.row(target)
    if state_of(now) != state_of(before):
        raise StorageError("moved", "the discovery record of %s changed since it was read" % target[1], "run it again")
    error = unfit(now or {}, after) or unable() if after is not None else None
    if error is not None:
        raise error
    mend(port.locks)
    old = port.record(target[1])
    try:
        if after is None:
            port.asked.discard(target)
            _write(port, target[1], None)
        elif "_text" in after:  # taken back, to the very bytes
            _write(port, target[1], after["_text"].reveal().encode("utf-8", "surrogateescape"))
        else:
            _ask(port, target, after, old)
    except OSError as problem:
        raise failure(problem, "cannot write the discovery record of %s" % target[1]) from problem


def _ask(port: Any, target: Target, after: dict[str, Any], old: iscsi_record.Record | None) -> None:
    try:
        text = old.text if old is not None and old.whole else _made(port, target[1])
        _write(port, target[1], rewritten(text, lines_of(after, AUTH)))
        if target not in port.asked:
            offered(port.run, *target, port.seconds)
    except (StorageError, OSError):
        with contextlib.suppress(StorageError, OSError):
            _write(port, target[1], old.text if old is not None else None)
        raise
    port.asked.add(target)


def _made(port: Any, portal: str) -> bytes:
    """With the defaults of this host. It would replace one that is there."""
    argv = ["iscsiadm", "-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-o", "new"]
    code, _out, err = (port.run or program.execute)(argv)
    record = port.record(portal)
    if code or record is None or not record.whole:
        said = err.decode("utf-8", "replace").strip() or "it ended with %d" % code
        raise StorageError("failed", "iscsiadm made no discovery record of %s: %.300s" % (portal, said), rc=code)
    return bytes(record.text)


def _write(port: Any, portal: str, text: bytes | None) -> None:
    """It lies beside the portals first: beneath them iscsiadm takes what it finds for the name of a target."""
    base, place = port.base(), port.place(portal)
    if not base or not os.path.isdir(base):
        if text is None:
            return
        raise StorageError("moved", "the database of open-iscsi is gone", "run it again")
    staged = "%s/%sdiscovery" % (base, iscsi_record.TEMPORARY)
    if text is not None:
        atomic.replace(staged, text, mode=0o600)
    with locked(port.locks):
        if text is not None:
            if not os.path.isdir(place):
                os.mkdir(place, 0o700)
            os.rename(staged, place + FILE)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place + FILE)
            if os.path.isdir(place) and not os.listdir(place):  # else records of targets are known by it
                os.rmdir(place)
        for name in os.listdir(base):
            if name.startswith(iscsi_record.TEMPORARY):
                os.unlink("%s/%s" % (base, name))
    for each in (place, base):
        if os.path.isdir(each):
            sync_directory(each)


def offered(run: Callable[..., Any] | None, iqn: str, portal: str, seconds: float = 30.0) -> None:
    """Does a portal offer exactly this target, to this host? Nothing is written: neither records nor links."""
    argv = ["iscsiadm", "-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-o", "nonpersistent", "--discover"]
    code, out, err = (run or program.execute)(argv, b"", seconds)
    said = " ".join(err.decode("utf-8", "replace").split()) or "it ended with %d" % code
    about: dict[str, Any] = {"portal": portal, "rc": code}
    if code == _DENIED:
        text = "%s does not let this host ask for its targets: %.300s" % (portal, said)
        raise StorageError("denied", text, "look at discovery_chap", **about)
    if code in _SILENT:
        raise StorageError("unreachable", "%s does not answer: %.300s" % (portal, said), "is it up?", **about)
    names = [line.split(" ", 1)[1].strip() for line in out.decode("utf-8", "replace").splitlines() if " " in line]
    if code == _NOTHING or (not code and iqn not in names):
        text = "%s does not offer %s to this host" % (portal, iqn)
        raise StorageError("not_found", text, "look at its access list; it goes by the initiator's name", **about)
    if code:
        raise StorageError("failed", "iscsiadm could not ask %s: %.300s" % (portal, said), **about)
