# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests stand on leaves nothing behind, however they end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

_WAITS = """
import os, sys
from ansible_collections.bulkhead.storage.tests.support import host
with host.host():
    print(" ".join(os.readlink("/dev/disk/by-id/" + name) for name in os.listdir("/dev/disk/by-id")), flush=True)
    sys.stdin.read()
"""


def attached(devices: list[str]) -> set[tuple[str, str]]:
    """Each with the number that another attachment of it changes."""
    found = set()
    for name in map(os.path.basename, devices):
        with contextlib.suppress(FileNotFoundError), open("/sys/block/%s/diskseq" % name, encoding="ascii") as f:
            if os.path.exists("/sys/block/%s/loop" % name):
                found.add((name, f.read().strip()))
    return found


def test_a_host_whose_test_is_killed_leaves_no_loop_device(private_mounts: None) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _WAITS], stdin=pipe, stdout=pipe, env=environment) as child:
        assert child.stdout is not None
        devices = child.stdout.readline().decode().split()
        before = attached(devices)
        child.kill()
    assert len(before) == len(devices) == 3
    deadline = time.monotonic() + 10
    while before & attached(devices) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not before & attached(devices), before
