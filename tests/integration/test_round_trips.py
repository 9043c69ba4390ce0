# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said comes back as it was said, through the kernel or the C library and not only through ourselves (P10).

Paths of mounts, ACLs, lines of fstab, options of mounts; the pure round trips (sizes, fields, attributes) stand beside
what they test, names of units in test_systemd_unit.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import subprocess
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl, fstab, mountinfo, mounts, node
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, octal, size
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options, tmpfs
from ansible_collections.bulkhead.storage.tests.support import namespace

HARD = [
    b"\n",
    b"\t",
    b" ",
    b"\\",
    b"\\040",
    b"#",
    b"\xff",
    "\u2028".encode(),
    b"\r",
    b"\x0b",
    b"\x85",
    b"\x1b[31m",
    b"-",
]
HARD += ["é".encode(), "e\u0301".encode(), b"//deleted", b"%n", b"$(id)", b"'", b'"', b",", b":", b"a", b"bc"]
_libc = ctypes.CDLL(None, use_errno=True)


def _name(chance: random.Random, without: bytes = b"") -> str:
    parts = [part for part in HARD if not set(part) & {*without, *b"/"}]
    raw = b"".join(chance.choice(parts) for _part in range(chance.randint(1, 6)))
    return raw.decode("utf-8", "surrogateescape")


def test_paths_of_mounts_come_back_from_the_kernel(arena: str) -> None:
    """Mount point and root, any byte that a name can hold."""
    chance, wanted = random.Random(10), {}
    for number in range(300):
        source, target = ("%s/%s%d-%s" % (arena, kind, number, _name(chance)) for kind in "st")
        for path in (source, target):
            os.mkdir(names.encode(path))
        assert _libc.mount(names.encode(source), names.encode(target), None, ctypes.c_ulong(4096), None) == 0
        wanted[target] = source
    rows = {row.path: row for row in mountinfo.parse(mountinfo.read())}
    table = mountinfo.Table(list(rows.values()))
    for target, source in wanted.items():
        assert rows[target].root == source[len(arena) :], (source, target)
        assert source in table.sources(rows[target])
        assert os.path.samefile(names.encode(source), names.encode(target))
    print("%d mounts" % len(wanted))


def test_acls_come_back_from_getfacl(arena: str) -> None:
    """Declared text, the kernel's attribute, what getfacl(1) prints, and that declared again."""
    chance, port, wanted = random.Random(11), node.Node(), {}
    for number in range(200):
        who = {("ug"[chance.randrange(2)], chance.choice((0, 1, 1000, 65534, 2**31, 2**32 - 2))) for _n in range(4)}
        entries = ["%s:%d:%s" % (*each, acl._PERMS[chance.randrange(8)]) for each in sorted(who)]
        path, mode = "%s/d%d" % (arena, number), chance.randrange(0o1000)
        said = {"type": "directory", "mode": mode, "acl": entries, "default_acl": entries[:2]}
        declared = port.resolve(path, said)
        port.put(path, None, port.merge(path, None, declared or {}))
        wanted[path] = declared
    shown = subprocess.run(["getfacl", "-n", "-p", "-E", *wanted], check=True, stdout=subprocess.PIPE).stdout.decode()
    for block in shown.strip().split("\n\n"):
        lines = block.split("\n")
        path = lines[0].partition("# file: ")[2]
        rights = [line for line in lines if not line.startswith("#")]
        own = [line for line in rights if not line.startswith("default:") and line.split(":")[1] and "mask" not in line]
        default = [line[8:] for line in rights if line.startswith("default:") and line.split(":")[2]]
        again = {"acl": acl.parse(own), "default_acl": acl.parse(default, "default_acl")}
        seen = port.scan([path])[path]
        assert {key: seen[key] for key in again} == again == {key: wanted[path][key] for key in again}, block
        assert seen["mode"] == wanted[path]["mode"]
    print("%d directories" % len(wanted))


