# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on this host, seen by the tests themselves: no adapter of ours is asked.

``picture`` is everything at once, to be compared with another one. ``wrong`` holds one row of ``actions`` against what
is there: the mount table, stat(2), extended attributes, blkid(8), btrfs(8), SQLite.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import sqlite3
import stat
import struct
import subprocess
from typing import Any, Collection, Iterator, NamedTuple

OWN = ("/srv", "/mnt", "/var/lib", "/run/bulkhead")
CATALOGUE = "/var/lib/bulkhead/catalogue.sqlite"
_HIDDEN = ("id", "created_at", "last_used")  # of a row: chosen by the world
_libc = ctypes.CDLL(None, use_errno=True)


class Row(NamedTuple):
    number: int
    parent: int
    dev: str
    root: str
    path: str
    options: frozenset[str]
    tags: tuple[str, ...]
    fstype: str
    source: str
    more: dict[str, str]


def _text(raw: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), raw))


def mounts() -> list[Row]:
    rows = []
    with open("/proc/self/mountinfo", "rb") as stream:
        for line in stream.read().split(b"\n")[:-1]:
            left, _dash, right = line.partition(b" - ")
            fields, about = left.split(b" "), right.split(b" ")
            words = dict(_text(word).partition("=")[::2] for word in about[2].split(b","))
            options = frozenset(os.fsdecode(fields[5]).split(","))
            tags = tuple(os.fsdecode(tag) for tag in fields[6:])
            ids = int(fields[0]), int(fields[1]), os.fsdecode(fields[2])
            rows.append(
                Row(*ids, _text(fields[3]), _text(fields[4]), options, tags, _text(about[0]), _text(about[1]), words)
            )
    return rows


