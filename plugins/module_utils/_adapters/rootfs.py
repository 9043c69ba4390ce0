# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of roots for jobs that we make: ``minimal`` is busybox under all its names, and two lines of users.

It is made beside its name and renamed: whoever finds it finds all of it. Everybody mounts it read-only.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, clone
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory, sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD

HOME = "/var/lib/bulkhead/rootfs"
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/usr/lib/busybox/busybox-static", "/sbin/busybox")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/work:/bin/sh\nnobody:x:65534:65534:nobody:/work:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}

Run = Callable[..., "tuple[int, bytes, bytes]"]


def path(target: str) -> str:
    return os.path.join(HOME, target)


class RootFs:
    """Port ``rootfs``: ``minimal`` -> ``{intact}``."""

    name, behind = "rootfs", False

    def __init__(self, run: Run) -> None:
        self.run = run

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "roots are looked up by name only")
        return {target: {"intact": True} for target in targets if os.path.isfile(path(target) + "/bin/busybox")}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        return None if after is None or _busybox() else _missing()

    def put(self, target: str, before: Any, after: Any) -> None:
        if self.scan([target]):
            return  # somebody was faster; it is always the same
        program = _busybox()
        if program is None:
            raise _missing()
        try:
            self._make(program, path(target))
        except OSError as error:
            raise failure(error, "cannot make %s" % path(target)) from error

    def _make(self, program: str, whole: str) -> None:
        private_directory(os.path.dirname(HOME))
        os.makedirs(HOME, mode=0o711, exist_ok=True)
        part = whole + ".part"
        for left in (part, whole):  # of a run that was killed
            removed(left)
        for folder in ("", "bin", "lib", "lib64", "etc"):
            os.mkdir(os.path.join(part, folder), 0o755)
            os.chmod(os.path.join(part, folder), 0o755)  # whatever the umask is
        for name in self._applets(program):
            os.symlink("busybox", os.path.join(part, "bin", name))
        for name, text in _FILES.items():
            atomic.replace(os.path.join(part, name), text.encode(), 0o644)
        with open(program, "rb") as stream:
            atomic.replace(part + "/bin/busybox", stream.read(), 0o755)  # it syncs the folder of all the names too
        os.rename(part, whole)
        sync_directory(HOME)

    def _applets(self, program: str) -> list[str]:
        status, out, err = self.run([program, "--list"])
        names = [name for name in out.decode("ascii", "replace").split() if name != "busybox" and "/" not in name]
        if status or "sh" not in names:
            raise StorageError("failed", "%s --list: %d %.200r" % (program, status, err), "is it busybox?")
        return names


def _missing() -> StorageError:
    text = "the minimal root of a job needs busybox that is linked statically"
    return StorageError("missing_tool", text, "install busybox-static (Debian) or busybox (RHEL), or name a rootfs")


def _busybox() -> str | None:
    return next((place for place in BUSYBOX if os.path.isfile(place) and _static(place)), None)


def _static(place: str) -> bool:
    """An ELF file without an interpreter (elf(5), PT_INTERP)."""
    with open(place, "rb") as stream:
        head = stream.read(4096)
    if head[:4] != b"\x7fELF":
        return False
    wide, order = head[4] == 2, "little" if head[5] == 1 else "big"
    at, size, count = (32, 54, 56) if wide else (28, 42, 44)
    table = int.from_bytes(head[at : at + (8 if wide else 4)], order)  # type: ignore[arg-type]
    step = int.from_bytes(head[size : size + 2], order)  # type: ignore[arg-type]
    rows = int.from_bytes(head[count : count + 2], order)  # type: ignore[arg-type]
    kinds = [head[table + row * step : table + row * step + 4] for row in range(rows)]
    return all(int.from_bytes(kind, order) != 3 for kind in kinds)  # type: ignore[arg-type]


def removed(place: str) -> None:
    """A folder of ours that may be there, with all that is in it, never through a link or into a mount."""
    if os.path.lexists(place):
        above = os.open(os.path.dirname(place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            clone.remove(above, os.fsencode(os.path.basename(place)), place)
        finally:
            os.close(above)
