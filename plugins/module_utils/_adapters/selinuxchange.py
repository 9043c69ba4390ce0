# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting SELinux labels, and file contexts through the libraries that own them: libselinux and libsemanage.

semanage(8) is a program over the same library, which would commit the whole store once for each rule.
"""

from __future__ import annotations

import ctypes
import os
import stat
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import selinux
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode


def label(target: str, before: Any, after: Any) -> None:
    """``before`` None: it was made a moment ago, with whatever label that brought. It goes with its directory."""
    with Walk() as walk:
        try:
            fd = walk.open(target, selinux.LOOK)
        except StorageError as error:
            if error.code != "not_found":
                raise
            raise StorageError("moved", "%s is gone, and its label with it" % target, "run again") from error
        try:
            now = selinux.seen(fd, target)
            if before is not None and any(now.get(key) != value for key, value in state_of(before).items()):
                raise StorageError("moved", "the label of %s is no longer what it was" % target, "run again")
            if after is None:
                return
            level = after.get("level", now.get("level"))
            parts = [now["_user"], after["type"]] + ([level] if level else [])
            os.setxattr(fd, selinux.LABEL, encode(":".join(parts)) + b"\0")
            kept = selinux.seen(fd, target)
        except OSError as exc:
            raise refused(exc, target) from exc
        finally:
            os.close(fd)
    if any(kept.get(key) != after[key] for key in ("type", "level") if key in after):
        text = "%s: the file system did not keep its SELinux label" % target
        raise StorageError("not_enforced", text, "it may have been mounted with context=")


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name, use_errno=True)
    except OSError as exc:
        text = "%s cannot be loaded" % name
        raise StorageError("missing_tool", text, "install the package policycoreutils") from exc


def chosen(paths: list[str]) -> dict[str, str]:
    """What the file contexts of this host, all rules together, say of directories: selabel_lookup(3)."""
    library = _library("libselinux.so.1")
    library.selabel_open.restype = ctypes.c_void_p
    library.selabel_open.argtypes = [ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
    library.selabel_lookup_raw.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_int,
    ]
    library.selabel_close.argtypes = library.freecon.argtypes = [ctypes.c_void_p]
    handle = library.selabel_open(0, None, 0)  # SELABEL_CTX_FILE
    if not handle:
        text = "the file contexts of SELinux cannot be read: %s" % os.strerror(ctypes.get_errno())
        raise StorageError("unreadable", text)
    found = {}
    try:
        for path in paths:
            context = ctypes.c_void_p()
            if library.selabel_lookup_raw(handle, ctypes.byref(context), encode(path), stat.S_IFDIR) == 0:
                found[path] = ctypes.string_at(context.value or 0).decode("ascii", "replace")
                library.freecon(context)
            else:
                found[path] = ""  # no rule at all, not even ours
    finally:
        library.selabel_close(handle)
    return found


class _Store:
    """The policy store in one transaction of libsemanage."""

    def __init__(self) -> None:
        self.library = _library("libsemanage.so.2")
        self.library.semanage_handle_create.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(self.library.semanage_handle_create())
        self.library.semanage_msg_set_callback(self.handle, None, None)  # else it writes to our standard error

    def call(self, name: str, *arguments: Any) -> None:
        if getattr(self.library, name)(self.handle, *arguments) < 0:
            code = "denied" if os.geteuid() else "failed"
            hint = "semanage fcontext -l shows whether the policy store can be read"
            raise StorageError(code, "the SELinux policy store: %s failed" % name, hint)

    def key(self, path: str) -> ctypes.c_void_p:
        key = ctypes.c_void_p()
        self.call("semanage_fcontext_key_create", encode(selinux.expression(path)), 0, ctypes.byref(key))
        return key

    def remove(self, path: str) -> None:
        self.call("semanage_fcontext_del_local", self.key(path))

    def add(self, path: str, value: dict[str, Any]) -> None:
        rule, context = ctypes.c_void_p(), ctypes.c_void_p()
        text = "system_u:object_r:%s:%s" % (value["type"], value["level"])
        if not os.path.exists(selinux.KERNEL + "/mls") or selinux._read(selinux.KERNEL + "/mls") != b"1":
            text = text.rpartition(":")[0]
        self.call("semanage_fcontext_create", ctypes.byref(rule))
        self.call("semanage_fcontext_set_expr", rule, encode(selinux.expression(path)))
        self.library.semanage_fcontext_set_type(rule, 0)  # SEMANAGE_FCONTEXT_ALL
        self.call("semanage_context_from_string", text.encode("ascii"), ctypes.byref(context))
        self.call("semanage_fcontext_set_con", rule, context)
        self.call("semanage_fcontext_modify_local", self.key(path), rule)


def commit(pending: dict[str, Any], rules: dict[str, Any]) -> None:
    """All at once. Of two rules the later is the stronger, so those for what lies beneath come after again."""
    store = _Store()
    store.call("semanage_connect")
    try:
        store.call("semanage_begin_transaction")
        wanted = {path: value for path, value in pending.items() if value is not None}
        for path, value in rules.items():
            if path not in pending and any(up in wanted for up in names.ancestors(path)):
                wanted[path] = value
        for path in rules:
            if path in pending or path in wanted:
                store.remove(path)
        for path in sorted(wanted, key=lambda path: path.count("/")):
            store.add(path, wanted[path])
        store.library.semanage_set_reload(store.handle, 0)  # rules for files are none of the kernel's
        store.call("semanage_commit")
    finally:
        store.library.semanage_disconnect(store.handle)
        store.library.semanage_handle_destroy(store.handle)
