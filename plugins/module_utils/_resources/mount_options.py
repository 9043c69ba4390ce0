# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options as data: what the plain words mean, and how a line of fstab holds them. Other words: mount_words."""

from __future__ import annotations

import re
from typing import Any, Iterator, Sequence, Tuple, Union

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
_FSTAB_ONLY = ("defaults", "auto", "noauto", "nofail", "_netdev", "nouser", "loop")

# These make directories as root, format, or unmount by themselves (mount(8), systemd.mount(5)).
_RISKY = ("x-mount.", "x-systemd.makefs", "x-systemd.device-bound")
# For others mount(8) runs a program of that name as root, and that of fuse runs what its source says.
_FSTYPE = re.compile(r"(?!fuse)[a-z0-9][a-z0-9_-]*", re.ASCII)


def parse(
    words: list[str], fstype: str, what: str = "options", accepted: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Fields of a mount cell, and the words as fstab holds them. Raises ``invalid`` naming the word."""
    if not _FSTYPE.fullmatch(fstype):
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_words

        raise mount_words.refuse("fstype", fstype, "is not one that the kernel itself mounts", "for example ext4")
    fields: dict[str, Any] = {}
    kept: list[str] = []
    for word in words:
        name = word.partition("=")[0]
        plain = _WORD.fullmatch(word) is not None
        if word in _FLAGS:
            said: dict[str, Any] = dict((_FLAGS[word],))
        elif plain and (
            (name.startswith("x-") and not name.startswith(_RISKY)) or (word in _FSTAB_ONLY and fstype != "tmpfs")
        ):
            said = {}
        else:
            from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_words

            said = mount_words.meaning(word, fstype, what, plain, accepted)
        for field, meaning in said.items():
            if fields.get(field, meaning) != meaning and not name.endswith("mask"):  # a narrower one comes after
                from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_words

                raise mount_words.refuse(what, word, "contradicts another option", "say one of the two")
            fields[field] = meaning
        if word not in kept and word != "defaults":
            kept.append(word)
    return fields, kept


def line(before: str, given: list[str] | None, head: Own, tail: Own) -> str:
    """The options of a line of fstab; what is not declared stays as the line has it, and so does their order.

    ``head`` and ``tail``: the words that have an option of their own, each as a pattern and the word that is declared:
    None where nothing is, "" for none of them.
    """
    old = before.split(",") if before else []
    said = old if given is None else given
    pairs = (*head, *tail)
    kinds = re.compile("|".join("(?P<_%d>%s)" % (n, pattern) for n, (pattern, _word) in enumerate(pairs)))
    found: dict[str, list[str]] = {"": []}  # by the name of the pattern; "" has all others
    for word in said:
        match = kinds.fullmatch(word)
        found.setdefault(match.lastgroup or "" if match else "", []).append(word)

    def own(start: int, pairs: Own) -> Iterator[str]:
        for n, (pattern, word) in enumerate(pairs, start):
            if word is not None:
                yield from [word] * bool(word)
            else:
                yield from found.get("_%d" % n) or [w for w in old if said is not old and re.fullmatch(pattern, w)]

    rest = [w for w in found[""] if w]
    words = [*own(0, head), *rest, *own(len(head), tail)]
    same = before and {*words, "", "defaults"} == {*old, "", "defaults"}
    return before if same else ",".join(words) or "defaults"
