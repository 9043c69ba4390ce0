# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random hosts and random declarations, cheap enough for thousands: each in a forked child with its own mounts.

A case is a list of moves, plain data that a seed makes and that can be shrunk: ``do`` is somebody else's doing (a
directory, a link, a mount, a line of fstab, an image), ``declare`` a document for ``layout``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any, Callable, Iterator

from ansible_collections.bulkhead.storage.tests.support import eyes, namespace, quiet

MIB = 1 << 20
IMAGES = "/mnt/img"
_SIZES = {"ext4": 16 * MIB, "vfat": 8 * MIB, "btrfs": 128 * MIB, "xfs": 300 * MIB, "swap": 4 * MIB}
_libc = ctypes.CDLL(None, use_errno=True)
Move = dict[str, Any]


# -- the stage -------------------------------------------------------------------------------------------------------


def prepare(base: str) -> None:
    """What every host copies: filesystems made once, and the world's programs loaded once."""
    for name, fstype, quota in (
        ("srv-plain", "btrfs", 0),
        ("srv-simple", "btrfs", 4),
        ("srv-full", "btrfs", 1),
        ("srv-ext4", "ext4", 0),
    ):
        path = namespace.image("%s/%s" % (base, name), 256 * MIB, fstype)
        with _mounted(path, base + "/at", fstype) as fd:
            if quota:
                fcntl.ioctl(fd, 0xC0109428, struct.pack("=QQ", quota, 0))
    for fstype, size in _SIZES.items():
        path = namespace.image("%s/%s" % (base, fstype), size, fstype if fstype != "swap" else "")
    subprocess.run(["mkswap", base + "/swap"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["cp", "-a", "/etc", base + "/etc"], check=True)  # what changes there meanwhile is nobody's here
    _load()


@contextlib.contextmanager
def _mounted(image: str, path: str, fstype: str) -> Iterator[int]:
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", "-t", fstype, image, path], check=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
        subprocess.run(["umount", path], check=True)


def _load() -> None:
    """Everything a call imports, once for all the children."""
    import importlib
    import pkgutil

    root = "ansible_collections.bulkhead.storage.plugins.module_utils."
    for part in ("_engine", "_resources", "_adapters"):
        package = importlib.import_module(root + part)
        for found in pkgutil.iter_modules(package.__path__):
            importlib.import_module("%s%s.%s" % (root, part, found.name))
    import ansible.module_utils.basic  # noqa: F401

    from ansible_collections.bulkhead.storage.plugins.modules import layout  # noqa: F401


def copy(source: str, target: str) -> None:
    """A sparse file with its holes."""
    with open(source, "rb") as old, open(target, "wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        for start, end in eyes.segments(old.fileno(), size):
            new.seek(start)
            while start < end:
                start += os.sendfile(new.fileno(), old.fileno(), start, end - start)


def _mount(source: str, path: str, fstype: str, options: str = "", flags: int = 0) -> None:
    if _libc.mount(source.encode(), os.fsencode(path), fstype.encode(), ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), "mount %s at %s" % (source, path))


def enter(base: str, srv: str) -> None:
    """Make this process the root of a host of its own: /etc a layer, /mnt, /var/lib and /srv empty."""
    namespace._call("unshare", namespace.CLONE_NEWNS)
    own = base + "/own"
    _mount("own", own, "tmpfs", "mode=0755,size=2g")
    for name in ("upper", "work"):
        os.mkdir("%s/%s" % (own, name))
    _mount("overlay", "/etc", "overlay", "lowerdir=%s/etc,upperdir=%s/upper,workdir=%s/work" % (base, own, own))
    for folder in ("/mnt", "/var/lib", "/run/bulkhead", "/srv"):
        if folder != "/srv" or srv == "tmpfs":
            _mount("host", folder, "tmpfs", "mode=%s,size=1g" % ("0700" if folder == "/run/bulkhead" else "0755"))
    if srv != "tmpfs":
        copy("%s/srv-%s" % (base, srv), own + "/srv.img")
        fstype = "ext4" if srv == "ext4" else "btrfs"
        subprocess.run(["mount", "-o", "loop", "-t", fstype, own + "/srv.img", "/srv"], check=True)
        os.chmod("/srv", 0o755)
    os.mkdir(IMAGES)
    with open("/etc/fstab", "w", encoding="utf-8") as stream:
        stream.write("# <file system>\t<mount point>\t<type>\n/dev/vda1 / ext4 errors=remount-ro 0 1\n")


def settle(patience: float = 0.3) -> None:
    """Wait for what goes on its own: a loop device after its last mount."""
    devices = {os.stat(folder).st_dev for folder in eyes.OWN}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        mounted = {row.source[5:] for row in eyes.mounts()}
        if {name for name, _inode in eyes.loops(devices)} <= mounted:
            return
        select.select([], [], [], 0.005)


def leave(base: str) -> list[str]:
    """Take everything down; which loop devices stay attached to files of this host."""
    own = os.stat(base + "/own").st_dev
    devices = {own, *(os.stat(folder).st_dev for folder in eyes.OWN)}
    used = any("/dev/loop" in row.source for row in eyes.mounts())
    os.chdir("/")
    for row in reversed(eyes.mounts()):
        if row.path.startswith(eyes.OWN) or row.path == "/etc":
            _libc.umount2(os.fsencode(row.path), namespace.MNT_DETACH)
    left: list[str] = []
    for _wait in range(200 if used else 0):
        left = sorted(name for name, _inode in eyes.loops(devices))
        if not left:
            break
        select.select([], [], [], 0.01)
    for name in left:
        subprocess.run(["losetup", "-d", "/dev/" + name], check=False)
    return left


# -- somebody else's doing -------------------------------------------------------------------------------------------


def do(base: str, move: Move, held: list[int]) -> None:
    """Carry out a move that is no declaration; what cannot be done in this world is left undone."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        _DEEDS[move["do"]](base, move, held)


def _dir(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(m["path"], exist_ok=True)
    os.chmod(m["path"], m.get("mode", 0o755))
    os.chown(m["path"], m.get("uid", 0), m.get("gid", 0))
    for option, switch in (("acl", ()), ("default_acl", ("-d",))):
        if m.get(option):
            subprocess.run(["setfacl", *switch, "-m", m[option], "--", m["path"]], check=True)


def _file(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(os.path.dirname(m["path"]), exist_ok=True)
    with open(m["path"], "xb") as stream:
        stream.write(b"x" * m.get("size", 1))


def _subvolume(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(os.path.dirname(m["path"]), exist_ok=True)
    subprocess.run(["btrfs", "-q", "subvolume", "create", m["path"]], check=True, stderr=subprocess.DEVNULL)


def _limit(base: str, m: Move, held: list[int]) -> None:
    argv = ["btrfs", "qgroup", "limit", str(m["size"]), m["path"]]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _symlink(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(os.path.dirname(m["path"]), exist_ok=True)
    os.symlink(m["to"], m["path"])


def _odd(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(os.path.dirname(m["path"]), exist_ok=True)
    if m["what"] == "fifo":
        os.mkfifo(m["path"])
    elif m["what"] == "device":
        os.mknod(m["path"], 0o20600, os.makedev(1, 3))
    else:
        with socket.socket(socket.AF_UNIX) as at:
            at.bind(m["path"])


def _tmpfs(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(m["path"], exist_ok=True)
    _mount(m.get("source", "tmpfs"), m["path"], "tmpfs", m.get("options", ""), m.get("flags", 0))


def _bind(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(m["path"], exist_ok=True)
    os.makedirs(m["source"], exist_ok=True)
    _mount(m["source"], m["path"], "", "", 4096)
    if m.get("flags"):
        _mount("", m["path"], "", "", 4096 | 32 | m["flags"])


def _spread(base: str, m: Move, held: list[int]) -> None:
    _mount("", m["path"], "", "", 1 << 20)  # shared


def _image(base: str, m: Move, held: list[int]) -> None:
    kind = m["what"]
    if kind in _SIZES:
        copy("%s/%s" % (base, kind), m["path"])
    else:
        with open(m["path"], "wb") as stream:
            stream.write(b"\xa5" * 4096 if kind == "noise" else b"")
            stream.truncate(m["size"])
    if m.get("more"):
        os.truncate(m["path"], os.stat(m["path"]).st_size + m["more"])


def _image_mount(base: str, m: Move, held: list[int]) -> None:
    os.makedirs(m["path"], exist_ok=True)
    argv = ["mount", "-o", "loop" + m.get("options", ""), m["image"], m["path"]]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _umount(base: str, m: Move, held: list[int]) -> None:
    _libc.umount2(os.fsencode(m["path"]), namespace.MNT_DETACH if m.get("lazy") else 0)


def _fstab(base: str, m: Move, held: list[int]) -> None:
    with open("/etc/fstab", "ab") as stream:
        stream.write(m["text"].encode())


def _busy(base: str, m: Move, held: list[int]) -> None:
    held.append(os.open(m["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _remove(base: str, m: Move, held: list[int]) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", "--", m["path"]], check=True, stderr=subprocess.DEVNULL)


def _chmod(base: str, m: Move, held: list[int]) -> None:
    os.chmod(m["path"], m["mode"])


def _immutable(base: str, m: Move, held: list[int]) -> None:
    subprocess.run(["chattr", "+i", "--", m["path"]], check=True, stderr=subprocess.DEVNULL)


def _frozen(base: str, m: Move, held: list[int]) -> None:
    """A mount that nobody may write through any more."""
    _mount("", m["path"], "", "", 4096 | 32 | 1)


def _full(base: str, m: Move, held: list[int]) -> None:
    space = os.statvfs(m["path"])
    if space.f_bavail * space.f_frsize <= 4 * MIB:
        with open(m["path"] + "/filling", "wb") as stream:
            stream.write(b"x" * (space.f_bavail * space.f_frsize))


_DEEDS: dict[str, Callable[[str, Move, list[int]], None]] = {
    "dir": _dir, "file": _file, "subvolume": _subvolume, "limit": _limit, "symlink": _symlink, "odd": _odd,
    "tmpfs": _tmpfs, "bind": _bind, "shared": _spread, "image": _image, "image mount": _image_mount, "umount": _umount,
    "fstab": _fstab, "busy": _busy, "remove": _remove, "chmod": _chmod, "immutable": _immutable, "frozen": _frozen,
    "full": _full,
}  # fmt: skip


# -- a call ----------------------------------------------------------------------------------------------------------


def call(document: Move, check: bool = False, look_only: bool = False, plain: bool = False, **more: Any) -> Move:
    """``layout`` as Ansible runs it, in a process of its own. ``plain``: lists as options, not the action's one text.

    The answer is what it printed, and ``rc`` and ``stderr``.
    """
    arguments: dict[str, Any] = {"actions_limit": 10000, "return_resources": True, "lock_timeout": 2, **more}
    arguments.update(document if plain else {"_declaration": json.dumps(document), "_secrets": []})
    arguments.update(_ansible_check_mode=check, _ansible_diff=False, _ansible_remote_tmp="/tmp")
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    try:
        rc = _forked(lambda: _module(arguments, out, err, look_only))
        text, trouble = (_read(fd).decode("utf-8", "replace") for fd in (out, err))
    finally:
        os.close(out)
        os.close(err)
    try:
        answer: Move = json.loads(text)
    except ValueError:
        answer = {"failed": True, "broken": text[-2000:]}
    return {**answer, "rc": rc, "stderr": trouble[-6000:]}


def _module(arguments: Move, out: int, err: int, look_only: bool) -> int:
    from ansible.module_utils import basic

    from ansible_collections.bulkhead.storage.plugins.modules import layout

    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), "utf-8") for fd in (1, 2))
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    if look_only:
        quiet.look_only()
    try:
        layout.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def killed(document: Move, step: int) -> None:
    """A run that is killed at a step of its engine, which leaves whatever it leaves."""
    _forked(lambda: _mortal(document, step))


def _mortal(document: Move, step: int) -> int:
    from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError

    class Mortal(Journal):
        steps = 0

        def step(self, index: int, outcome: str, sync: bool) -> None:
            super().step(index, outcome, sync)
            self.steps += 1
            if self.steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    entries, errors = _kinds.entries(document, {"allow_unstable_device": False}, set())
    ports = _kinds.ports([name for name in _kinds.LISTS if document.get(name)])
    options = reconcile.Options(lock=lambda: _shell._lock(2), journal=Mortal, workers=1)
    with contextlib.suppress(Refusals, StorageError):
        reconcile.fulfil(entries, errors, ports, options)
    return 0


def forked(work: Callable[[], Any], timeout: float = 60.0) -> Any:
    """What ``work`` returns (JSON), done in a process of its own."""
    fd = os.memfd_create("answer")
    try:
        rc = _forked(lambda: os.write(fd, json.dumps(work()).encode()) and 0, timeout)
        text = _read(fd)
        if rc or not text:
            raise RuntimeError("a host ended with %d" % rc)
        return json.loads(text)
    finally:
        os.close(fd)


def _forked(work: Callable[[], int], timeout: float = 30.0) -> int:
    """Its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = work()
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    fd = os.pidfd_open(child)
    ready, _w, _x = select.select([fd], [], [], timeout)
    os.close(fd)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
