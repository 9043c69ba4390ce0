# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``UUID=`` and its like (fstab(5)) as the path under which udev shows the device."""

from __future__ import annotations

import re

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_TAG = re.compile(r'(UUID|LABEL|PARTUUID|PARTLABEL)="?([^"]+)"?', re.DOTALL)


def path(source: str) -> str:
    """What is no tag stays as it is."""
    tag = _TAG.fullmatch(source)
    if tag is None:
        return source
    # udev writes bytes that are unsafe in a file name as \xHH (systemd, encode_devnode_name)
    safe = re.sub(rb"[^A-Za-z0-9#+\-.:=@_\x80-\xff]", lambda m: b"\\x%02x" % m.group(0)[0], encode(tag.group(2)))
    return "/dev/disk/by-%s/%s" % (tag.group(1).lower(), mountinfo.text(safe.replace(b"\\", b"\\134")))
