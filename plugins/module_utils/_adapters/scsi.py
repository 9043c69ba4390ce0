# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk says of itself, through the kernel's generic driver (sg): is it still there, and how large is it?

A disk whose target is gone answers nobody for two minutes, and whoever reads it cannot even be killed meanwhile. A
command that is written to ``/dev/sgN`` can be left to itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import time
from typing import Any, Iterable

_SG_IO, _FROM = 0x2285, -3
_READ_CAPACITY = bytes([0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])  # SBC-4: READ CAPACITY (16)
_ROOM, _SENSE = 32, 32
_UNIT_ATTENTION, _NO_SUCH_LUN = 6, (5, 0x25)  # SPC-5: told once to each initiator; logical unit not supported
_SECONDS, _TRIES = 5.0, 8


class _Header(ctypes.Structure):  # sg_io_hdr, scsi/sg.h
    _fields_ = [
        ("interface_id", ctypes.c_int), ("direction", ctypes.c_int), ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte), ("iovec_count", ctypes.c_ushort), ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p), ("cmdp", ctypes.c_void_p), ("sbp", ctypes.c_void_p), ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint), ("pack_id", ctypes.c_int), ("usr_ptr", ctypes.c_void_p), ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte), ("msg_status", ctypes.c_ubyte), ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort), ("driver_status", ctypes.c_ushort), ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint), ("info", ctypes.c_uint),
    ]  # fmt: skip


class _Question:
    """READ CAPACITY, its memory, and what became of it."""

    def __init__(self) -> None:
        self.data, self.sense = ctypes.create_string_buffer(_ROOM), ctypes.create_string_buffer(_SENSE)
        self.text = ctypes.create_string_buffer(_READ_CAPACITY, len(_READ_CAPACITY))
        self.head = _Header(interface_id=ord("S"), direction=_FROM, cmd_len=len(_READ_CAPACITY))
        self.head.mx_sb_len, self.head.dxfer_len, self.head.timeout = _SENSE, _ROOM, int(_SECONDS * 1000)
        places = (ctypes.addressof(each) for each in (self.data, self.text, self.sense))
        self.head.dxferp, self.head.cmdp, self.head.sbp = places

    def answer(self) -> tuple[bool, int | None]:
        """Is it said, or to be asked again? And the size, None where there is no such LUN any more."""
        if self.head.status == 0 and self.head.host_status == 0:
            data = self.data.raw
            return True, (int.from_bytes(data[:8], "big") + 1) * int.from_bytes(data[8:12], "big")
        if not self.head.sb_len_wr:
            raise OSError(errno.EIO, "status %02x of the host %02x" % (self.head.status, self.head.host_status))
        raw = self.sense.raw
        sense = (raw[2] & 15, raw[12]) if raw[0] & 0x7E == 0x70 else (raw[1] & 15, raw[2])
        if sense == _NO_SUCH_LUN:
            return True, None
        if sense[0] != _UNIT_ATTENTION:
            raise OSError(errno.EIO, "it says sense %x/%02x" % sense)
        return False, None


def sizes(names: Iterable[str]) -> dict[str, int | None]:
    """Of each disk, such as ``sdc``, its bytes; None for one that is no longer served.

    All of them are asked at the same time. Raises OSError, with ETIMEDOUT when one does not answer.
    """
    found: dict[str, int | None] = {}
    lines: dict[str, int] = {}
    try:
        for name in names:
            generic = _generic(name)
            if generic:
                lines[name] = os.open(generic, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            else:
                found[name] = _one(name)
        until = time.monotonic() + _SECONDS
        asked = {name: _asked(fd) for name, fd in lines.items()}
        for name, question in asked.items():
            for _time in range(_TRIES):
                _wait(lines[name], until)
                os.readv(lines[name], [question.head])
                said, found[name] = question.answer()
                if said:
                    break
                question = _asked(lines[name])
        return found
    finally:
        for fd in lines.values():
            os.close(fd)


def _generic(name: str) -> str:
    try:
        return "/dev/" + os.listdir("/sys/block/%s/device/scsi_generic" % name)[0]
    except (FileNotFoundError, IndexError):  # the driver is not loaded
        return ""


def _asked(fd: int) -> Any:
    question = _Question()
    os.write(fd, bytes(question.head))
    return question


def _wait(fd: int, until: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(until - time.monotonic(), 0) * 1000):
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _one(name: str) -> int | None:
    """Without that driver: by a process that may be left behind, where the kernel waits for a disk that is gone."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import child

    def ask() -> int:
        line, answer = os.open("/dev/" + name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), os.memfd_create("size")
        for _time in range(_TRIES):
            question = _Question()
            fcntl.ioctl(line, _SG_IO, question.head)
            said, size = question.answer()
            if said:
                os.write(answer, json.dumps(size).encode())
                break
        return answer

    fd = child.Child(ask, _SECONDS).answer()
    if fd is None:
        raise OSError(errno.EIO, "nothing was said")
    with open(fd, "rb") as stream:
        stream.seek(0)
        size: int | None = json.loads(stream.read())
        return size
