# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module run call by call: each system call that may change something can be the last one, or can fail.

A run is a fork of this process, in which everything is imported already: a Python start would cost more than all the
rest. It stands under a filter of seccomp(2) whose listener is this process (SECCOMP_RET_USER_NOTIF), so a call
waits here before it takes effect: it goes on, or fails with an error of ours, or never returns. Programs that the run
starts inherit the filter. strace(1), which tampers likewise, must be started for each run, and is asked in a test
whether it sees the same calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import io
import json
import os
import pkgutil
import platform
import select
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any, Callable, NamedTuple

_PLUGINS = "ansible_collections.bulkhead.storage.plugins."

# Numbers of x86_64 (arch/x86/entry/syscalls/syscall_64.tbl).
CALLS = {
    "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328, "sendfile": 40, "splice": 275,
    "copy_file_range": 326, "fsync": 74, "fdatasync": 75, "sync": 162, "syncfs": 306, "sync_file_range": 277,
    "truncate": 76, "ftruncate": 77, "fallocate": 285, "creat": 85, "mkdir": 83, "mkdirat": 258, "mknod": 133,
    "mknodat": 259, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "rename": 82, "renameat": 264,
    "renameat2": 316, "rmdir": 84, "unlink": 87, "unlinkat": 263, "chmod": 90, "fchmod": 91, "fchmodat": 268,
    "fchmodat2": 452, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "utime": 132, "utimes": 235,
    "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
    "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "removexattrat": 466, "quotactl": 179,
    "quotactl_fd": 443, "mount": 165, "umount2": 166, "pivot_root": 155, "swapon": 167, "swapoff": 168,
    "open_tree": 428, "open_tree_attr": 467, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "mount_setattr": 442,
}  # fmt: skip
_OPEN, _OPENAT, _OPENAT2, _IOCTL, _EXECVE, _EXIT_GROUP = 2, 257, 437, 16, 59, 231
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# linux/loop.h, linux/btrfs.h, linux/fs.h, xfs_fs.h: those that change something.
IOCTLS = {
    "LOOP_SET_FD": 0x4C00, "LOOP_CLR_FD": 0x4C01, "LOOP_SET_STATUS64": 0x4C04, "LOOP_SET_CAPACITY": 0x4C07,
    "LOOP_CONFIGURE": 0x4C0A, "BLKROSET": 0x125D, "BLKRRPART": 0x125F, "BLKDISCARD": 0x1277, "BLKZEROOUT": 0x127F,
    "BLKPG": 0x1269,
    "FICLONE": 0x40049409, "FICLONERANGE": 0x4020940D, "FS_IOC_SETFLAGS": 0x40086602, "FS_IOC_FSSETXATTR": 0x401C5820,
    "FS_IOC_SETFSLABEL": 0x41009432, "EXT4_IOC_RESIZE_FS": 0x40086610, "XFS_IOC_FSGROWFSDATA": 0x4010586E,
    "BTRFS_IOC_RESIZE": 0x50009403, "BTRFS_IOC_SYNC": 0x9408, "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
    "BTRFS_IOC_SNAP_DESTROY": 0x5000940F, "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417, "BTRFS_IOC_QUOTA_CTL": 0xC0109428,
    "BTRFS_IOC_QGROUP_ASSIGN": 0x40189429, "BTRFS_IOC_QGROUP_CREATE": 0x4010942A,
    "BTRFS_IOC_SUBVOL_SETFLAGS": 0x4008941A, "BTRFS_IOC_QGROUP_LIMIT": 0x8030942B, "BTRFS_IOC_QUOTA_RESCAN": 0x4040942C,
}  # fmt: skip
_NAMES = {number: name for name, number in CALLS.items()}
_NAMES.update({_OPEN: "open", _OPENAT: "openat", _OPENAT2: "openat2", _EXECVE: "execve", _EXIT_GROUP: "exit_group"})
_IOCTL_NAMES = {number: name for name, number in IOCTLS.items()}
_FIRST_PATH = {"mkdirat": 1, "mknodat": 1, "linkat": 3, "symlinkat": 2, "renameat": 3, "renameat2": 3, "unlinkat": 1}
_FIRST_PATH.update({"openat": 1, "openat2": 1, "fchownat": 1, "fchmodat": 1, "utimensat": 1, "umount2": 0})
_FIRST_PATH.update({"mkdir": 0, "rmdir": 0, "unlink": 0, "rename": 1, "link": 1, "symlink": 1, "chmod": 0, "chown": 0})
_FIRST_PATH.update({"fsopen": 0, "fsconfig": 2, "truncate": 0, "setxattr": 0, "open": 0})
_FD_ONLY = ("write", "pwrite64", "writev", "pwritev", "pwritev2")

