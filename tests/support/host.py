# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host to play with: the folders and disks that examples name, private to this process on the real kernel.

``/etc`` is a layer over the real one, ``/var/lib`` and ``/mnt`` are empty, ``/srv`` is a Btrfs filesystem,
and ``/dev/disk/by-id`` names loop devices. Nothing of it is seen outside, and nothing of it is left afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.tests.support import namespace

FOLDERS = ("/mnt", "/run/bulkhead", "/srv", "/var/lib")


@contextlib.contextmanager
def host() -> Iterator[None]:
    """Everything that the examples of the documentation stand on."""
    with contextlib.ExitStack() as held:
        base = held.enter_context(namespace.place("3g"))
        for name in ("upper", "work"):
            os.mkdir(os.path.join(base, name))
        layers = "lowerdir=/etc,upperdir=%s/upper,workdir=%s/work" % (base, base)
        _mount(held, "/etc", "-t", "overlay", "-o", layers, "overlay")
        for folder in ("/dev/disk", "/run/bulkhead"):  # shared with everybody, so that an empty folder stays
            os.makedirs(folder, exist_ok=True)
        for folder in ("/dev/disk", "/run/bulkhead", "/var/lib", "/mnt"):
            _mount(held, folder, "-t", "tmpfs", "-o", "mode=0755", "host")
        os.mkdir("/dev/disk/by-id")
        _disk(held, base, "virtio-data-0001", 64 << 20, "ext4")
        _disk(held, base, "virtio-blank-0001", 64 << 20)
        _disk(held, base, "virtio-blank-0002", 320 << 20)
        _mount(held, "/srv", namespace.image(os.path.join(base, "srv.img"), 1 << 30, "btrfs"))
        os.chmod("/srv", 0o755)
        for folder in ("/srv/data/public", "/srv/images", "/srv/projects"):
            os.makedirs(folder)
        for subvolume in ("/srv/projects/blue", "/srv/projects/blue/builds"):
            _run("btrfs", "subvolume", "create", subvolume)
        namespace.image("/srv/images/tools.img", 64 << 20, "ext4")
        namespace.image("/srv/images/pool.img", 128 << 20)
        with open("/srv/images/noise.img", "wb") as f:
            f.write(b"\xa5" * (1 << 20))
        yield


def picture() -> dict[str, Any]:
    """What check mode must leave as it is, seen through other eyes than ours."""
    seen: dict[str, Any] = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        seen["mounts"] = f.read()
    with open("/etc/fstab", "rb") as f:
        seen["fstab"] = f.read()
    for folder in FOLDERS:
        for at, folders, files in os.walk(folder):
            for name in [".", *folders, *files]:
                path = os.path.join(at, name)
                found = os.lstat(path)
                # A filesystem that is mounted from an image writes to it whenever it likes.
                still = () if name.endswith(".img") else (found.st_size, found.st_mtime_ns)
                seen[path] = (found.st_mode, found.st_uid, found.st_gid, found.st_ino, *still)
                seen[path + " xattr"] = sorted((n, os.getxattr(path, n)) for n in _attributes(path))
    blank = ["/dev/disk/by-id/virtio-blank-0001", "/dev/disk/by-id/virtio-blank-0002", "/srv/images/pool.img"]
    for path in blank:
        with open(path, "rb") as f:
            seen[path + " head"] = hashlib.sha256(f.read(8 << 20)).hexdigest()
    argv = ["btrfs", "qgroup", "show", "-re", "--raw", "/srv"]
    listed = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    columns = [line.split() for line in listed.decode().splitlines()]
    seen["quota"] = [(row[0], row[3:5]) for row in columns if len(row) > 4]  # what is charged comes in its own time
    return seen


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two pictures, in words."""
    names = sorted(before.keys() | after.keys())
    return ["%s: %r became %r" % (n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _attributes(path: str) -> list[str]:
    return [] if os.path.islink(path) else os.listxattr(path)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _mount(held: contextlib.ExitStack, path: str, *argv: str) -> None:
    _run("mount", *argv, path)
    held.callback(namespace.take_down, path)


def _disk(held: contextlib.ExitStack, base: str, name: str, size: int, fstype: str = "") -> None:
    """A loop device stands for a disk: it is there to stay, so that nobody waits for it to go after an unmount."""
    path = namespace.image(os.path.join(base, name + ".img"), size, fstype)
    argv = ["losetup", "--find", "--show", path]
    device = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode().strip()
    # Autoclear would make it go, too, but the modules wait for what goes by itself: this one sees the end of our pipe.
    argv = ["sh", "-c", 'cat; losetup -d "$1" 2>/dev/null', "sh", device]
    keeper = held.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True))
    held.callback(keeper.communicate)
    os.symlink(device, "/dev/disk/by-id/" + name)
