# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps what it makes, and what all its parts share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, Sequence

import trees

LAB = trees.CACHE / "lab"
IMAGES = LAB / "images"
DISKS = LAB / "disks"
INVENTORY = LAB / "inventory.json"
# Sockets have short names and nothing in here outlives the host: /run. One lab per cache folder.
RUN = Path("/run/bulkhead-lab-" + hashlib.sha256(os.fsencode(trees.CACHE)).hexdigest()[:12])

PROGRAMS = {  # and the Debian packages that bring them
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
}


class Refused(Exception):
    """The lab cannot do it; the text says in one line what is missing or went wrong."""


def require() -> None:
    """Refuse at once what would fail later for want of a program, a right or a device."""
    if sys.version_info < (3, 9):
        raise Refused("the lab needs Python 3.9 or newer, this is %s" % sys.version.split()[0])
    if os.uname().machine != "x86_64":
        raise Refused("the lab boots x86_64 guests only, this is %s" % os.uname().machine)
    if os.geteuid() != 0:
        raise Refused("the lab needs root: it makes a network namespace and a root filesystem")
    lacking = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if lacking:
        raise Refused("these Debian packages are missing: apt-get install " + " ".join(lacking))
    if not os.path.exists("/dev/net/tun"):
        raise Refused("/dev/net/tun is missing: modprobe tun, or give this container the device")


def called(argv: Sequence[str], text: str | None = None) -> str:
    """Run a program to its end; its output, or Refused with its last line of complaint."""
    done = subprocess.run(argv, input=text, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Refused("%s ended with %d: %s" % (" ".join(argv[:4]), done.returncode, last))
    return done.stdout


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Print how long a part took."""
    start = time.monotonic()
    yield
    print("%6.1f s  %s" % (time.monotonic() - start, name), file=sys.stderr, flush=True)