_NEW_LISTENER, _USER_NOTIF, _ALLOW = 8, 0x7FC00000, 0x7FFF0000
_RECV, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_PR_SET_CHILD_SUBREAPER = 36
_SYS_SECCOMP = 317
_libc = ctypes.CDLL(None, use_errno=True)
DEADLINE = 60.0


class Call(NamedTuple):
    """``own``: of the run itself, else of a program that it started. ``text`` is for people."""

    own: bool
    name: str
    text: str
    pid: int


class Ended(NamedTuple):
    """``result`` is what the module printed, None when it was killed or printed anything else (then ``output``)."""

    status: int  # as os.waitstatus_to_exitcode tells it
    result: dict[str, Any] | None
    output: str
    calls: list[Call]


class Kill(NamedTuple):
    """What a decision may be, beside None and an error number."""

    run: bool = True  # the module's process
    caller: bool = False  # the program that makes the call


Decide = Callable[[Call], Any]


def _filter() -> bytes:
    """load the number; to the listener with what changes something, by the flags or the request where these tell."""
    load, jump_equal, jump_set, leave = 0x20, 0x15, 0x45, 0x06

    def one(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, true, false, value)

    def argument(index: int) -> int:
        return 16 + 8 * index  # struct seccomp_data, the lower half

    lines = [one(load, 0)]
    for number in sorted({*CALLS.values(), _OPENAT2, _EXECVE, _EXIT_GROUP}):
        lines += [one(jump_equal, number, 0, 1), one(leave, _USER_NOTIF)]
    for number, flags in ((_OPEN, 1), (_OPENAT, 2)):
        lines += [one(jump_equal, number, 0, 4), one(load, argument(flags)), one(jump_set, WRITES, 0, 1)]
        lines += [one(leave, _USER_NOTIF), one(leave, _ALLOW)]
    lines += [one(jump_equal, _IOCTL, 1, 0), one(leave, _ALLOW), one(load, argument(1))]
    for request in sorted(IOCTLS.values()):
        lines += [one(jump_equal, request, 0, 1), one(leave, _USER_NOTIF)]
    return b"".join([*lines, one(leave, _ALLOW)])


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _listen() -> int:
    """Put this process under the filter; the descriptor its calls are heard on."""
    if platform.machine() != "x86_64":
        raise RuntimeError("the numbers of the system calls are those of x86_64")
    text = _filter()
    program = _Program(len(text) // 8, text)
    fd: int = _libc.syscall(
        ctypes.c_long(_SYS_SECCOMP), ctypes.c_ulong(1), ctypes.c_ulong(_NEW_LISTENER), ctypes.byref(program)
    )
    if fd < 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
    return fd


def prepare(modules: bool = True) -> None:
    """Import all that a run may import, and inherit the programs of a run that was killed.

    Without ``modules`` nothing of Ansible: for runs of the engine alone, see ``forked``.
    """
    folders = ["module_utils._engine", "module_utils._resources", "module_utils._adapters"]
    for folder in [*folders, "modules"] if modules else folders:
        package = importlib.import_module(_PLUGINS + folder)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module("%s.%s" % (package.__name__, module.name))
    for name in ("_kinds", "_shell", "_layout") if modules else ("_kinds",):
        importlib.import_module("%smodule_utils.%s" % (_PLUGINS, name))
    for name in ("sqlite3", "uuid", "subprocess", "concurrent.futures.thread"):
        importlib.import_module(name)
    if modules:
        importlib.import_module("ansible.module_utils.basic")
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    module: str, options: dict[str, Any], decide: Decide | None = None, check: bool = False, alone: bool = True
) -> Ended:
    """One run of a module, as Ansible would start it. The rest is told in ``forked``."""

    def main() -> None:
        from ansible.module_utils import basic

        arguments = {**options, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        basic._ANSIBLE_PROFILE = "legacy"
        sys.modules[_PLUGINS + "modules." + module].main()

    return forked(main, decide, alone)


def forked(main: Callable[[], None], decide: Decide | None = None, alone: bool = True, within: bool = True) -> Ended:
    """A process of its own calls ``main``, which prints JSON. ``decide`` is asked about every call that changes
    something; not ``within`` programs, if told so, but for their start and their end.

    Returns when all that the run started has ended too; unless ``alone``, when the run itself has.
    """
    reading, writing = os.pipe()
    here, there = socket.socketpair()
    others = _children()
    pid = os.fork()
    if not pid:
        _child(main, writing, there if decide else None)
    os.close(writing)
    there.close()
    listener = -1
    if decide:
        _data, (listener,), _flags, _address = socket.recv_fds(here, 1, 1)
    here.close()
    try:
        return _serve(pid, listener, reading, decide, others if alone else None, within)
    finally:
        os.close(reading)
        if listener >= 0:
            os.close(listener)


def _children() -> set[int]:
    """Those of this process, whichever thread has them: what a run started and left comes here too."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with open("/proc/self/task/%s/children" % thread, encoding="ascii") as stream:
            found.update(map(int, stream.read().split()))
    return found


def _child(main: Callable[[], None], writing: int, tell: socket.socket | None) -> None:
    status = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "r" if not n else "w")) for n in range(3))
        if tell is not None:
            listener = _listen()
            socket.send_fds(tell, [b"x"], [listener])
            os.close(listener)
            tell.close()
        main()
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _serve(
    pid: int, listener: int, reading: int, decide: Decide | None, others: set[int] | None, within: bool
) -> Ended:
    calls: list[Call] = []
    output, status, deadline = b"", -1, time.monotonic() + DEADLINE
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    open_ends = 1 + (listener >= 0)
    if listener >= 0:
        waiting.register(listener, select.POLLIN)
    while True:
        for fd, events in waiting.poll(20 if open_ends else 1):
            if fd == reading:
                piece = os.read(reading, 65536)
                output += piece
                if not piece:
                    waiting.unregister(reading)
                    open_ends -= 1
            elif events & select.POLLIN:
                _hear(listener, pid, decide, calls, within)
            else:
                waiting.unregister(listener)
                open_ends -= 1
        left = {pid} if others is None else _children() - others
        for child in left & _children():
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended == pid:
                status = os.waitstatus_to_exitcode(code)
        if not left & _children():
            break
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError("a run did not end; its last calls: %s" % [call.text for call in calls[-3:]])
    while True:  # what it said at the very end
        piece = os.read(reading, 65536)
        if not piece:
            break
        output += piece
    text = output.decode("utf-8", "replace")
    try:
        result = json.loads(text)
    except ValueError:
        result = None
    return Ended(status, result if isinstance(result, dict) else None, text, calls)


def _hear(listener: int, run_pid: int, decide: Decide | None, calls: list[Call], within: bool) -> None:
    heard = bytearray(80)  # struct seccomp_notif
    try:
        fcntl.ioctl(listener, _RECV, heard)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):  # killed meanwhile
            return
        raise
    notice, pid, _flags, number = struct.unpack_from("=QIIi", heard)
    arguments = struct.unpack_from("=6Q", heard, 32)
    answer = struct.pack("=QqiI", notice, 0, 0, 1)  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
    call = None
    try:
        if within or number in (_EXECVE, _EXIT_GROUP) or _is_own(run_pid, pid):
            call = _understood(run_pid, pid, number, arguments)
    except (FileNotFoundError, ProcessLookupError):
        return  # killed meanwhile
    if call is not None and decide is not None:
        calls.append(call)
        decision = decide(call)
        if isinstance(decision, Kill):
            for victim, dies in ((run_pid, decision.run), (call.pid, decision.caller)):
                if dies:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
            if decision.caller or call.own:
                return  # an answer could come before the signal
        elif decision:
            answer = struct.pack("=QqiI", notice, 0, -decision, 0)
    with contextlib.suppress(FileNotFoundError):  # ENOENT: it was killed
        fcntl.ioctl(listener, _SEND, answer)


def _is_own(run_pid: int, pid: int) -> bool:
    return os.path.exists("/proc/%d/task/%d" % (run_pid, pid))


def _understood(run_pid: int, pid: int, number: int, arguments: tuple[int, ...]) -> Call | None:
    """None for what changes no file: a write to a pipe, an open to read, a folder that is there."""
    own = _is_own(run_pid, pid)
    if number == _IOCTL:
        name = _IOCTL_NAMES[arguments[1] & 0xFFFFFFFF]
        return Call(own, name, "%s %s" % (name, _behind(pid, arguments[0])), pid)
    name = _NAMES[number]
    if name == "exit_group":
        return None if own else Call(False, name, "exit of " + _program(pid), pid)
    if name in _FD_ONLY or name == "ftruncate":
        at = _behind(pid, arguments[0])
        if not at.startswith("/") or at in ("/dev/null", "/dev/full", "/dev/zero"):
            return None
        return Call(own, name, "%s %s" % (name, at), pid)
    if name == "openat2":
        flags = struct.unpack("=Q", _memory(pid, arguments[2], 8))[0]
        if not flags & WRITES or flags & os.O_PATH:
            return None
    if name == "open_tree" and not arguments[2] & 1:  # without OPEN_TREE_CLONE it is an open
        return None
    if name == "execve":
        verb = _text(pid, struct.unpack("=QQ", _memory(pid, arguments[1], 16))[1])
        return Call(own, name, ("execve %s %s" % (_text(pid, arguments[0]), verb)).rstrip(), pid)
    if name in _FIRST_PATH:
        index = _FIRST_PATH[name]
        what = _text(pid, arguments[index]) if arguments[index] else ""
        if name == "mkdir" and os.path.isdir(what):
            return None
        folder = _behind(pid, arguments[index - 1]) if index and not what.startswith("/") else ""
        return Call(own, name, ("%s %s %s" % (name, folder, what)).replace("  ", " "), pid)
    at = _behind(pid, arguments[0]) if arguments[0] < 65536 else ""
    return Call(own, name, "%s %s" % (name, at), pid)


def _behind(pid: int, fd: int) -> str:
    try:
        return os.readlink("/proc/%d/fd/%d" % (pid, fd & 0xFFFFFFFF))
    except FileNotFoundError:
        return ""


def _program(pid: int) -> str:
    with open("/proc/%d/comm" % pid, "rb") as stream:
        return stream.read().decode("utf-8", "replace").strip()


def _memory(pid: int, address: int, count: int) -> bytes:
    fd = os.open("/proc/%d/mem" % pid, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, count, address)
    except OSError:
        return bytes(count)
    finally:
        os.close(fd)


def _text(pid: int, address: int) -> str:
    data = b""
    while b"\0" not in data and len(data) < 4096:  # up to the end of a page: what follows may not be there
        piece = _memory(pid, address + len(data), min(256, 4096 - (address + len(data)) % 4096))
        if not piece:
            break
        data += piece
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
