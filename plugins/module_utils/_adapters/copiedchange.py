# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling an empty directory with a copy of another one: whole, or not at all, whenever it is killed."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import clone, copied
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

PART = os.fsencode(copied.PART)


def put(port: copied.Copied, target: str, after: dict[str, Any]) -> None:
    row = port.scan([target]).get(target)
    if not isinstance(row, dict):
        raise row or StorageError("not_found", "%s is not there" % target, "make the volume first")
    error = copied.refusal(target, row)
    if error is not None:
        raise error
    with contextlib.ExitStack() as held:
        walk = held.enter_context(Walk())
        here = walk.open(target, copied.FOLDER)
        held.callback(os.close, here)
        try:
            if row["phase"] == "copying":
                port.note(target, "copying")
                _copy(walk, after["from"], here, target)
                port.note(target, "moving")
            _move(here, target)
        except OSError as exc:
            raise refused(exc, target) from exc
        port.note(target, "done")


def _copy(walk: Walk, source: str, here: int, target: str) -> None:
    clone.remove(here, PART, target)  # of a killed run
    there = walk.open(source, copied.FOLDER)
    try:
        os.mkdir(PART, 0o700, dir_fd=here)
        part = openat2(here, PART, copied.FOLDER)
        try:
            clone.tree(there, part, share=False)
            os.fchown(part, 0, 0)
            os.fchmod(part, 0o700)  # nobody comes in before it is over
        except BaseException:
            with contextlib.suppress(StorageError):  # the failure is the one to tell; the next run removes it
                clone.remove(here, PART, target)
            raise
        finally:
            os.close(part)
    finally:
        os.close(there)


def _move(here: int, target: str) -> None:
    """Where the folder is gone, all of it was moved. A name that somebody took meanwhile is not written over."""
    try:
        part = openat2(here, PART, copied.FOLDER)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(part):
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=here, follow_symlinks=False)
                text = "%s has %r already, which the copy has too" % (target, name)
                raise StorageError("conflict", text, "move it away, and run it again")
            os.rename(name, name, src_dir_fd=part, dst_dir_fd=here)
        os.fsync(here)
        os.rmdir(PART, dir_fd=here)
    finally:
        os.close(part)
