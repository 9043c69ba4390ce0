# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of the guests: a namespace without a name, a bridge in it, one tap per guest.

Nothing of it is in the host's own network, and there is no route out. The namespace lives as long as a process in
it: when the last guest has ended it is gone, so that no killed run can leave one behind.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket

from .places import called

HOST = "10.77.0.1"
BRIDGE = "lab0"
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def address(number: int) -> str:
    return "10.77.0.%d" % (10 + number)


def made() -> int:
    """A descriptor of a new namespace with the bridge in it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            space = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            enter(home)
    finally:
        os.close(home)
    lines = ["link set lo up", "link add %s type bridge stp_state 0 forward_delay 0" % BRIDGE]
    lines += ["addr add %s/24 dev %s" % (HOST, BRIDGE), "link set %s up" % BRIDGE]
    _ip(space, lines)
    return space


def tap(space: int, name: str) -> None:
    """A fresh tap for a guest, at the bridge."""
    lines = ["tuntap del dev %s mode tap" % name, "tuntap add dev %s mode tap" % name]
    _ip(space, [*lines, "link set %s master %s up" % (name, BRIDGE)])


def inside(space: int) -> list[str]:
    """What to put before a command line to run it in the namespace; our child finds the descriptor in ours."""
    return ["nsenter", "--net=/proc/%d/fd/%d" % (os.getpid(), space), "--"]


def enter(space: int) -> None:
    _call("setns", space, CLONE_NEWNET)


def unshare(flags: int) -> None:
    """A namespace of its own for this thread."""
    _call("unshare", flags)


def relay(space: int, to: str, port: int) -> None:
    """For ssh's ProxyUseFdpass: connect within the namespace, and hand the connection over on standard output."""
    enter(space)
    with socket.create_connection((to, port), 20) as connection:
        connection.setblocking(True)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))]
        with socket.socket(fileno=os.dup(1)) as ssh:
            ssh.sendmsg([b"\0"], rights)


def _ip(space: int, lines: list[str]) -> None:
    called([*inside(space), "ip", "-batch", "-"], "\n".join(lines) + "\n")


def _call(name: str, *args: int) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (name, os.strerror(number)))
