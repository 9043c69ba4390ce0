# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of LUKS, by our own reads: LUKS2 On-Disk Format Specification 1.1.1, both copies with their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import Any, NamedTuple

MAGIC, SECOND = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
SIZES = tuple(1 << shift for shift in range(14, 23))  # of one copy, in bytes; so the second one lies there too
# magic, version, hdr_size, seqid, label, checksum_alg, salt, uuid, subsystem, hdr_offset, padding, csum
_BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_DIGESTS = ("sha256", "sha512", "sha1")


class Header(NamedTuple):
    """``intact``: how many copies are; of one with none only what its binary part says is known, should it be true."""

    version: int
    uuid: str
    subsystem: str
    seqid: int
    intact: int
    meta: dict[str, Any]

    @property
    def offset(self) -> int:
        """Where the data begin, in bytes."""
        return min((int(s["offset"]) for s in self.meta.get("segments", {}).values()), default=0)

    @property
    def slots(self) -> str:
        """A digest of all that says which keys open it."""
        known = {name: self.meta.get(name) for name in ("keyslots", "digests")}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def read(fd: int) -> Header | None:
    """None where neither copy is; raises OSError. Of two that differ the later one counts (LUKS2 spec, 2.3)."""
    head = os.pread(fd, _BINARY.size, 0)
    if head[:6] == MAGIC and head[6:8] == b"\0\1":
        return Header(1, _text(head[168:208]), "", 0, 1, {})
    first = _copy(fd, 0, MAGIC)
    places = (first[0],) if first and first[0] in SIZES else SIZES
    second = next(filter(None, (_copy(fd, place, SECOND) for place in places)), None)
    copies = [header for _size, header in filter(None, (first, second))]
    whole = [header for header in copies if header.intact]
    if whole:
        return max(whole, key=lambda header: header.seqid)._replace(intact=len(whole))
    return copies[0] if copies else None


def _copy(fd: int, place: int, magic: bytes) -> tuple[int, Header] | None:
    """The size and the content of the copy that begins there."""
    head = os.pread(fd, _BINARY.size, place)
    if head[:6] != magic or len(head) < _BINARY.size:
        return None
    _magic, version, size, seqid, _label, algorithm, _salt, uuid, subsystem, at, _pad, digest = _BINARY.unpack(head)
    found = Header(version, _text(uuid), _text(subsystem), seqid, 0, {})
    name = _text(algorithm)
    if size not in SIZES or version != 2 or at != place or name not in _DIGESTS:
        return size, found
    data = bytearray(os.pread(fd, size, place))
    data[_BINARY.size - 64 : _BINARY.size] = bytes(64)
    proof = hashlib.new(name, data).digest()
    if len(data) != size or digest[: len(proof)] != proof:
        return size, found
    try:
        meta = json.loads(bytes(data[4096:]).split(b"\0", 1)[0])
    except ValueError:
        return size, found
    return size, found._replace(intact=1, meta=meta) if isinstance(meta, dict) else found


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
