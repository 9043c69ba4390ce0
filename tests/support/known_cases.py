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
    "a bind from a memory filesystem that lies behind a link": {
        "srv": "tmpfs",
        "moves": [
            {"do": "symlink", "path": "/mnt/-f", "to": "."},
            {
                "declare": {
                    "tmpfs": [{"path": "/mnt/-f/t\\040", "size": "5000"}],
                    "mounts": [{"path": "/srv/b/b", "source": "/mnt/-f/t\\040", "bind": True}],
                }
            },
        ],
    },
    "a bind of a directory that a fresh memory filesystem hides": {
        "srv": "tmpfs",
        "moves": [
            {"do": "dir", "path": "/srv/a/b/t\\040", "mode": 0, "uid": 0},
            {
                "declare": {
                    "mounts": [{"path": "/srv/c", "source": "/srv/a/b/t\\040", "bind": True}],
                    "volumes": [{"name": "v2", "size": "2MiB", "state": "attached"}],
                    "tmpfs": [{"path": "/srv/a/b", "size": "100KB"}],
                }
            },
        ],
    },
    "a pool in a fresh memory filesystem": {
        "srv": "tmpfs",
        "moves": [
            {
                "declare": {
                    "pools": [{"name": "p1", "backend": "loop", "config": {"path": "/srv/a"}}],
                    "tmpfs": [{"path": "/srv/a", "size": "100KB"}],
                }
            }
        ],
    },
    "a tree of the memory volume that is attached there": {
        "srv": "tmpfs",
        "moves": [
            {
                "declare": {
                    "volumes": [
                        {"name": "v1", "size": "2MiB", "target": "/srv/'q", "type": "memory", "state": "attached"}
                    ],
                    "trees": [{"root": "/srv/'q", "entries": [{"path": "."}]}],
                }
            }
        ],
    },
    "a quota on a fresh memory filesystem": {
        "srv": "simple",
        "moves": [
            {
                "declare": {
                    "tmpfs": [{"path": "/srv/b", "size": "64KiB"}],
                    "quotas": [{"path": "/srv/b", "hard": "16MiB"}],
                }
            }
        ],
    },
    "a bind that may be written of a filesystem that may not": {
        "srv": "tmpfs",
        "moves": [
            {"do": "tmpfs", "path": "/srv/'q", "options": "size=64k", "flags": 1, "source": "other thing"},
            {"declare": {"mounts": [{"path": "/mnt/a/a", "source": "/srv/'q", "bind": True, "read_only": False}]}},
        ],
    },
    "a mount in a bind that is made beside it": {
        "srv": "tmpfs",
        "moves": [
            {"do": "dir", "path": "/srv/'q", "mode": 0, "uid": 0},
            {
                "declare": {
                    "mounts": [
                        {"path": "/mnt/b/a", "source": "/srv", "bind": True},
                        {"path": "/mnt/b", "source": "/srv/'q", "bind": True},
                    ]
                }
            },
        ],
    },
    "a bind of somebody's mount in somebody's directory": {
        "srv": "tmpfs",
        "moves": [
            {"do": "dir", "path": "/srv/x y", "acl": "u:1001:rwx,g:1002:r-x", "default_acl": "u:1001:rwx"},
            {
                "do": "tmpfs",
                "path": "/srv/x y/b/a",
                "options": "mode=0700,uid=1000",
                "flags": 1,
                "source": "other thing",
            },
            {"declare": {"mounts": [{"path": "/mnt/x y", "source": "/srv/x y/b/a", "bind": True}]}},
        ],
    },
    "a bind from an image that does not hold its source": {
        "srv": "tmpfs",
        "moves": [
            {"do": "image", "path": "/mnt/img/c.img", "what": "ext4", "size": 1048576, "more": 0},
            {
                "declare": {
                    "mounts": [
                        {"path": "/srv/'q", "source": "/mnt/a/t\\040", "bind": True},
                        {"path": "/mnt/a", "source": "/mnt/img/c.img", "fstype": "ext4"},
                    ]
                }
            },
        ],
    },
    "an image that is mounted elsewhere already": {
        "srv": "tmpfs",
        "moves": [
            {"do": "image", "path": "/mnt/img/b.img", "what": "ext4", "size": 16777216, "more": 0},
            {"do": "image mount", "path": "/srv/#h", "image": "/mnt/img/b.img", "options": ",nosuid"},
            {"declare": {"trees": [{"root": "/srv/a", "entries": [{"path": "a/#h"}]}]}},
            {
                "declare": {
                    "tmpfs": [
                        {"path": "/srv/c/'q", "size": "4096", "inodes": 64, "mode": "0755", "persist": "none"},
                        {
                            "path": "/srv/é/c/x y",
                            "size": "2MiB",
                            "inodes": 1000,
                            "noexec": False,
                            "options": ["noatime"],
                            "state": "unmounted",
                        },
                    ],
                    "mounts": [
                        {"path": "/srv/c/é/t\\040", "source": "/srv/a/a/#h", "bind": True},
                        {"path": "/mnt/b/'q", "source": "/mnt/img/b.img", "fstype": "ext4"},
                    ],
                }
            },
        ],
    },
    "an entry of a tree beneath a mount in that tree": {
        "srv": "tmpfs",
        "moves": [
            {
                "declare": {
                    "trees": [{"root": "/srv", "entries": [{"path": "é/t\\040"}]}],
                    "tmpfs": [{"path": "/srv/é", "size": "4096"}],
                }
            }
        ],
    },
    "one image mounted twice": {
        "srv": "tmpfs",
        "moves": [
            {"do": "image", "path": "/mnt/img/b.img", "what": "ext4", "size": 0, "more": 0},
            {
                "declare": {
                    "mounts": [
                        {"path": "/mnt/x y", "source": "/mnt/img/b.img", "fstype": "ext4"},
                        {"path": "/srv/a/a", "source": "/mnt/img/b.img", "fstype": "ext4"},
                    ],
                    "trees": [{"root": "/mnt/b", "entries": [{"path": "a/c"}]}],
                }
            },
        ],
    },
    "a mount point in a directory that was removed": {
        "srv": "tmpfs",
        "moves": [
            {"do": "bind", "path": "/mnt/a", "source": "/srv/a", "flags": 0},
            {"do": "remove", "path": "/srv/a"},
            {"declare": {"mounts": [{"path": "/mnt/a/a", "source": "/mnt", "bind": True}]}},
        ],
    },
    "a quota in an image that is mounted beside": {
        "srv": "tmpfs",
        "moves": [
            {
                "declare": {
                    "quotas": [{"path": "/srv/'q/a", "hard": "none"}],
                    "volumes": [{"name": "v2", "size": "8MiB", "target": "/srv/'q", "state": "attached"}],
                }
            }
        ],
    },
    "a bind of a memory filesystem that is read-only": {
        "srv": "tmpfs",
        "moves": [
            {"do": "tmpfs", "path": "/srv/a", "options": "", "flags": 1, "source": "tmpfs"},
            {"declare": {"mounts": [{"path": "/srv/b/a", "source": "/srv/a", "bind": True, "options": ["nodev"]}]}},
        ],
    },
    "another name of /etc": {
        "srv": "tmpfs",
        "moves": [
            {"do": "symlink", "path": "/srv/a", "to": "/etc"},
            {"do": "bind", "path": "/mnt/a", "source": "/srv/a", "flags": 6},
            {"declare": {"mounts": [{"path": "/mnt/c", "source": "/srv/b", "bind": True, "state": "present"}]}},
        ],
    },
    "a limit on a memory filesystem that has none": {
        "srv": "tmpfs",
        "moves": [
            {"do": "tmpfs", "path": "/srv/a", "options": "size=0", "flags": 0, "source": "tmpfs"},
            {"declare": {"tmpfs": [{"path": "/srv/a", "size": "2MiB"}]}},
        ],
    },
}
