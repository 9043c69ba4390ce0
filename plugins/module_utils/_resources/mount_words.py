# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options that are no plain flags: which lose data, authority or a secret, and how each is shown.

Loaded only where a declaration has such a word.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# Words that hand root's authority to somebody else's program or path (mount(8), util-linux).
_FORBIDDEN = ("helper", "uhelper", "comment", "context", "fscontext", "defcontext", "rootcontext")
# These let others than root mount, and unmount, what a line of fstab names (mount(8)).
_AUTHORITY = ("user", "users", "owner", "group")
# A secret itself: fstab, results and logs would show it.
_SECRETS = ("secret", "password", "password2", "pass", "passwd", "cred")
# Committed data is lost at power loss (ext4(5), xfs(5)); nobh is no option any more.
UNSAFE = ("barrier=0", "nobarrier", "nobh", "data=writeback")
# The closed set of tmpfs (kernel Documentation/filesystems/tmpfs.rst); its bounds have options of their own.
_TMPFS = ("huge", "mpol", "inode32", "inode64")
# Words that only say that another one is off, and other names of the same thing (mount(8), xfs(5)).
_OPPOSITES = {"async": "sync", **{"no" + name: name for name in ("lazytime", "discard", "largeio", "autodefrag")}}
_XFS = {"quota": "usrquota", "uquota": "usrquota", "gquota": "grpquota", "pquota": "prjquota"}
MASKS = {"umask": ("fmask", "dmask"), "fmask": ("fmask",), "dmask": ("dmask",)}


def meaning(word: str, fstype: str, what: str, plain: bool, accepted: Sequence[str] = ()) -> dict[str, Any]:
    """Fields of a mount cell as the kernel shows them, by whatever name they are asked for. Raises ``invalid``."""
    name, eq, text = word.partition("=")
    if name.strip().lower() in _SECRETS:
        raise refuse(what, name + "=", "would be shown to everybody", "name a file: secretfile or credentials")
    if not plain:  # what stands after = may be a secret
        hint = "one word or name=value an entry, no comma or space"
        raise refuse(what, name + "=..." * bool(eq), "is not one mount option", hint)
    if word in UNSAFE:
        if word not in accepted:
            hint = "leave it out, or name it in allow_unsafe_options too"
            raise refuse(what, word, "loses committed data at power loss", hint)
        if name != "data":  # the kernel takes nobh and forgets it
            return {} if name == "nobh" else {"o:nobarrier": True}
    if name in _AUTHORITY:
        hint = "leave it out: root mounts it" + ("; for a login write username=" if eq else "")
        raise refuse(what, word, "lets others than root mount and unmount it", hint)
    if name in _FORBIDDEN or name.startswith(("X-", "x-")):
        raise refuse(what, word, "is not allowed", "declare it in another way")
    if fstype == "tmpfs" and name not in _TMPFS:
        raise refuse(what, word, "is not an option of tmpfs", "size, inodes, mode, owner and noswap are own options")
    value: Any = text if eq else True
    if name in _OPPOSITES and not eq:
        return {"o:" + _OPPOSITES[name]: False}
    if fstype == "xfs":
        name = _XFS.get(name, name)
        if name in ("allocsize", "logbsize") and eq:
            value = "%dk" % (size.parse(value, name) // 1024)
    elif name == "subvol" and eq:
        value = "/" + text.strip("/")
    elif name in ("compress", "compress-force"):
        value = {True: "zlib", "none": "no"}.get(value, value)
    elif word == "barrier=1":
        value = True
    elif name in MASKS and fstype in ("vfat", "msdos", "exfat", "auto") and re.fullmatch("[0-7]{1,4}", text):
        return {"o:" + mask: "%04o" % int(text, 8) for mask in MASKS[name]}
    return {"o:" + name: value}


def refuse(what: str, word: str, problem: str, hint: str) -> StorageError:
    return StorageError("invalid", "%s: %.120r %s" % (what, word, problem), hint, option=what)
