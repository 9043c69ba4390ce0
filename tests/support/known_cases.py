# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases for ``worlds`` in which something was wrong once, as small as they were found."""

from __future__ import annotations

from typing import Any

KNOWN: dict[str, dict[str, Any]] = {
    "implied directories go that are seen through a bind": {
        "srv": "tmpfs",
        "moves": [
            {"do": "bind", "path": "/srv/b", "source": "/mnt/a", "flags": 6},
            {"declare": {"trees": [{"root": "/srv/b/é", "entries": [{"path": "b/b"}]}]}},
            {
                "declare": {"state": "absent", "trees": [{"root": "/srv/b/é", "entries": [{"path": "b/b"}]}]},
                "undoes": True,
            },
        ],
    },
    "a memory filesystem is resized that is bound elsewhere": {
        "srv": "tmpfs",
        "moves": [
            {
                "declare": {
                    "tmpfs": [{"path": "/srv/a", "size": "1MiB"}],
                    "mounts": [{"path": "/mnt/#h", "source": "/srv/a", "bind": True}],
                }
            },
            {"declare": {"tmpfs": [{"path": "/srv/a", "size": "4096"}]}},
        ],
    },
    "another filesystem than the xfs that is mounted": {
        "srv": "tmpfs",
        "moves": [
            {"do": "image", "path": "/mnt/img/b.img", "what": "xfs", "size": 16777216, "more": 0},
            {"declare": {"mounts": [{"path": "/srv/#h/c", "source": "/mnt/img/b.img", "fstype": "xfs"}]}},
            {"declare": {"filesystems": [{"device": "/mnt/img/b.img", "fstype": "ext4"}]}},
        ],
    },
    "a bind of a subvolume whose name holds a backslash": {
        "srv": "plain",
        "moves": [
            {"do": "subvolume", "path": "/srv/#h/t\\040/a"},
            {"declare": {"mounts": [{"path": "/srv/a", "source": "/srv/#h/t\\040/a", "bind": True}]}},
            {"declare": {"state": "absent", "mounts": [{"path": "/srv/a"}]}, "undoes": True},
        ],
    },
}
