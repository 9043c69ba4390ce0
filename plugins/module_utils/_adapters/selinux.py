# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux: the label of a directory, by descriptor, and the file context that restorecon(8) would give it.

The label is the attribute ``security.selinux``. The file context is a local rule of the policy store, as ``semanage
fcontext`` keeps it: ``file_contexts.local`` beneath /etc/selinux is made from that store at each commit, so that what
is written there by hand is lost. The store's own interface is libsemanage, see selinuxchange.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

LABEL = "security.selinux"
KERNEL = "/sys/fs/selinux"  # selinuxfs: there when a policy is loaded
LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY
_WORD = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)
_LEVEL = re.compile(r"[A-Za-z0-9_.:,-]+", re.ASCII)
_RULE = re.compile(rb"(/\S*)\(/\.\*\)\?[ \t]+([^\s:-]\S*)")


def judged(declared: dict[str, Any], kernel: str = KERNEL) -> dict[str, Any]:
    """A declared label as the kernel's policy writes it; ``unsupported`` without SELinux, ``invalid`` if unknown."""
    kind, level = declared["type"], declared.get("level")
    if not _WORD.fullmatch(kind) or not (level is None or _LEVEL.fullmatch(level)):
        text = "type %.100r with level %.100r is no SELinux label" % (kind, level)
        raise StorageError("invalid", text, "for example container_file_t and s0:c1,c2", option="selinux")
    try:
        levels = _read(kernel + "/mls") == b"1"
        context = "system_u:object_r:" + kind + (":" + (level or "s0")) * (levels or level is not None)
        fd = os.open(kernel + "/context", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, context.encode("ascii") + b"\0")
            told = os.read(fd, 4096).rstrip(b"\0").decode("ascii")
        finally:
            os.close(fd)
    except FileNotFoundError as exc:
        raise StorageError("unsupported", "SELinux is not enabled on this host", "leave selinux out") from exc
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise failure(exc, "cannot ask SELinux about %s" % context) from exc
        text = "the policy of this host does not know %s" % context
        raise StorageError("invalid", text, "seinfo and semanage list its types and levels", option="selinux") from exc
    value = split(told)
    return value if level is not None else {"type": value["type"]}


def split(context: str) -> dict[str, str]:
    """Type and level of a label; the level may hold colons."""
    parts = context.split(":", 3)
    return dict(zip(("type", "level"), parts[2:]))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read().strip()


class Labels:
    """Port ``label``: a directory -> ``{type, level}`` of its label. It comes and goes with the directory."""

    name = "label"
    behind = True
    slow = False

    def resolve(self, target: str, declared: Any) -> Any:
        return judged(declared)

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "labels are not scanned as a whole", "name the paths")
        rows: dict[str, Any] = {}
        with Walk() as walk:
            for target in sorted(targets):
                try:
                    fd = walk.open(target, LOOK)
                except StorageError as error:
                    if error.code != "not_found":
                        rows[target] = error
                    continue
                try:
                    rows[target] = seen(fd, target)
                except StorageError as error:
                    rows[target] = error
                finally:
                    os.close(fd)
        return rows

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import selinuxchange

        selinuxchange.label(target, before, after)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE


def seen(fd: int, path: str) -> dict[str, Any]:
    """The label of an open directory; ``_user`` is its first two parts, which stay."""
    try:
        context = os.getxattr(fd, LABEL).rstrip(b"\0").decode("utf-8", "surrogateescape")
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise refused(exc, path) from exc
        context = "system_u:object_r:unlabeled_t"  # what the kernel itself goes by then
    user, _colon, rest = context.partition(":")
    return {"type": "", **split(context), "_user": user + ":" + rest.partition(":")[0]}


class FileContexts:
    """Port ``fcontext``: a path -> ``{type, level, effective}`` of the local rule for it and all beneath.

    ``effective``: no other rule is stronger. All rules of a run are committed at once, in ``flush``.
    """

    name = "fcontext"
    behind = False
    slow = False

    def __init__(self) -> None:
        self.pending: dict[str, Any] = {}

    def resolve(self, target: str, declared: Any) -> Any:
        if any(char.isspace() for char in target):
            text = "%r has a blank, and a file context of SELinux cannot name it" % target
            raise StorageError("invalid", text, "choose another path", option="path")
        value = judged(declared)
        return {**value, "level": value.get("level", "s0"), "effective": True}

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        rules = local()
        wanted = list(rules if targets is None else targets)
        known = {**rules, **self.pending}
        rows: dict[str, Any] = {target: dict(known[target]) for target in wanted if known.get(target) is not None}
        asked = [target for target in rows if target not in self.pending]
        if asked:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import selinuxchange

            for target, context in selinuxchange.chosen(asked).items():
                given = split(context)
                rows[target]["effective"] = all(given.get(k, "s0") == rows[target][k] for k in ("type", "level"))
        return rows

    def put(self, target: str, before: Any, after: Any) -> None:
        now = self.scan([target]).get(target)
        if now != before:
            raise StorageError("moved", "the file context of %s is not as it was planned for" % target, "run it again")
        self.pending[target] = after

    def flush(self) -> None:
        if self.pending:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import selinuxchange

            pending, self.pending = self.pending, {}
            selinuxchange.commit(pending, local())

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE


def expression(path: str) -> str:
    """The rule's pattern (PCRE): the path itself, and all beneath."""
    return re.sub(r"([.^$|()\[\]{}*+?\\])", r"\\\1", path).rstrip("/") + "(/.*)?"


def local() -> dict[str, dict[str, Any]]:
    """The local rules of the form that is made here, in their order; none where there is no SELinux."""
    try:
        kind = re.search(rb"(?m)^\s*SELINUXTYPE\s*=\s*([\w.-]+)", _read("/etc/selinux/config"))
        name = kind.group(1).decode("ascii") if kind else "targeted"
        data = _read("/etc/selinux/%s/contexts/files/file_contexts.local" % name)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise StorageError("unreadable", failure(exc, "cannot read the file contexts").message) from exc
    rules: dict[str, dict[str, Any]] = {}
    for line in data.split(b"\n"):
        match = _RULE.fullmatch(line.strip())
        if match:
            path = re.sub(rb"\\(.)", rb"\1", match.group(1)).decode("utf-8", "surrogateescape")
            if encode(expression(path)) == match.group(1) + rb"(/.*)?":
                context = split(match.group(2).decode("ascii", "replace"))
                rules[path] = {"type": "", "level": "s0", **context, "effective": True}
    return rules
