# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tenants lay in root's way: links, hard links, mounts, fifos, sockets, devices, a million entries.

Each trap first catches what a careful person writes by paths, then meets the modules and the engine doing the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import stat
import subprocess
import time
from collections import Counter
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import attack, module

TENANT, OTHER = attack.TENANT, attack.OTHER


pytestmark = pytest.mark.usefixtures("attacked")


def test_a02_a_link_where_a_directory_is_to_go(theirs: str) -> None:
    """The failure names the component, whether it is the last one or on the way."""
    victim = "/srv/victim"
    before = attack.picture(victim)
    for path in ("link", "link/deep"):
        for options in (
            {"root": theirs, "confirm": theirs, "entries": [{"path": path, "type": "absent"}]},
            {"root": theirs + "/" + path, "confirm": theirs + "/" + path, "state": "absent"},
        ):
            answer = module.run("tree", options).result
            assert answer["code"] == "unsafe_path" and theirs + "/link" in answer["msg"]
    assert attack.picture(victim) == before


def test_a03_hard_links_to_what_is_not_theirs(theirs: str) -> None:
    """What the tenant can link with protected_hardlinks=1, and what root plants as on a host that has it off."""
    shared = attack.write("/srv/shared", b"s", OTHER, 0o666)
    secret = attack.write("/srv/secret", b"s", 0, 0o600)
    assert attack.once(lambda: os.link(shared, theirs + "/a")) == 0
    os.link(secret, theirs + "/b")

    def naive(top: str) -> None:  # chown -R
        for at, _folders, files in os.walk(top):
            for name in files:
                os.chown(os.path.join(at, name), TENANT, TENANT, follow_symlinks=False)

    naive(theirs)
    lost = [os.stat(path).st_uid for path in (shared, secret)]
    for path, uid in ((shared, OTHER), (secret, 0)):
        os.chown(path, uid, uid)
    before = attack.picture("/srv/shared"), attack.picture("/srv/secret")
    refused = 0
    port = Node()
    for name in ("a", "b"):
        for change in ({"owner": TENANT}, {"mode": 0o604}, {"acl": ["u:%d:rw" % TENANT]}, {"size": 0}):
            path = theirs + "/" + name
            found = port.scan([path])[path]
            after = port.merge(path, found, port.resolve(path, {"type": "file", **change}))  # type: ignore[arg-type]
            with pytest.raises(StorageError) as error:
                port.put(path, found, after)
            assert error.value.code == "unsafe_path" and path in error.value.message
            refused += 1
    print("A3: 2 files of others, naive lost %d of 2, ours 0 in %d changes" % (lost.count(TENANT), refused))
    assert (attack.picture("/srv/shared"), attack.picture("/srv/secret")) == before
    assert lost == [TENANT, TENANT]


def test_a05_a_table_of_mounts_behind_a_link_of_the_tenant(theirs: str) -> None:
    """The fstab of a root that is the tenant's: a link there must not lead to the host's own."""
    attack.make(theirs + "/root")
    assert attack.once(lambda: os.symlink("/etc", theirs + "/root/etc")) == 0
    table = theirs + "/root/etc/fstab"
    with open("/etc/fstab", "rb") as stream:
        before = stream.read()
    with open(table, "ab") as stream:  # as a careful person would
        stream.write(b"/dev/vdz /mnt/z ext4 defaults 0 0\n")
    with open("/etc/fstab", "r+b") as stream:
        lost = stream.read() != before
        stream.truncate(len(before))
    options = {"path": "/mnt/z", "source": "/dev/vdz", "fstype": "ext4", "state": "present", "fstab": table}
    answer = module.run("mount", options).result
    with open("/etc/fstab", "rb") as stream:
        assert stream.read() == before
    print("A5 fstab: naive lost %d of 1, ours 0: %s" % (lost, answer.get("code")))
    assert lost and answer["code"] == "unsafe_path" and theirs + "/root/etc" in answer["msg"]


