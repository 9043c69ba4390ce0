# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of directories, on filesystems that share blocks and that do not, seen through other programs."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace


def said(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode()


@pytest.fixture(params=["xfs", "ext4"])
def place(request: Any, private_mounts: None) -> Iterator[str]:
    with namespace.place("400m") as base:
        image = namespace.image(os.path.join(base, "x.img"), 320 << 20, request.param)
        at = os.path.join(base, "at")
        os.mkdir(at)
        said("mount", "-o", "loop", image, at)
        os.makedirs(at + "/pool/blue/data/inner")
        os.makedirs(at + "/pool/.snapshots/blue/data", mode=0o700)
        yield at + "/pool"
        namespace.take_down(at)


def tree(path: str) -> str:
    """Names, modes, owners, times and content."""
    listed = said("sh", "-c", 'cd "$1" && find . -printf "%P %m %U %G %T@ %y %l\\n" | sort', "sh", path)
    return listed + said("sh", "-c", 'cd "$1" && find . -type f -exec sha256sum {} + | sort', "sh", path)


def test_a_directory_is_copied_whole_and_goes_whole(place: str) -> None:
    source, target = place + "/blue/data", place + "/.snapshots/blue/data/s"
    with open(source + "/inner/file", "wb") as stream:
        stream.write(os.urandom(1 << 20))
    os.chown(source + "/inner/file", 1000, 1001)
    os.symlink("/etc/shadow", source + "/link")
    os.chown(source, 1000, 1000)
    os.chmod(source, 0o2750)
    os.sync()
    before = tree(source)
    port = Snapshots()
    value = {"type": "directory", "read_only": True, "source": source}
    assert port.scan([target]) == {}
    port.put(target, None, value)
    now = port.scan([target])[target]
    assert port.same(target, now, value)
    assert tree(target) == before == tree(source)
    extents = said("filefrag", "-v", target + "/inner/file")
    kind = said("stat", "-f", "-c", "%T", place).strip()
    assert ("shared" in extents) == (kind == "xfs")
    with open(source + "/inner/file", "r+b") as stream:
        stream.write(b"another")
    assert tree(target) == before != tree(source)
    with pytest.raises(StorageError) as caught:
        port.put(target, None, value)
    assert caught.value.code == "moved"
    port.put(target, now, None)
    assert os.listdir(place + "/.snapshots/blue/data") == []


def test_a_killed_removal_is_seen_and_goes_on(place: str) -> None:
    source, target = place + "/blue/data", place + "/.snapshots/blue/data/s"
    port = Snapshots()
    port.put(target, None, {"type": "directory", "source": source})
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dirent import trash

    os.rename(target, trash(target))
    port = Snapshots()
    assert port.scan([target]) == {}
    port.want_entries = {target}
    now = port.scan([target])[target]
    assert now["_trash"]
    port.put(target, now, None)
    assert os.listdir(os.path.dirname(target)) == []


def test_no_device_is_copied(place: str) -> None:
    os.mknod(place + "/blue/data/device", 0o60600, os.makedev(7, 0))
    with pytest.raises(StorageError) as caught:
        Snapshots().put(place + "/.snapshots/blue/data/s", None, {"type": "directory", "source": place + "/blue/data"})
    assert caught.value.code == "unsupported"
    assert os.listdir(place + "/.snapshots/blue/data") == []
