# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""quotactl(2) by the device of a mount, for where quotactl_fd(2) is missing (Linux before 5.14) or forbidden."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import check, libc, syscall
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode


def call(fd: int, code: int, number: int, buffer: Any) -> None:
    """Raises OSError; ENOSYS also when quotactl_fd(2) is there and says that no quota is on."""
    syscall(443, -1, code, number, 0)
    if ctypes.get_errno() != errno.ENOSYS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    about = os.fstat(fd).st_dev
    dev = "%d:%d" % (os.major(about), os.minor(about))
    sources = [row.source for row in mountinfo.parse(mountinfo.read()) if row.dev == dev and row.source[:1] == "/"]
    if not sources:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    check(libc.quotactl(ctypes.c_int(code & 0xFFFFFFFF), encode(sources[0]), ctypes.c_uint(number), buffer))