def test_a04_mounts_in_a_tree_that_is_removed_or_handed_over(theirs: str) -> None:
    """A bind of an old run, seen by all; and one in a namespace of the tenant, which only the tenant sees."""
    attack.make(attack.make(theirs + "/data") + "/sub")
    outside = attack.make("/srv/outside", 0)
    attack.write(outside + "/precious", uid=0)
    subprocess.run(["mount", "--bind", outside, theirs + "/data/sub"], check=True)

    def naive(top: str) -> None:
        for at, folders, files in os.walk(top, topdown=False):
            for name in files:
                os.unlink(os.path.join(at, name))
            for name in folders:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.join(at, name))

    naive(theirs + "/data")
    lost = not os.path.exists(outside + "/precious")
    attack.write(outside + "/precious", uid=0)
    before = attack.picture(outside)
    gone = {"root": theirs + "/data", "confirm": theirs + "/data", "state": "absent"}
    codes = [module.run("tree", gone).result.get("code")]
    for entry in (
        {"path": "data/sub", "owner": str(TENANT)},
        {"path": "data/sub/in"},
        {"path": "data/sub", "mode": "0777"},
    ):
        codes.append(module.run("tree", {"root": theirs, "entries": [entry]}).result.get("code"))
    assert attack.picture(outside) == before and attack.mounted(theirs) == [theirs + "/data/sub"]
    # Mounted between the plan and the removal.
    subprocess.run(["umount", theirs + "/data/sub"], check=True)
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir

    port = DataDir()
    port.want_entries = {theirs + "/data"}
    found = port.scan([theirs + "/data"])[theirs + "/data"]
    subprocess.run(["mount", "--bind", outside, theirs + "/data/sub"], check=True)
    with pytest.raises(StorageError) as error:
        port.put(theirs + "/data", found, None)
    codes.append(error.value.code)
    assert attack.picture(outside) == before
    subprocess.run(["umount", theirs + "/data/sub"], check=True)
    # In a namespace of the tenant: root does not see it, and the kernel takes it away with its directory.
    attack.write(attack.make(theirs + "/own") + "/keep")

    def bind() -> None:
        sub = os.fsencode(theirs + "/data/sub")
        if attack.libc.mount(os.fsencode(theirs + "/own"), sub, None, ctypes.c_ulong(4096), None):
            raise OSError(ctypes.get_errno(), "mount")
        time.sleep(0.01)

    own = attack.picture(theirs + "/own")
    with attack.tenant(bind, namespaces=True) as them:
        answer = module.run("tree", gone).result
        binds = them.count
    assert answer.get("code") is None and not os.path.lexists(theirs + "/data")
    assert attack.picture(theirs + "/own") == own
    subprocess.run(["rm", "-r", outside], check=True)
    print("A4: naive lost %d of 1, ours 0: %s; %d binds of the tenant" % (lost, ", ".join(map(str, codes)), binds))
    assert lost and set(codes) == {"in_use", "unsafe_path"}


def plant(path: str, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif kind == "device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "dangling":
        os.symlink("/nowhere", path)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "dangling"])
def test_a07_what_is_neither_file_nor_directory(theirs: str, kind: str) -> None:
    """Where a directory, a mount point, a source, an image and a volume should be: a typed answer, at once."""
    path = theirs + "/x"
    if kind == "device":  # a tenant cannot; a restored backup can
        plant(path, kind)
        os.chown(path, TENANT, TENANT)
    else:
        assert attack.once(lambda: plant(path, kind)) == 0
    hung = 0
    if kind == "fifo":
        naive = os.fork()
        if not naive:
            os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        time.sleep(0.3)
        hung = int(os.waitpid(naive, os.WNOHANG) == (0, 0))
        os.kill(naive, 9)
        os.waitpid(naive, 0)
    before = attack.picture(theirs)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("tree", {"root": theirs, "entries": [{"path": "x", "mode": "0700"}]}),
        ("tree", {"root": path, "state": "absent", "confirm": path}),
        ("tree", {"root": theirs, "entries": [{"path": "x/in"}]}),
        ("tmpfs", {"path": path, "size": "64KiB", "persist": "none"}),
        ("mount", {"path": "/mnt/x", "source": path, "bind": True, "persist": "none"}),
        ("mount", {"path": "/mnt/x", "source": path, "fstype": "ext4", "persist": "none", "read_only": True}),
        ("filesystem", {"device": path, "fstype": "ext4"}),
        ("quota", {"path": path, "hard": "1MiB"}),
    ]
    codes: Counter[str] = Counter()
    slowest = 0.0
    for name, options in calls:
        start = time.monotonic()
        answer = module.run(name, options, timeout=30).result
        slowest = max(slowest, time.monotonic() - start)
        codes[answer.get("code", "ok")] += 1
    assert attack.picture(theirs) == before and attack.mounted("/mnt/x") == [] and attack.mounted(theirs) == []
    line = "A7 %s: %d calls, slowest %.1f s (%s), naive hung %d"
    print(line % (kind, len(calls), slowest, attack.told(codes), hung))
    assert slowest < 5 and codes.keys() <= {"unsafe_path", "invalid", "not_found", "unreadable"}, codes
    assert hung == (kind == "fifo")


def test_a07_names_of_ours_and_a_crowded_directory(theirs: str) -> None:
    """Traps under the private names that we make and sweep, and more entries than anybody would list."""
    for index, kind in enumerate(("fifo", "socket", "dangling")):
        assert attack.once(lambda i=index, k=kind: plant(theirs + "/.bulkhead-%016x" % i, k)) == 0  # type: ignore[misc]
    crowd = attack.make(theirs + "/crowd")
    count = 50000
    base = crowd + "/"
    for index in range(count):
        os.close(os.open(base + str(index), os.O_CREAT | os.O_WRONLY))
    start = time.monotonic()
    answer = module.run("tree", {"root": theirs, "entries": [{"path": "new", "mode": "0700"}]}, timeout=30).result
    first = time.monotonic() - start
    assert answer.get("code") is None and os.path.isdir(theirs + "/new")
    start = time.monotonic()
    answer = module.run("tree", {"root": crowd, "state": "absent"}, timeout=30).result
    second = time.monotonic() - start
    assert answer["code"] == "would_destroy" and len(os.listdir(crowd)) == count
    start = time.monotonic()
    shutil.rmtree(crowd)
    naive = time.monotonic() - start
    print(
        "A7 crowd: %d entries, %.1f s beside traps, %.1f s to refuse (naive removes it in %.1f s)"
        % (count, first, second, naive)
    )
    assert first < 5 and second < 5
