# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting and lifting the limits that ``quotactl`` reads, and giving directories the id of a project.

The order makes a kill harmless. The row of the catalogue comes first and says that the directories are not done; the
limits stand before anything is charged to them; what a run did not finish the next one walks again. Going, the row
says so first and is the last to go, so that no id is given anew while something may still carry it.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite, project_tag, quotactl
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import (
    LIMITS,
    Projects,
    QuotactlLimits,
    Target,
    agree,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

LOW, HIGH = 100000, 2**31 - 1  # ids that are chosen here; those of people are mostly lower
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_ENTRIES = 1 << 40  # a walk goes on where one was killed: it need not be short
_FLAG = {"user": 1, "project": 2, "group": 4}  # of struct fs_disk_quota, include/uapi/linux/dqblk_xfs.h


class QuotactlChanges:
    """What changes the limits of XFS and ext4. ``limits`` reads them."""

    def __init__(self, limits: QuotactlLimits) -> None:
        self.limits, self.record = limits, limits.record

    def write(self, fd: int, target: Target, before: Any, after: Any) -> None:
        now = self.limits.point(fd, target)
        if not agree(now, before):
            if agree(now, after):
                return
            raise StorageError("moved", "the limit of %s changed since it was read" % target[1], "run it again")
        error = self.limits.refusal(target, now, after) if now or after else None
        if error is not None:
            raise error
        if target[0] != "project":
            number = quotactl.locate(fd, target).id
            set_limits(fd, target[0].partition(":")[0], number, after or {})
        elif after is None:
            self._lift(fd, target, now)
        else:
            self._charge(fd, target, now, after)
        if after and after.get("grace", UNKNOWN) not in (UNKNOWN, None):
            set_grace(fd, target[0].partition(":")[0], after["grace"])
        now = self.limits.point(fd, target)
        if not agree(now, after) or (now and not self.limits.same(now, after)):
            text = "%s: the filesystem did not keep the limit" % target[1]
            raise StorageError("not_enforced", text, "does something else change its quotas?", found=now)

    def forget(self, fd: int, target: Target) -> None:
        """A limited directory is gone: so may be what was kept for it. ``fd`` is of the filesystem it was on."""
        known = self.limits.known()
        name = known.paths.get(target[1]) if target[0] == "project" else None
        if name is not None:
            row = known.names[name]
            self.limits.above(fd, target)
            self._lift(fd, target, {"name": name, "paths": row["paths"], "id": row["id"]})

    def _charge(self, fd: int, target: Target, now: Any, after: dict[str, Any]) -> None:
        name, paths = after["name"], list(after["paths"])
        if now and now["nested"] and now["paths"] == paths:
            set_limits(fd, "project", now["id"], after)
            return
        wanted = after["id"] if after["id"] is not UNKNOWN else None
        number = self._claim(name, wanted, paths, False, lambda number: free(fd, number))
        set_limits(fd, "project", number, after)
        known = self.limits.known()
        for path in (now or {}).get("paths") or ():
            if path not in paths:
                self._tag(fd, path, known)
        for path in paths:
            self._tag(fd, path, known, number, name)
        self._claim(name, number, paths, True)

    def _claim(
        self, name: str, number: int | None, paths: list[str], whole: bool, usable: Callable[[int], bool] | None = None
    ) -> int:
        value = {"paths": paths, "whole": whole}
        number = cataloguewrite.claim(self.record, "project", name, number, value, (LOW, HIGH), usable)
        self.limits.known().set(name, {"id": number, **value})
        return number

    def _lift(self, fd: int, target: Target, now: dict[str, Any]) -> None:
        paths = now["paths"]
        self._claim(now["name"], now["id"], paths, False)
        known = self.limits.known()
        for path in paths:
            self._tag(fd, path, known, gone=now["name"])
        if self.limits.seen[target]["counts"]:
            set_limits(fd, "project", now["id"], {})
        cataloguewrite.release(self.record, "project", now["name"])
        known.set(now["name"], None)

    def _tag(self, fd: int, path: str, known: Projects, number: int = 0, name: str = "", gone: str = "") -> None:
        """Charge a tree to a project, or (``number`` 0) to the one around it, if any. Projects in it stay theirs."""
        inside = {p[len(path) :].lstrip("/") for p in known.beneath(path)}
        mine = {p[len(path) :].lstrip("/") for p in (known.names.get(name or gone) or {}).get("paths", ())}
        if not number:
            around = [p for p in names.ancestors(path) if known.paths.get(p, gone) != gone]
            number = known.names[known.paths[around[0]]]["id"] if around else 0
        with Walk() as walk:
            try:
                tree = walk.open(path, DIRECTORY)
            except StorageError as error:
                if error.code == "not_found" and not name:
                    return
                raise
            try:
                if self.limits.filesystem(tree) != self.limits.filesystem(fd):
                    if not name:
                        return  # something else is there now
                    text = "%s is on another filesystem than the rest of project %s" % (path, name)
                    raise StorageError("invalid", text, "one quota for each filesystem", option="paths")
                project_tag.set_tag(tree, number, number != 0, path)
                done = project_tag.tag_tree(tree, number, _ENTRIES, inherit=number != 0, skip=inside - mine)
            finally:
                os.close(tree)
        if done.shared and name:
            text = "%d files of %s have another name elsewhere, such as %s: they would be charged to nobody"
            text %= (len(done.shared), path, done.shared[0])
            raise StorageError("not_enforced", text, "remove their other names, or copy them", files=done.shared[:100])


def free(fd: int, number: int) -> bool:
    """Is nothing charged to an id on this filesystem, and nothing limited by it?"""
    dquot = quotactl.ask(fd, quotactl.XGETQUOTA, "project", number)
    return dquot is None or not any(dquot[1:])


def set_limits(fd: int, kind: str, number: int, value: dict[str, Any]) -> None:
    """Bytes in multiples of 1024, whole blocks on XFS; what ``value`` does not name is lifted."""
    if number == 0:
        text = "%s 0 is not limited: on XFS its limits would be those of everybody else" % kind
        raise StorageError("invalid", text, "limit another than root", option="id")
    hard, soft, inodes_hard, inodes_soft = (value.get(field) or 0 for field in LIMITS)
    numbers = (hard // 512, soft // 512, inodes_hard, inodes_soft)
    data = struct.pack("=bbHI4Q72x", 1, _FLAG[kind], 15, number, *numbers)
    try:
        quotactl.call(fd, quotactl.XSETQLIM, kind, number, data)
    except OSError as error:
        raise failure(error, "cannot set the limits of %s %d" % (kind, number)) from error


def set_grace(fd: int, kind: str, seconds: int) -> None:
    try:
        quotactl.call(fd, quotactl.SETINFO, kind, 0, struct.pack("=QQII", seconds, seconds, 0, 3))
    except OSError as error:
        raise failure(error, "cannot set the grace of %s quota" % kind) from error
