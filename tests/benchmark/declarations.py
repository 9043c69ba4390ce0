# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared, at any size: for our ``layout``, and as the tasks with which others would do it today."""

from __future__ import annotations

from typing import Any

KINDS = ("directories", "tmpfs", "binds", "filesystems", "quotas", "volumes")
IMAGE = 16 << 20

Document = dict[str, list[dict[str, Any]]]
Tasks = list[dict[str, Any]]


def users(index: int) -> list[int]:
    return [100000 + 3 * index + k for k in range(3)]


def tenants(count: int) -> Document:
    """A directory each, with owner, mode, and three users in its ACL and in its default ACL: six entries."""
    trees = []
    for i in range(count):
        acl = ["u:%d:rwX" % user for user in users(i)]
        entry = {"path": ".", "owner": str(10000 + i), "group": "100", "mode": "2770", "acl": acl, "default_acl": acl}
        trees.append({"root": "/srv/tenants/t%04d" % i, "entries": [entry]})
    return {"trees": trees}


def document(kind: str, count: int) -> Document:
    n = range(count)
    if kind == "directories":
        return tenants(count)
    if kind == "tmpfs":
        return {"tmpfs": [{"path": "/mnt/tmpfs/%04d" % i, "size": "1MiB", "persist": "none"} for i in n]}
    if kind == "binds":
        common = {"bind": True, "persist": "none", "options": ["nosuid", "nodev"]}
        return {"mounts": [{"path": "/mnt/binds/%04d" % i, "source": "/mnt/sources/%04d" % i, **common} for i in n]}
    if kind == "filesystems":
        return {"filesystems": [{"device": "/mnt/images/%04d.img" % i, "fstype": "ext4"} for i in n]}
    if kind == "quotas":
        return {"quotas": [{"path": "/srv/quotas/%04d" % i, "hard": "64MiB"} for i in n]}
    pool = {"name": "bench", "backend": "btrfs", "config": {"path": "/srv/pool"}, "overcommit": 1000.0}
    volumes = [{"name": "v%04d" % i, "pool": "bench", "size": "64MiB", "owner": "1000", "mode": "0700"} for i in n]
    return {"pools": [pool], "volumes": volumes}


def ours(kind: str, count: int) -> Tasks:
    """One task; the lists are variables (see ``document``)."""
    return [{"bulkhead.storage.layout": {name: "{{ %s }}" % name for name in document(kind, count)}}]


def peers(kind: str, count: int) -> Tasks:
    """The same with what people loop over today; no tasks where nobody has a module for it."""
    n = range(count)
    if kind == "directories":
        folder = {"path": "{{ item.path }}", "state": "directory", "owner": "{{ item.owner }}", "group": "100"}
        folders = [{"path": "/srv/tenants/t%04d" % i, "owner": str(10000 + i)} for i in n]
        entry = {"path": "{{ item.path }}", "etype": "user", "entity": "{{ item.user }}", "permissions": "rwx"}
        entries = [
            {"path": "/srv/tenants/t%04d" % i, "user": str(user), "default": default}
            for i in n
            for user in users(i)
            for default in (False, True)
        ]
        return [
            {"ansible.builtin.file": {**folder, "mode": "2770"}, "loop": folders},
            {"ansible.posix.acl": {**entry, "default": "{{ item.default }}", "state": "present"}, "loop": entries},
        ]
    if kind == "tmpfs":
        mount = {"path": "/mnt/tmpfs/{{ item }}", "src": "tmpfs", "fstype": "tmpfs", "opts": "size=1m"}
    elif kind == "binds":
        mount = {"path": "/mnt/binds/{{ item }}", "src": "/mnt/sources/{{ item }}", "fstype": "none", "opts": "bind"}
    elif kind == "filesystems":
        made = {"dev": "/mnt/images/{{ item }}.img", "fstype": "ext4"}
        return [{"community.general.filesystem": made, "loop": ["%04d" % i for i in n]}]
    else:  # nobody has a module: the limit is set again each time
        place = "/srv/quotas" if kind == "quotas" else "/srv/pool"
        argv = ["btrfs", "qgroup", "limit", "64M", place + "/{{ item }}"]
        task = {"ansible.builtin.command": {"argv": argv}, "changed_when": False}
        return [{**task, "loop": ["%04d" % i for i in n]}] if kind == "quotas" else []
    return [{"ansible.posix.mount": {**mount, "state": "ephemeral"}, "loop": ["%04d" % i for i in n]}]


def play(tasks: Tasks, hosts: str = "localhost", **more: Any) -> list[dict[str, Any]]:
    return [{"hosts": hosts, "gather_facts": False, **more, "tasks": tasks}]
