# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options as data: which words a filesystem takes, what they mean, which of them lose data or authority."""

from __future__ import annotations

import re
from typing import Any, Iterator, Sequence, Tuple, Union

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

Own = Sequence[Tuple[str, Union[str, None]]]
_WORD = re.compile(r"[A-Za-z0-9_.:+-]+(=[A-Za-z0-9_.:/+@%{}-]*)?", re.ASCII)
_FLAGS = {
    "ro": ("read_only", True), "rw": ("read_only", False),
    "nosuid": ("nosuid", True), "suid": ("nosuid", False),
    "nodev": ("nodev", True), "dev": ("nodev", False),
    "noexec": ("noexec", True), "exec": ("noexec", False),
    "relatime": ("atime", "relatime"), "noatime": ("atime", "noatime"), "strictatime": ("atime", "strictatime"),
    "nodiratime": ("nodiratime", True), "diratime": ("nodiratime", False),
}  # fmt: skip
# Read by mount(8), systemd or nobody, never by the kernel: they belong in fstab alone.
_FSTAB_ONLY = ("defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "loop")
# Words that hand root's authority to somebody else's program or path (mount(8), util-linux).
_FORBIDDEN = ("helper", "uhelper", "X-mount.mkdir", "comment", "context", "fscontext", "defcontext", "rootcontext")
# A secret itself: fstab, results and logs would show it.
_SECRETS = ("secret", "password", "password2", "pass", "passwd", "cred")
# Committed data is lost at power loss (ext4(5), xfs(5)); nobh is no option any more.
UNSAFE = ("barrier=0", "nobarrier", "nobh", "data=writeback")
# The closed set of tmpfs (kernel Documentation/filesystems/tmpfs.rst); its bounds have options of their own.
_TMPFS = ("huge", "mpol", "inode32", "inode64")
# Words that only say that another one is off, and other names of the same thing (mount(8), xfs(5)).
_OPPOSITES = {"async": "sync", **{"no" + name: name for name in ("lazytime", "discard", "largeio", "autodefrag")}}
_XFS = {"quota": "usrquota", "uquota": "usrquota", "gquota": "grpquota", "pquota": "prjquota"}
_MASKS = {"umask": ("fmask", "dmask"), "fmask": ("fmask",), "dmask": ("dmask",)}


def parse(words: list[str], fstype: str, what: str = "options") -> tuple[dict[str, Any], list[str]]:
    """Fields of a mount cell, and the words as fstab holds them. Raises ``invalid`` naming the word."""
    fields: dict[str, Any] = {}
    kept: list[str] = []
    for word in words:
        name, eq, value = word.partition("=")
        if name.strip().lower() in _SECRETS:
            raise _refuse(what, name + "=", "would be shown to everybody", "name a file: secretfile or credentials")
        if not _WORD.fullmatch(word):
            hint = "one word or name=value an entry, no comma or space"
            raise _refuse(what, name + "=..." * bool(eq), "is not one mount option", hint)
        if word in UNSAFE:
            raise _refuse(what, word, "loses committed data at power loss", "leave it out")
        if name in _FORBIDDEN or name.startswith("X-"):
            raise _refuse(what, word, "is not allowed", "declare it in another way")
        if fstype == "tmpfs" and name not in _TMPFS and word not in _FLAGS and not name.startswith("x-"):
            raise _refuse(
                what, word, "is not an option of tmpfs", "size, inodes, mode, owner and noswap are own options"
            )
        said: dict[str, Any] = {}
        if word in _FLAGS:
            said = dict((_FLAGS[word],))
        elif word not in _FSTAB_ONLY and not name.startswith("x-"):
            said = _spelled(fstype, name, value if eq else True)
        for field, meaning in said.items():
            if fields.get(field, meaning) != meaning and name not in _MASKS:
                raise _refuse(what, word, "contradicts another option", "say one of the two")
            fields[field] = meaning
        if word not in kept and word != "defaults":
            kept.append(word)
    return fields, kept


def line(before: str, given: list[str] | None, head: Own, tail: Own) -> str:
    """The options of a line of fstab; what is not declared stays as the line has it, and so does their order.

    ``head`` and ``tail``: the words that have an option of their own, each as a pattern and the word that is declared:
    None where nothing is, "" for none of them.
    """
    old = before.split(",")
    said = old if given is None else given

    def own(pairs: Own) -> Iterator[str]:
        for pattern, word in pairs:
            mine = [w for w in said if re.fullmatch(pattern, w)] or [w for w in old if re.fullmatch(pattern, w)]
            yield from mine if word is None else [word] * bool(word)

    rest = [w for w in said if w and not any(re.fullmatch(pattern, w) for pattern, _word in (*head, *tail))]
    words = [*own(head), *rest, *own(tail)]
    same = before and {*words, "", "defaults"} == {*old, "", "defaults"}
    return before if same else ",".join(words) or "defaults"


def _spelled(fstype: str, name: str, value: Any) -> dict[str, Any]:
    """An option as the kernel shows it, by whatever name it is asked for."""
    if name in _OPPOSITES and value is True:
        return {"o:" + _OPPOSITES[name]: False}
    if fstype == "xfs":
        name = _XFS.get(name, name)
        if name in ("allocsize", "logbsize") and value is not True:
            from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size

            value = "%dk" % (size.parse(value, name) // 1024)
    elif name == "subvol" and value is not True:
        value = "/" + value.strip("/")
    elif name in ("compress", "compress-force"):
        value = {True: "zlib", "none": "no"}.get(value, value)
    elif (name, value) == ("barrier", "1"):
        value = True
    elif name in _MASKS and fstype in ("vfat", "msdos", "exfat", "auto") and re.fullmatch("[0-7]{1,4}", str(value)):
        return {"o:" + mask: "%04o" % int(value, 8) for mask in _MASKS[name]}
    return {"o:" + name: value}


def _refuse(what: str, word: str, problem: str, hint: str) -> StorageError:
    return StorageError("invalid", "%s: %.120r %s" % (what, word, problem), hint, option=what)
