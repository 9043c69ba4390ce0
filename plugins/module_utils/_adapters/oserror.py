# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error number of the operating system is in our codes."""

from __future__ import annotations

import errno
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_CODES = {
    "no_space": (errno.ENOSPC, errno.EDQUOT),
    "denied": (errno.EROFS, errno.EACCES, errno.EPERM),
    "in_use": (errno.EBUSY,),
    "unsupported": (errno.ENOTSUP, errno.ENODEV, errno.ENOSYS),
    "unsafe_path": (errno.ELOOP, errno.EXDEV),
    "not_found": (errno.ENOENT,),
    "moved": (errno.EEXIST,),
    "unreadable": (errno.EIO, errno.ENXIO),  # ENXIO: a socket, or a device without its driver
    "invalid": (errno.ENAMETOOLONG,),
    "limit_exceeded": (errno.EFBIG,),
}


def failure(exc: OSError, doing: str, hint: str = "", **details: Any) -> StorageError:
    """``doing`` names the act and the path: ``cannot mount /a``."""
    code = next((code for code, numbers in _CODES.items() if exc.errno in numbers), "failed")
    return StorageError(code, "%s: %s" % (doing, exc.strerror or exc), hint, errno=exc.errno, **details)