def top(rows: list[Row], path: str) -> Row | None:
    """The mount whose root is seen at a path; the kernel is asked for its id, so that hidden ones do not count."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        with open("/proc/self/fdinfo/%d" % fd) as stream:
            number = next(int(line.split()[1]) for line in stream if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    return next((row for row in rows if row.number == number and row.path == os.path.realpath(path)), None)


class Places:
    """What a path names by a table of mounts: a filesystem and a path in it, the same by whatever name it is reached.

    It does not have to be there. A link in it is followed as it is now.
    """

    def __init__(self, rows: list[Row]) -> None:
        numbers = {row.number for row in rows}
        self.on = {(row.parent if row.parent in numbers - {row.number} else 0, row.path): row for row in rows}

    def where(self, path: str, follow: bool = False) -> tuple[str, str]:
        path = os.path.realpath(path) if follow else path
        here, row = 0, None
        steps = [path[:at] for at, letter in enumerate(path) if letter == "/" and at]
        for step in ["/", *steps, *[path] * (path != "/")]:
            while (here, step) in self.on:
                row = self.on[here, step]
                here = row.number
        if row is None:
            raise LookupError("no mount holds " + path)
        rest = path[len(row.path.rstrip("/")) :].strip("/")
        return row.dev, (row.root.rstrip("/") + "/" + rest).rstrip("/") or "/"


def within(place: tuple[str, str], others: Collection[tuple[str, str]]) -> bool:
    """Is it one of them, or does it lie in one?"""
    dev, path = place
    while (dev, path) not in others:
        if path == "/":
            return False
        path = os.path.dirname(path)
    return True


# -- everything ------------------------------------------------------------------------------------------------------


def picture(times: bool = True) -> dict[str, Any]:
    """``times``: everything down to times and inodes, for a look that must change nothing at all."""
    seen: dict[str, Any] = {"mounts": _mount_rows(times), "rows": catalogue()}
    there: dict[str, os.stat_result] = {}
    for path in _paths():
        try:
            there[path] = os.lstat(path)
        except OSError as error:  # of an image that ends before its filesystem
            seen[path] = [error.strerror]
    seen["loops"] = sorted(loops({found.st_dev for found in there.values()}, times))
    attached = {row[-1] for row in seen["loops"]}  # what is mounted from an image may write to it at any time
    seen.update((path, _node(path, found, times, found.st_ino in attached)) for path, found in there.items())
    with open("/etc/fstab", "rb") as stream:
        seen["fstab"] = stream.read()
    etc = os.stat("/etc/fstab")
    seen["/etc"] = [sorted(os.listdir("/etc")), etc.st_mode, etc.st_uid, etc.st_gid]
    seen["/etc"] += [etc.st_ino, etc.st_mtime_ns, etc.st_ctime_ns] if times else []
    seen["quota"] = qgroups("/srv")
    return seen


def _paths() -> Iterator[str]:
    for own in OWN:
        yield own
        for at, folders, files in os.walk(own):
            yield from (os.path.join(at, name) for name in [*folders, *files])


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _backing(device: str) -> str:
    """The file behind a loop device, or nothing."""
    with contextlib.suppress(OSError), open("/sys/block/%s/loop/backing_file" % device[5:]) as stream:
        return stream.read().strip()
    return ""


def _mount_rows(times: bool) -> Any:
    if times:
        with open("/proc/self/mountinfo", "rb") as stream:
            return stream.read()
    rows = []
    for row in mounts():
        source = _backing(row.source) or row.source  # which loop device is free is chance
        tags = tuple(tag.partition(":")[0] for tag in row.tags)
        words = tuple(sorted(row.options)), tuple(sorted(row.more.items()))
        rows.append((row.path, row.root, tags, row.fstype, source, *words))
    return sorted(rows)


def _node(path: str, found: os.stat_result, times: bool, attached: bool) -> list[Any]:
    row: list[Any] = [stat.filemode(found.st_mode), found.st_uid, found.st_gid, found.st_rdev]
    row += [found.st_ino, found.st_nlink] if times else []
    row += [found.st_mtime_ns, found.st_ctime_ns] if times and not attached else []
    with contextlib.suppress(OSError):
        row.append(sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in _keys(path)))
    if stat.S_ISLNK(found.st_mode):
        row.append(os.readlink(path))
    elif stat.S_ISREG(found.st_mode) and not path.startswith("/var/lib/bulkhead/") or path.endswith(".img"):
        row += [found.st_size] if attached else [found.st_size, _content(path)]
    return row


def _keys(path: str) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def _content(path: str) -> str:
    """A digest of what is not a hole."""
    digest = hashlib.sha1()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        for start, end in segments(stream.fileno(), size):
            stream.seek(start)
            digest.update(b"%d %d" % (start, end) + stream.read(end - start))
    return digest.hexdigest()


def segments(fd: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def catalogue() -> dict[tuple[str, str], Any]:
    rows = {}
    if os.path.exists(CATALOGUE):
        with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % CATALOGUE, uri=True)) as db:
            for kind, key, value in db.execute("SELECT kind, key, value FROM rows"):
                rows[kind, key] = {k: v for k, v in json.loads(value).items() if k not in _HIDDEN}
    return rows


def loops(devices: set[int], names: bool = True) -> Iterator[tuple[Any, ...]]:
    """Loop devices whose backing file lies on one of these filesystems, also one that is gone."""
    import fcntl

    for name in os.listdir("/sys/block"):
        if name.startswith("loop") and os.path.exists("/sys/block/%s/loop" % name):
            info = bytearray(232)  # struct loop_info64, linux/loop.h
            with contextlib.suppress(OSError), open("/dev/" + name, "rb") as stream:
                fcntl.ioctl(stream, 0x4C05, info)
                device, inode = struct.unpack_from("=QQ", info)
                if os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00) in devices:
                    yield (name, inode) if names else (inode,)


def qgroups(path: str) -> list[Any]:
    """Limits and nesting; what is charged comes in its own time."""
    rows = mounts()
    if not any(row.path == path and row.fstype == "btrfs" for row in rows):
        return []
    argv = ["btrfs", "qgroup", "show", "-pre", "--raw", path]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        return ["off"]
    columns = [line.split() for line in done.stdout.decode().splitlines()]
    return sorted([row[0], *row[3:]] for row in columns if len(row) > 4 and "/" in row[0])


# -- one row of actions ----------------------------------------------------------------------------------------------


def wrong(row: dict[str, Any], value: Any, rows: list[Row], hidden: bool = False) -> list[str]:
    """How what is there differs from ``value`` (None: not there) of a row of actions.

    ``hidden``: the directory beneath what is mounted at this very path is meant.
    """
    if value == "UNKNOWN":
        return []
    looks = {"node": _wrong_node, "data": _wrong_node, "mounted": _wrong_node, "mount": _wrong_mount}
    looks.update(fstab=_wrong_fstab, record=_wrong_record, superblock=_wrong_superblock, quota=_wrong_quota)
    looks.update(quota_enabled=_wrong_enabled)
    found = looks[row["port"]](row["target"], value, rows, hidden)
    return ["%s %s: %s" % (row["port"], row["target"], text) for text in found]


def _unlike(value: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    known = {k: v for k, v in value.items() if k in seen and v != "UNKNOWN"}
    return ["%s is %r, said was %r" % (k, seen[k], v) for k, v in sorted(known.items()) if seen[k] != v]


def _under(path: str) -> int:
    """The directory above, in a private copy of its mount on which nothing is mounted."""
    above = os.path.dirname(path)
    fd = _libc.syscall(428, -100, os.fsencode(above), 0x1 | os.O_CLOEXEC)  # open_tree(2), a clone
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_tree %s" % above)
    return int(fd)


def _wrong_node(path: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    fd = -1
    try:
        name = path
        if hidden and path != "/":
            fd = _under(path)
            name = "/proc/self/fd/%d/%s" % (fd, os.path.basename(path))
        if value is None:
            return ["it is there"] if os.path.lexists(name) else []
        try:
            found = os.stat(name)
        except OSError as error:
            return ["it is not there: %s" % error.strerror]
        group, named = _acl(name, "system.posix_acl_access")
        _none, inherited = _acl(name, "system.posix_acl_default")
        mode = stat.S_IMODE(found.st_mode)
        kind = "file" if stat.S_ISREG(found.st_mode) else "directory" if stat.S_ISDIR(found.st_mode) else "other"
        seen: dict[str, Any] = {"type": kind, "uid": found.st_uid, "gid": found.st_gid, "size": found.st_size}
        seen["mode"] = "%04o" % (mode if group is None else mode & ~0o070 | group << 3)
        seen.update(acl=named, default_acl=inherited)
        if value["type"] == "subvolume" and kind == "directory" and found.st_ino == 256:
            seen["type"] = "subvolume"
        return _unlike(value, seen)
    finally:
        if fd >= 0:
            os.close(fd)


def _acl(path: str, key: str) -> tuple[int | None, list[str]]:
    """What each named one may really do, and the owning group's bits (None where there is no ACL)."""
    try:
        raw = os.getxattr(path, key)
    except OSError:
        return None, []
    entries = [struct.unpack_from("<HHI", raw, at) for at in range(4, len(raw), 8)]
    mask = next((perm for tag, perm, _id in entries if tag == 0x10), 7)
    named = []
    for tag, perm, number in entries:
        if tag in (0x02, 0x08):
            letters = "".join(c if perm & mask & bit else "-" for c, bit in zip("rwx", (4, 2, 1)))
            named.append("%s:%d:%s" % ("u" if tag == 0x02 else "g", number, letters))
    return next(perm & mask for tag, perm, _id in entries if tag == 0x04), sorted(named)


