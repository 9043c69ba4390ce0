# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as systemd makes them: of units from paths (systemd.unit(5)), of device nodes from tags (udev)."""

from __future__ import annotations

import re

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

UNIT_NAME_MAX = 255
UNIT = re.compile(
    r"[A-Za-z0-9:_.\\@-]+\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)", re.ASCII
)
_TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(.*)", re.DOTALL)
_IN_NODE = re.compile(r"[^A-Za-z0-9#+.:=@_\u0080-\U0010ffff-]", re.ASCII)


def escape(path: str) -> str:
    """What ``systemd-escape --path`` makes of an absolute path."""
    inner = encode(path).strip(b"/")
    if not inner:
        return "-"
    escaped = re.sub(rb"^\.|[^A-Za-z0-9:_./]", lambda m: b"\\x%02x" % m.group(0)[0], inner)
    return escaped.replace(b"/", b"-").decode("ascii")


def mount_unit(path: str) -> str:
    """The name of the unit of a mount point; ``invalid`` where systemd could have none, or could not read it."""
    name, problem = escape(path) + ".mount", written_problem(path)
    if len(name) > UNIT_NAME_MAX:
        problem = "makes a unit name of %d bytes, and %d is the most" % (len(name), UNIT_NAME_MAX)
    if problem:
        raise StorageError("invalid", "path %.300r %s" % (path, problem), "use persist: fstab", option="path")
    return name


def written_problem(value: str) -> str:
    """Why a value would not read back from a unit file (systemd.syntax(7)); "" where it would."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8, which a unit file must be"
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        return "holds a control character"
    if value[:1].isspace() or value[-1:].isspace() or value.endswith("\\"):
        return "begins or ends with what a unit file drops there"
    return ""


def device_node(source: str) -> str:
    """``UUID=`` and the like as the path that udev makes for it; anything else as it is."""
    tag = _TAG.fullmatch(source)
    if tag is None:
        return source
    value = _IN_NODE.sub(lambda m: "\\x%02x" % ord(m.group(0)), tag.group(2))
    return "/dev/disk/by-%s/%s" % (tag.group(1).lower(), value)


def is_device(source: str) -> bool:
    return source.startswith(("/dev/", "/sys/"))


def unit_of(word: str) -> str:
    """The unit that an option such as ``x-systemd.requires=`` names, by its name or by a path."""
    if word.startswith("/") and not {"", ".", ".."}.intersection(word[1:].rstrip("/").split("/")):
        return escape(word) + (".device" if word.startswith(("/dev/", "/sys/")) else ".mount")
    plain = re.sub(rb"[^A-Za-z0-9:_.\\@/-]", lambda m: b"\\x%02x" % m.group(0)[0], encode(word)).decode("ascii")
    plain = plain.replace("/", "-")
    return plain if UNIT.fullmatch(plain) else plain + ".mount"
