# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""New secrets for a session that stands: told to the kernel (scsi/iscsi_if.h), where iscsid finds them.

iscsid keeps the secrets of the login and takes no others; when the connection is lost it would log in with the old ones,
for ever. What it does look at, when it starts, is what the kernel says of each session. It then logs in anew on the
same session, whose disks stay: their requests wait meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure

_NETLINK_ISCSI, _SET_PARAM, _ERROR = 8, 16, 103
_PARAM = {"username": 22, "mutual_username": 23, "password": 24, "mutual_password": 25}
_EVENT = "=IIQ IIII8x 16x"  # type, error, transport; session, connection, parameter, length; what the kernel answers
_SECONDS = 5.0


def tell(transport: int, session: int, word: str, value: str) -> None:
    """Raises OSError in our shape; ENOTCONN where the connection is down."""
    text = value.encode() + b"\0"
    event = struct.pack(_EVENT, _SET_PARAM, 0, transport, session, 0, _PARAM[word], len(text)) + text
    message = struct.pack("=IHHII", 16 + len(event), _SET_PARAM, 0, 0, 0) + event
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ISCSI) as line:
        line.settimeout(_SECONDS)
        try:
            line.bind((0, 0))
            line.send(message)
            while True:
                answer: Any = line.recv(4096)
                kind, error = struct.unpack_from("=II", answer, 16)
                if kind == _ERROR:
                    raise OSError(-struct.unpack("=i", struct.pack("=I", error))[0], os.strerror(errno.EIO))
                if kind == _SET_PARAM:
                    code = struct.unpack_from("=i", answer, 56)[0]
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
        except OSError as error:
            raise failure(error, "cannot tell the kernel the new %s of session %d" % (word, session)) from error