def _wrong_mount(path: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    row = top(rows, path)
    if value is None:
        return ["it is mounted"] if row is not None else []
    if row is None:
        return ["it is not mounted"]
    seen: dict[str, Any] = {"read_only": "ro" in row.options or "ro" in row.more}
    seen.update((word, word in row.options) for word in ("nosuid", "nodev", "noexec", "nodiratime"))
    seen["atime"] = next((word for word in ("noatime", "relatime") if word in row.options), "strictatime")
    kinds = [tag.partition(":")[0] for tag in row.tags]
    spread = "shared" if "shared" in kinds else "slave" if "master" in kinds else "private"
    seen["propagation"] = "slave" if value.get("propagation") == "slave" and spread == "private" else spread
    if value.get("bind") is True:
        return _unlike(value, seen) + _wrong_bind(path, value)
    seen["fstype"] = row.fstype
    seen.update(("o:" + k, v or True) for k, v in row.more.items())
    if row.fstype == "tmpfs":
        space, root = os.statvfs(path), os.stat(path)
        seen.update({"o:size": space.f_blocks * space.f_frsize, "o:nr_inodes": space.f_files, "o:uid": root.st_uid})
        seen.update({"o:gid": root.st_gid, "o:mode": "%04o" % stat.S_IMODE(root.st_mode)})
    source = str(value.get("source", ""))
    if source.startswith("/") and not source.startswith("/dev/loop"):
        found = {inode for _name, inode in loops({os.stat(source).st_dev})} if os.path.exists(source) else set()
        back = _backing(row.source)
        if os.path.exists(source) and (os.stat(source).st_ino not in found or os.path.basename(source) not in back):
            return ["it is mounted from %s (%s)" % (row.source, back)]
    return _unlike(value, seen)


def _wrong_bind(path: str, value: dict[str, Any]) -> list[str]:
    source = value["source"]
    if source == path or not os.path.exists(source):
        return []
    here, there = os.stat(path), os.stat(source)
    same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    return [] if same else ["it is not %s" % source]


def _wrong_fstab(target: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    file, _blank, path = target.partition(" ")
    found = []
    with open(file, "rb") as stream:
        for line in stream.read().split(b"\n"):
            fields = line.split()
            if point(line) == "/etc/fstab " + path:
                found.append(fields)
    if value is None:
        return ["there are %d lines" % len(found)] if found else []
    if len(found) != 1:
        return ["there are %d lines" % len(found)]
    fields = found[0] + [b"defaults", b"0", b"0"][len(found[0]) - 3 :]
    seen = {"source": _text(fields[0]), "fstype": os.fsdecode(fields[2]), "options": os.fsdecode(fields[3])}
    return _unlike(value, {**seen, "dump": int(fields[4]), "passno": int(fields[5])})


def point(line: bytes) -> str:
    """The file and the mount point of a line of fstab, as a row of actions names them."""
    fields = line.split()
    return "" if len(fields) < 3 or fields[0][:1] == b"#" else "/etc/fstab " + (_text(fields[1]).rstrip("/") or "/")


def _wrong_record(target: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    kind, _blank, key = target.partition(" ")
    row = catalogue().get((kind, key))
    if value is None or row is None:
        return [] if row is value else ["it is %r" % (row,)]
    if isinstance(row.get("mode"), int):
        row["mode"] = "%04o" % row["mode"]
    lost = [k for k in value if k not in row and k not in _HIDDEN]
    return _unlike(value, row) + ["%s is not recorded" % k for k in lost]


def _wrong_superblock(path: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    argv = ["blkid", "-p", "-o", "export", path]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    tags = dict(line.partition("=")[::2] for line in done.splitlines())
    if value is None:
        return ["it holds %s" % tags["TYPE"]] if "TYPE" in tags else []
    if value.get("fstype") is None:
        return []
    label = tags.get("LABEL", tags.get("LABEL_FATBOOT", "")).replace("\\ ", " ")
    seen: dict[str, Any] = {"fstype": tags.get("TYPE"), "label": label, "uuid": tags.get("UUID")}
    return _unlike(value, seen)


def _wrong_quota(target: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    path = target.partition(" ")[2]
    if not os.path.exists(path):
        return [] if value is None else ["there is no %s" % path]
    argv = ["btrfs", "subvolume", "show", path]
    shown = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    number = re.search(r"Subvolume ID:\s*(\d+)", shown)
    if number is None:
        return [] if value is None else ["it is no subvolume"]
    groups = {row[0]: row for row in qgroups("/srv") if row != "off" and isinstance(row, list)}
    limits = [groups.get("%d/%s" % (level, number.group(1)), ["", "none"])[1] for level in (0, 1)]
    hard = min((int(limit) for limit in limits if limit != "none"), default=None)
    return _unlike(value or {"hard": None}, {"hard": hard})


def _wrong_enabled(path: str, value: Any, rows: list[Row], hidden: bool) -> list[str]:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    argv = ["btrfs", "qgroup", "show", path]
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [] if (done.returncode == 0) == bool(value) else ["quota is %s" % ("off" if done.returncode else "on")]
