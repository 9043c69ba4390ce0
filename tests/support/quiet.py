# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that may look at everything and change nothing: seccomp(2) stops it at its first mutating system call.
Nor may it start another process or thread.

It costs next to nothing, so that every check run and every second run of a property test can be held to it. The call is
not carried out: SIGSYS arrives instead, and its handler writes the stack to standard error and ends the process.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import traceback
from typing import Any

STATUS = 97  # of a process that tried
# Numbers on x86_64 and aarch64 (None: that machine has no such call).
_CALLS = """
    truncate 76 45, ftruncate 77 46, fallocate 285 47, rename 82 -, renameat 264 38, renameat2 316 276, mkdir 83 -,
    mkdirat 258 34, rmdir 84 -, creat 85 -, link 86 -, linkat 265 37, unlink 87 -, unlinkat 263 35, symlink 88 -,
    symlinkat 266 36, chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55,
    lchown 94 -, fchownat 260 54, mknod 133 -, mknodat 259 33, utime 132 -, utimes 235 -, futimesat 261 -,
    utimensat 280 88, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15,
    fremovexattr 199 16, mount 165 40, umount2 166 39, pivot_root 155 41, fsopen 430 430, fsconfig 431 431,
    fsmount 432 432, fspick 433 433, move_mount 429 429, mount_setattr 442 442,
    swapon 167 224, swapoff 168 225, sync 162 81, syncfs 306 267, fsync 74 82, fdatasync 75 83, flock 73 32,
    copy_file_range 326 285, sendfile 40 71, execve 59 221, execveat 322 281, fork 57 -, vfork 58 -,
    clone 56 220, clone3 435 435, unshare 272 97, setns 308 268
"""
_WRITES = {"write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66), "pwritev": (296, 70), "pwritev2": (328, 287)}
_OPENS = {"open": (2, None), "openat": (257, 56)}
_IOCTL = (16, 29)
_QUOTAS = {"quotactl": (179, 60), "quotactl_fd": (443, 443)}
# GETFMT, GETINFO, GETQUOTA, GETNEXTQUOTA, and those of XFS: GETQUOTA, GETQSTAT, GETQSTATV, GETNEXTQUOTA
_ASKING = (0x800004, 0x800005, 0x800007, 0x800009, 0x5803, 0x5805, 0x5808, 0x5809)
_CREATING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
# Those that only look: terminals, sizes of devices, loop status, flags and project ids, trees and subvolumes of Btrfs,
# size and label of XFS.
_LOOKING = (0x5401, 0x5413, 0x5451, 0x80081272, 0x1268, 0x125E, 0x4C05, 0x80086601, 0x801C581F, 0x8100587E)
_LOOKING += (0xC0709411, 0xD0009412, 0x8400941F, 0x80705864, 0x81009431, 0x80089419)
_ALLOW, _TRAP, _ARCH = 0x7FFF0000, 0x00030000, {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _SET, _ABOVE, _RETURN = 0x20, 0x15, 0x45, 0x25, 0x06  # ld abs; jeq, jset, jgt with a constant; ret
_SHIFT = 0x74  # rsh


def _program() -> list[tuple[int, int, int, int]]:
    machine = platform.machine()
    column = list(_ARCH).index(machine)
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _TRAP), (_LOAD, 0, 0, 0)]

    def when(number: int | None, body: list[tuple[int, int, int, int]]) -> None:
        if number is not None:
            code.extend([(_EQUAL, 0, len(body), number), *body])

    for words in _CALLS.split(","):
        listed = words.split()[1 + column]
        when(None if listed == "-" else int(listed), [(_RETURN, 0, 0, _TRAP)])
    for pair in _WRITES.values():  # its answer it may write, to the descriptors it was born with
        when(pair[column], [(_LOAD, 0, 0, 16), (_ABOVE, 0, 1, 2), (_RETURN, 0, 0, _TRAP), (_RETURN, 0, 0, _ALLOW)])
    for name, pair in _OPENS.items():
        flags = (_LOAD, 0, 0, 16 + 8 * (1 if name == "open" else 2))
        when(pair[column], [flags, (_SET, 0, 1, _CREATING), (_RETURN, 0, 0, _TRAP), (_RETURN, 0, 0, _ALLOW)])
    asked = [(_LOAD, 0, 0, 24)]
    asked += [(_EQUAL, len(_LOOKING) - index, 0, each) for index, each in enumerate(_LOOKING)]
    when(_IOCTL[column], [*asked, (_RETURN, 0, 0, _TRAP), (_RETURN, 0, 0, _ALLOW)])
    for name, pair in _QUOTAS.items():
        asked = [(_LOAD, 0, 0, 16 + 8 * (name == "quotactl_fd")), (_SHIFT, 0, 0, 8)]  # what is left of it is whose
        asked += [(_EQUAL, len(_ASKING) - index, 0, each) for index, each in enumerate(_ASKING)]
        when(pair[column], [*asked, (_RETURN, 0, 0, _TRAP), (_RETURN, 0, 0, _ALLOW)])
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _stop(_number: int, frame: Any) -> None:
    os.write(2, ("a mutating system call\n" + "".join(traceback.format_stack(frame))).encode())
    os._exit(STATUS)


def look_only() -> None:
    """From here on this process changes nothing any more."""

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    signal.signal(signal.SIGSYS, _stop)
    program = _program()
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    libc = ctypes.CDLL(None, use_errno=True)
    given = Filter(len(program), ctypes.addressof(packed))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(given), 0, 0):  # NO_NEW_PRIVS, SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
