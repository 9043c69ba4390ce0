# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems with quota for tests on a kernel that has it, and other programs' view of what is limited."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile, render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace

OPTIONS = {"xfs": "uquota,gquota,prjquota", "ext4": "usrquota,grpquota,prjquota"}
FEATURES = ("-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota")
TENANT = 20001


def made(base: str, fstype: str, options: str | None = None, features: tuple[str, ...] = FEATURES) -> str:
    """A fresh filesystem, mounted at ``base``/m; taken down with ``base``."""
    image, path = base + "/img", base + "/m"
    namespace.image(image, 320 << 20)
    quiet = ["-qf"] if fstype == "xfs" else ["-qF", *features]
    sh(["mkfs." + fstype, *quiet, image])
    os.mkdir(path)
    sh(["mount", "-o", "loop," + (OPTIONS[fstype] if options is None else options), image, path])
    return path


@contextlib.contextmanager
def own_catalogue() -> Iterator[None]:
    """An empty /var/lib/bulkhead, in this mount namespace only."""
    namespace.enter()
    os.makedirs("/var/lib/bulkhead", mode=0o700, exist_ok=True)
    sh(["mount", "-t", "tmpfs", "-o", "mode=0700", "catalogue", "/var/lib/bulkhead"])
    try:
        yield
    finally:
        sh(["umount", "/var/lib/bulkhead"])


def sh(argv: list[str], check: bool = True) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, timeout=120)
    if check and done.returncode:
        raise RuntimeError("%s: %d %r %r" % (argv, done.returncode, done.stdout, done.stderr))
    return done.stdout.decode("utf-8", "replace")


def converge(
    quotas: list[dict[str, Any]],
    check: bool = False,
    ports: Any = None,
    unstable: bool = False,
    workers: int = 1,
    **lists: Any,
) -> dict[str, Any]:
    """The engine over the real adapters: actions, errors (refused before anything, or failed on the way), resources.

    Ansible, which a guest does not have, is not needed.
    """
    document = {"quotas": quotas, **lists}
    entries, errors = _kinds.entries(document, {"allow_unstable_device": unstable}, set())
    ports = ports or _kinds.ports([name for name in _kinds.LISTS if document.get(name)])

    options = reconcile.Options(check=check, workers=workers, lock=lambda: Lock(timeout=30), journal=Journal)
    try:
        report = reconcile.fulfil(entries, errors, ports, options)
    except Refusals as refused:
        return {"refused": [error.as_dict() for error in refused.errors], "actions": [], "errors": []}
    except StorageError as error:
        return {"refused": [error.as_dict()], "actions": [], "errors": []}
    return {
        "refused": [],
        "errors": [error.as_dict() for error in (*report.errors, *report.ended)],
        "actions": report.listed,
        "digest": report.digest,
        "resources": [
            render.plain(entry.resource.show(entry.params, report.rows))
            for entry in entries
            if entry.resource.KIND == "quota"
        ],
        "shown": {
            entry.label: render.plain(entry.resource.show(entry.params, report.rows))
            for entry in entries
            if entry.resource.KIND in ("pool", "volume", "volume_group", "snapshot", "job")
        },
    }


def limits(fstype: str, path: str, kind: str, number: int) -> dict[str, int]:
    """Used and limited bytes and inodes of a number, as xfs_quota(8) or repquota(8) tell them; {} without a record."""
    if fstype == "xfs":
        command = "report -%s -b -i -N -n -L %d -U %d" % (kind[0], number, number)
        text = sh(["xfs_quota", "-x", "-c", command, path])
        found = re.search(r"#%d +(\d+) +(\d+) +(\d+) +\S+ +\[.*?\] +(\d+) +(\d+) +(\d+)" % number, text)
    else:
        text = sh(["repquota", "-vnp" + {"user": "u", "group": "g", "project": "P"}[kind], path])
        found = re.search(r"#%d +\S+ +(\d+) +(\d+) +(\d+) +\d+ +(\d+) +(\d+) +(\d+)" % number, text)
    if found is None:
        return {}
    numbers = dict(zip(("used", "soft", "hard", "inodes", "inodes_soft", "inodes_hard"), map(int, found.groups())))
    return {k: v * 1024 if k in ("used", "soft", "hard") else v for k, v in numbers.items()}


def project(path: str) -> tuple[int, bool]:
    """(id, do new files inherit it) by lsattr(1)."""
    number, flags = sh(["lsattr", "-pd", path]).split()[:2]
    return int(number), "P" in flags


def as_tenant(path: str, size: int = 0, files: int = 0, uid: int = TENANT) -> tuple[int, int]:
    """A process of a tenant writes; (bytes or files that it could store, errno that stopped it or 0)."""
    code = (
        "import os, sys\n"
        "path, size, files, done, error = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 0, 0\n"
        "try:\n"
        "    if files:\n"
        "        for n in range(files):\n"
        "            os.close(os.open('%s%d' % (path, n), os.O_CREAT | os.O_WRONLY)); done += 1\n"
        "    else:\n"
        "        f = os.open(path, os.O_CREAT | os.O_WRONLY)\n"
        "        while done < size: done += os.write(f, b'x' * min(65536, size - done)); os.fsync(f)\n"
        "except OSError as caught: error = caught.errno\n"
        "print(done, error)\n"
    )
    argv = [sys.executable, "-S", "-c", code, path, str(size), str(files)]
    done = subprocess.run(argv, check=True, capture_output=True, user=uid, group=uid, extra_groups=[], timeout=120)
    stored, error = done.stdout.split()
    return int(stored), int(error)


def traced(run: Callable[[], int], *strace: str, follow: bool = True) -> tuple[int, str]:
    """Run it in a process of its own, under strace(1); (its status, what strace saw). ``follow``: its children too."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.kill(os.getpid(), signal.SIGSTOP)
                status = run()
            finally:
                os._exit(status)
        os.waitpid(child, os.WUNTRACED)
        with subprocess.Popen(["strace", *["-f"] * follow, "-p", str(child), *strace], stderr=said) as tracer:
            attached = until(lambda: "TracerPid:\t0" not in sh(["cat", "/proc/%d/status" % child]))
            os.kill(child, signal.SIGCONT)
            status = os.waitpid(child, 0)[1]
            tracer.wait(timeout=120)
        if not attached:
            raise RuntimeError("strace did not attach")
        said.seek(0)
        return status, said.read().decode("utf-8", "replace")


def until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False