class _Entry(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("fsname", "dir", "type", "opts")]
    _fields_ += [("freq", ctypes.c_int), ("passno", ctypes.c_int)]


def _entries(file: str) -> list[tuple[Any, ...]]:
    """What getmntent(3) of the C library reads: all but ``\\043``, a first ``#``, which libmount alone decodes."""
    _libc.setmntent.restype, _libc.getmntent.restype = ctypes.c_void_p, ctypes.POINTER(_Entry)
    stream, found = ctypes.c_void_p(_libc.setmntent(file.encode(), b"r")), []
    with contextlib.closing(contextlib.ExitStack()) as held:
        held.callback(_libc.endmntent, stream)
        while True:
            entry = _libc.getmntent(stream)
            if not entry:
                return found
            at = entry.contents
            found.append((at.fsname, at.dir, at.type, at.opts, at.freq, at.passno))


def test_lines_of_fstab_come_back_from_the_c_library(arena: str) -> None:
    chance, file, wanted = random.Random(12), arena + "/fstab", {}
    port = fstab.Fstab()
    for number in range(300):
        control = bytes(range(32)) + b"\x7f"
        path = "/%d%s" % (number, _name(chance, control))
        value = {
            "source": "s" + _name(chance, control),
            "fstype": chance.choice(("ext4", "none", "tmpfs")),
            "dump": number % 2,
        }
        value.update(options=chance.choice(("defaults", "ro,nosuid", "x-a=b,bind")), passno=number % 3)
        port.put((file, path), None, value)
        wanted[path] = value
    assert port.scan([(file, path) for path in wanted]) == {(file, path): value for path, value in wanted.items()}
    keys = ("fstype", "options")
    read = [(v["source"], p, *(v[k] for k in keys), v["dump"], v["passno"]) for p, v in wanted.items()]
    raw = [tuple(names.encode(field) if isinstance(field, str) else field for field in row) for row in read]
    assert _entries(file) == raw
    print("%d lines" % len(raw))


def test_options_of_mounts_come_back_as_words(arena: str) -> None:
    """Words, their fields, the kernel's flags, the words that a result shows, and their fields again."""
    chance, port = random.Random(13), mounts.Mounts()
    kinds = [("ro", "rw"), ("noexec", "exec"), ("nodiratime", "diratime"), ("relatime", "noatime", "strictatime")]
    for number in range(150):
        path = "%s/m%d" % (arena, number)
        os.mkdir(path)
        words = [chance.choice(kind) for kind in kinds if chance.random() < 0.6]
        fields, _kept = mount_options.parse(chance.sample(words, len(words)), "tmpfs")
        room, inodes, mode = chance.randint(1, 1 << 22), chance.randint(2, 500), chance.randrange(0o10000)
        bounds = {"o:size": room, "o:nr_inodes": inodes, "o:mode": mode}
        declared = {"source": "tmpfs", "fstype": "tmpfs", **bounds, **fields}
        port.put(path, None, port.merge(path, None, port.resolve(path, declared)))
        seen = port.scan([path])[path]
        shown = tmpfs.words_of(seen)
        own = {word.partition("=")[0]: word.partition("=")[2] for word in shown if "=" in word}
        again, _kept = mount_options.parse([w for w in shown if "=" not in w], "tmpfs")
        assert {key: again.get(key, False) for key in fields} == fields, (words, shown)
        assert (size.parse(own["size"]), int(own["nr_inodes"])) == (-(-room // 4096) * 4096, inodes)
        assert octal.mode(own["mode"]) == mode == os.stat(path).st_mode & 0o7777
        flags = set(_findmnt(path))
        assert {w for w in words if w in ("ro", "noexec", "nodiratime", "noatime")} <= flags, (words, flags)
        namespace._call("umount2", path.encode(), 0)


def _findmnt(path: str) -> list[str]:
    argv = ["findmnt", "-n", "-o", "VFS-OPTIONS", "--mountpoint", path]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode().strip().split(",")
