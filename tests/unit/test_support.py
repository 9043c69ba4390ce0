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

import pytest

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


_ASKS = """
import ctypes, os, sys
from ansible_collections.bulkhead.storage.tests.support import quiet
libc, fd, room = ctypes.CDLL(None), os.open("/", os.O_RDONLY), ctypes.create_string_buffer(256)
quiet.look_only()
libc.syscall(443, fd, ctypes.c_uint(int(sys.argv[1], 0) << 8 | 2), 0, room)  # quotactl_fd(2), of projects
"""


@pytest.mark.parametrize(
    "command, status",
    [("0x800007", 0), ("0x5808", 0), ("0x5803", 0), ("0x800008", 97), ("0x800002", 97), ("0x5804", 97), ("0x5801", 97)],
)
def test_who_may_only_look_may_ask_for_a_quota_and_set_none(command: str, status: int) -> None:
    """Q_GETQUOTA, Q_XGETQSTATV, Q_XGETQUOTA; Q_SETQUOTA, Q_QUOTAON, Q_XSETQLIM, Q_XQUOTAON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", _ASKS, command]
    assert subprocess.run(argv, env=environment, check=False, stderr=subprocess.DEVNULL).returncode == status
