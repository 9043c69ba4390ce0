# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX ACLs: the kernel's attribute (acl(5), include/uapi/linux/posix_acl_xattr.h) and the text people write."""

from __future__ import annotations

import functools
import grp
import pwd
import re
import struct
from typing import Any, Iterable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NOBODY = 0xFFFFFFFF  # the id of entries without one
_PERMS = tuple("".join(c if n & bit else "-" for c, bit in zip("rwx", (4, 2, 1))) for n in range(8))
_ENTRY = re.compile(r"(u|user|g|group):([^:]+):([rwxX-]{1,3}|[0-7])", re.ASCII)
_ids: dict[tuple[str, str], int] = {}
_parsed: dict[tuple[bool, tuple[str, ...]], tuple[str, ...]] = {}


class Acl(NamedTuple):
    """The group's own bits, and the named entries as ``u:<uid>:rwx``: what each may really do, within the mask."""

    group: int
    named: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def decode(raw: bytes) -> Acl:
    """Read the attribute, also one with duplicates and out of order (the kernel keeps those); ``unreadable`` otherwise.

    Of two entries for one user the kernel obeys the first; of a group's it grants what any of them grants.
    """
    if len(raw) < 4 or len(raw) % 8 != 4 or raw[:4] != b"\2\0\0\0":
        raise StorageError("unreadable", "an ACL of %d bytes is not of version 2" % len(raw))
    base: dict[int, int] = {}
    users: dict[int, int] = {}
    groups = set()
    for tag, perm, number in struct.iter_unpack("<HHI", raw[4:]):
        if tag == _USER:
            users.setdefault(number, perm)
        elif tag == _GROUP:
            groups.add((number, perm))
        else:
            base[tag] = perm
    if not base.keys() <= {_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER} or _GROUP_OBJ not in base:
        raise StorageError("unreadable", "an ACL has entries of unknown kinds")
    mask = base.get(_MASK, 7) & 7
    named = ["u:%d:%s" % (number, _PERMS[perm & mask]) for number, perm in users.items()]
    named += ["g:%d:%s" % (number, _PERMS[perm & mask]) for number, perm in groups]
    return Acl(base[_GROUP_OBJ] & mask, tuple(sorted(set(named))))


def masked(mode: int, named: Iterable[str]) -> int:
    """What stat(2) shows for a base mode beside named entries: the group bits are the mask, the union of them all."""
    for entry in named:
        mode |= _PERMS.index(entry[-3:]) << 3
    return mode


@functools.lru_cache(maxsize=256)
def encode(mode: int, named: tuple[str, ...]) -> bytes:
    """The attribute for a base mode and canonical named entries; without any it holds the mode alone."""
    entries = [(_USER_OBJ, mode >> 6 & 7, _NOBODY), (_GROUP_OBJ, mode >> 3 & 7, _NOBODY), (_OTHER, mode & 7, _NOBODY)]
    for entry in named:
        kind, number, perm = entry.split(":")
        entries.append((_USER if kind == "u" else _GROUP, _PERMS.index(perm), int(number)))
    if named:
        entries.append((_MASK, masked(mode, named) >> 3 & 7, _NOBODY))
    # The kernel wants the order of the tags (their numbers rise in it); setfacl(1) sorts the ids too.
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def parse(entries: Any, option: str = "acl", directory: bool = True) -> tuple[str, ...]:
    """Canonical form of ``u:builder:rwX``, ``user:1000:r-x``, ``g:tenants:rwx``: sorted ``u:<uid>:rwx``.

    ``X`` is ``x`` on a directory and nothing on a file. Raises ``invalid``, and ``not_found`` for an unknown name.
    """
    if not isinstance(entries, (list, tuple)):
        raise StorageError("invalid", "%s %.80r is not a list" % (option, entries), option=option)
    try:
        return _parsed[directory, tuple(entries)]
    except (KeyError, TypeError):
        pass
    found: dict[str, str] = {}
    for entry in entries:
        read = _entry(entry, directory) if isinstance(entry, str) else None
        if read is None:
            raise StorageError("invalid", "%s entry %.80r is not valid" % (option, entry), _hint(entry), option=option)
        who, perms = read
        if found.setdefault(who, perms) != perms:
            raise StorageError("invalid", "%s names %.80r twice with different rights" % (option, entry), option=option)
    parsed = _parsed[directory, tuple(entries)] = tuple(sorted([who + perms for who, perms in found.items()]))
    return parsed


@functools.lru_cache(maxsize=8192)
def _entry(entry: str, directory: bool) -> tuple[str, str] | None:
    """``u:1000:`` and ``rwx``, or None; thousands of directories name the same users, each several times."""
    match = _ENTRY.fullmatch(entry)
    perms = _perms(match.group(3), directory) if match else None
    if match is None or perms is None:
        return None
    kind = match.group(1)[0]
    return "%s:%d:" % (kind, number(kind, match.group(2))), perms


@functools.lru_cache(maxsize=256)
def _perms(bits: str, directory: bool) -> str | None:
    letters = bits.replace("X", "x").replace("-", "")
    if len(set(letters)) < len(letters):
        return None
    perm = int(bits) if bits.isdigit() else sum(4 >> "rwx".index(c) for c in letters)
    return _PERMS[perm & ~1 if "X" in bits and not directory else perm]


def _hint(entry: Any) -> str:
    kind = entry.split(":")[0] if isinstance(entry, str) else ""
    if kind in ("d", "default"):
        return "default entries go to default_acl, without the prefix"
    if kind in ("m", "mask", "o", "other") or re.match(r"(u|user|g|group)::", str(entry)):
        return "mode declares the rights of owner, group and others; the mask is computed"
    return "write u:<user>:rwx or g:<group>:r-x"


def number(kind: str, name: Any) -> int:
    """The uid (``u``) or gid (``g``) for a name, decimal text or int. ``not_found`` for a name nobody has."""
    option = "owner" if kind == "u" else "group"
    if isinstance(name, str) and len(name) <= 10 and name.isascii() and name.isdigit():
        name = int(name)
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < _NOBODY:
        return name
    if not isinstance(name, str) or not name:
        raise StorageError("invalid", "%s %.80r is neither a name nor an id" % (option, name), option=option)
    if (kind, name) not in _ids:
        try:
            _ids[kind, name] = pwd.getpwnam(name).pw_uid if kind == "u" else grp.getgrnam(name).gr_gid
        except (KeyError, ValueError) as exc:  # ValueError: a NUL or a character that no system name can hold
            raise StorageError("not_found", "there is no %s %.80r" % (option, name), option=option) from exc
    return _ids[kind, name]
