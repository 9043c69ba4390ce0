# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ceph's programs out of the archive that this host's apt uses: unpacked into the cache, not installed.

Installed they would bring LVM, sudo and services that start to the host that runs the tests. So the packages that this
host lacks are only unpacked, and a process that shall see them gets a mount namespace of its own, in which they lie
over the host's /usr. Everything is in its usual place there, and goes with the process. What the host has installed
is not unpacked again; with all of Ceph installed the folder is empty, and /usr as it is.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Sequence

import environments

from .places import LAB, Refused, called, phase

PACKAGES = ("ceph-common", "ceph-mgr", "ceph-mon", "ceph-osd", "python3-rados", "python3-rbd")
PLACE = LAB / "ceph-packages"  # several checkouts may share it by a symbolic link
PYTHON = "/usr/bin/python3"  # Debian's bindings are for Debian's Python
SEEING = PLACE / "python3"  # the same for who is not in such a namespace; written by `unpacked`
KEPT = 24 * 3600  # seconds: a folder that nobody has used for so long goes when a new one is made
PROGRAMS = {  # and the Debian packages that bring them
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mount": "mount",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
STATUS = Path("/var/lib/dpkg/status")
LISTS = Path("/var/lib/apt/lists")
MERGED = ("bin", "sbin", "lib", "lib64")  # the host has links there, to the folders of these names below /usr
# Where the layers are is told by the working directory, so that a path may have any characters.
OVER = '(cd "$0" && mount -t overlay -o ro,lowerdir=usr:/usr lab /usr) && exec "$@"'


def shown(root: Path, argv: Sequence[str]) -> list[str]:
    """A command line that sees the packages in /usr; no fork on the way. What is mounted below /usr it does not see.

    The namespace is a slave: what the host unmounts is not kept busy in there.
    """
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", OVER, str(root), *argv]


def unpacked() -> Path:
    """The folder with the packages' ``usr``, for ``shown``; downloaded when it is not there."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with environments.locked("lab/ceph-packages/packages"):
        asked = PLACE / "asked"  # what was asked of this host's apt, and the name of the folder that came of it
        known = asked.read_text(encoding="ascii").split() if asked.exists() else []
        if known[:1] != [_question()] or not (PLACE / known[1]).exists():
            key = _made()
            _replace(asked, "%s %s\n" % (_question(), key), 0o644)
            known = [_question(), key]
        folder = PLACE.resolve() / known[1]
        os.utime(folder)
        line = shlex.join(shown(folder / "root", [PYTHON]))
        _replace(SEEING, '#!/bin/sh\nexec %s "$@"\n' % line, 0o755)
    return folder / "root"


def _question() -> str:
    """What apt's answer depends on: how it comes out is a second's work, whether it can differ is not."""
    files = [STATUS, *sorted(path for path in LISTS.glob("*") if path.is_file() and path.name != "lock")]
    digest = hashlib.sha256(Path(__file__).read_bytes() + repr(PACKAGES).encode())
    for path in files:
        found = path.stat()
        digest.update(repr((path.name, found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _made() -> str:
    """The name of the folder, made when it is not there."""
    new = PLACE.resolve() / ".new"
    if new.exists():  # of a killed run
        shutil.rmtree(new)
    try:
        key = _fetched(new)
    except Refused:  # the lists are missing, or name files that the archive has no more
        shutil.rmtree(new)
        called(["setpriv", "--pdeathsig", "KILL", "apt-get", "-q", "update"])
        key = _fetched(new)
    target = PLACE.resolve() / key
    if target.exists():
        shutil.rmtree(new)
        return key
    root = new / "root"
    (root / "usr").mkdir(parents=True)
    with phase("Ceph unpacked"):
        for package in sorted((new / "archives").glob("*.deb")):
            called(["setpriv", "--pdeathsig", "KILL", "dpkg-deb", "--extract", str(package), str(root)])
        for name in os.listdir(root):  # usr alone is shown
            if name in MERGED:
                called(["cp", "--archive", "--link", str(root / name), str(root / "usr")])
            if name != "usr":
                shutil.rmtree(root / name)
    shutil.rmtree(new / "archives")
    _sweep()
    new.rename(target)
    return key


def _fetched(new: Path) -> str:
    """Download what this host lacks, unless it is unpacked already; the name of its folder."""
    (new / "archives" / "partial").mkdir(parents=True)
    options = {
        "APT::Sandbox::User": "root",  # no other user need reach our folder
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",  # nothing of the host's is written
        "Dir::Cache": str(new),
        "Dir::Cache::archives": "archives/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    argv = ["setpriv", "--pdeathsig", "KILL", "apt-get", "-qq", "-y", "--no-install-recommends"]
    argv += ["--option=%s=%s" % pair for pair in options.items()]
    listed = called([*argv, "--print-uris", "install", *PACKAGES])
    names = sorted(shlex.split(line)[1] for line in listed.splitlines())
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    if names and not (PLACE / key).exists():
        with phase("%d Debian packages of Ceph from the mirror" % len(names)):
            called([*argv, "--download-only", "install", *PACKAGES])
    return key


def _sweep() -> None:
    for path in PLACE.resolve().iterdir():
        if path.is_dir() and path.name != ".new" and time.time() - path.stat().st_mtime > KEPT:
            shutil.rmtree(path)


def _replace(path: Path, text: str, mode: int) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(mode)
    new.rename(path)
