# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of a job mean, checked as a whole: asked only of jobs that are not known yet, or said anew."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job, tmpfs

# What a job's root has of its own; a volume lies nowhere in it but beneath /volumes.
FOLDERS = ("bin", "lib", "lib64", "etc", "proc", "sys", "dev", "tmp", "work", "run")
NOBODY = "65534"  # systemd's own name for who has nothing (systemd's UIDS-GIDS)
WORK, OUTPUT = "1MiB", "1MiB"
SHOWN_WORDS, SHOWN = 16, 100  # of a command that are kept to be shown, and characters of each
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10}", re.ASCII)
# What is read in a unit file as it is written: no quote, no specifier, no colon between two paths.
_PATH = re.compile(r"[A-Za-z0-9_.+@/-]+", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,5})%", re.ASCII)
MOST = 128 << 10  # bytes of one argument or variable (execve(2), MAX_ARG_STRLEN)


def spec(p: dict[str, Any]) -> dict[str, Any]:
    """Everything that makes this job this job, with the defaults of today. Raises ``invalid`` or ``unsupported``."""
    if not p["command"]:
        raise StorageError("invalid", "command is required", "a list: the program and its arguments", option="command")
    for word in p["command"]:
        _text(word, "command")
    root = p["rootfs"] or "minimal"
    if root != "minimal":
        if not root.startswith("/"):
            text = "rootfs %.80r is no directory, and images are not supported yet" % root
            raise StorageError("unsupported", text, "minimal, or an absolute path", option="rootfs")
        root = _path(root, "rootfs")
    if p["timeout"] is not None and p["timeout"] < 1:
        raise StorageError("invalid", "timeout %d is not at least 1 s" % p["timeout"], option="timeout")
    if p["pids_max"] is not None and not 1 <= p["pids_max"] <= 1 << 22:
        raise StorageError("invalid", "pids_max %d is not in 1..4194304" % p["pids_max"], option="pids_max")
    return {
        "command": list(p["command"]),
        "user": _user(p["user"], "user") or NOBODY,
        "group": _user(p["group"], "group"),
        "working_dir": _path(p["working_dir"] or "/work", "working_dir"),
        "environment": _environment(p["environment"] or {}),
        "stdin": _text(p["stdin"], "stdin") if p["stdin"] is not None else None,
        "volumes": _volumes(p["volumes"] or [], p["id"]),
        "rootfs": root,
        "work_size": size.parse(p["work_size"] or WORK, minimum=4096, unit=4096),
        "memory_max": size.parse(p["memory_max"], minimum=1 << 20, unit=4096) if p["memory_max"] else None,
        "cpu_quota": _percent(p["cpu_quota"]) if p["cpu_quota"] else None,
        "pids_max": p["pids_max"],
        "timeout": p["timeout"],
        "network": p["network"] or "none",
        "output_max": size.parse(p["output_max"] or OUTPUT, minimum=4096, unit=4096),
        "io": _io(p["io"]) if p["io"] is not None else None,
    }


def recorded(spec: dict[str, Any]) -> dict[str, Any]:
    """The row of the catalogue: what may be shown, and a digest of all of it. No environment, no input."""
    text = json.dumps(spec, sort_keys=True).encode()
    volumes = sorted(volume["name"] for volume in spec["volumes"])
    words = [word if len(word) <= SHOWN else word[:SHOWN] + "..." for word in spec["command"][:SHOWN_WORDS]]
    words += ["..."] * (len(spec["command"]) > SHOWN_WORDS)
    return {"digest": hashlib.sha256(text).hexdigest(), "command": words, "volumes": volumes}


def output(spec: dict[str, Any]) -> dict[str, Any]:
    """What a job says is written here first: no more than it may say, and memory of its own."""
    bounds = {"size": str(2 * spec["output_max"]), "inodes": 8, "mode": "0700", "owner": "0", "group": "0"}
    return tmpfs.bounds(bounds)[0]


def _volumes(volumes: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    inside: set[str] = set()
    for volume in volumes:
        name = names.identifier(volume["name"], "volumes.name")
        namespace = names.identifier(volume["namespace"], "volumes.namespace")
        path = _path(volume["path"] or "/volumes/" + name, "volumes.path")
        if path in ("/", "/volumes") or path.split("/")[1] in FOLDERS:
            text = "volumes.path %s lies in what a job's root has of its own" % path
            raise StorageError("invalid", text, "beneath /volumes, or a folder of its own", option="volumes")
        if any(names.within(path, other) or names.within(other, path) for other in inside):
            text = "volumes.path %s and another one lie in each other" % path
            raise StorageError("conflict", text, "say path", option="volumes")
        inside.add(path)
        full = "%s/%s" % (namespace, name)
        if any(other["name"] == full for other in found):
            raise StorageError("conflict", "volume %s is given twice" % full, "once is enough", option="volumes")
        place = job.place(names.identifier(key, "id"), name, namespace)
        found.append({"name": full, "path": path, "at": place, "read_only": volume["read_only"]})
    return found


def _io(given: dict[str, Any]) -> dict[str, Any]:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit, io_limit_words

    limits: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("path", "device") or value is None:
            continue
        if name in io_limit.BYTES:
            limits[name] = size.parse(value, "io." + name, 4096)
        else:
            io_limit_words.refuse(name, value)
            limits[name] = value
    if not limits:
        raise StorageError("invalid", "io limits nothing", "such as read_bps: 10MiB", option="io")
    named = [name for name in ("path", "device") if given.get(name) is not None]
    if len(named) > 1:
        raise StorageError("invalid", "io names a path and a device", "either is the disk", option="io")
    return {"source": names.path(given[named[0]], "io." + named[0]) if named else None, "limits": limits}


def _path(value: str, option: str) -> str:
    path = names.path(value, option)
    if not _PATH.fullmatch(path):
        text = "%s %.200r holds what a unit file reads as something else" % (option, path)
        raise StorageError("invalid", text, "letters, digits and _ . + @ -", option=option)
    return path


def _environment(given: dict[str, Any]) -> dict[str, str]:
    for name, value in given.items():
        if not isinstance(name, str) or not _WORD.fullmatch(name):
            text = "environment: %.80r is not the name of a variable" % (name,)
            raise StorageError("invalid", text, "letters, digits and _", option="environment")
        if isinstance(value, (dict, list)):
            raise StorageError("invalid", "environment: %s is not text" % name, "quote it", option="environment")
    return {name: _text("" if value is None else str(value), "environment") for name, value in given.items()}


def _text(value: str, option: str) -> str:
    try:
        plain = value.encode()
    except UnicodeEncodeError:
        plain = b"\0"
    if b"\0" in plain or (len(plain) >= MOST and option != "stdin"):
        text = "%s holds what no program can be given: %.40r" % (option, value)
        raise StorageError("invalid", text, "text in UTF-8 without NUL, shorter than 128 KiB", option=option)
    return value


def _user(value: str | None, option: str) -> str | None:
    if value is not None and not _USER.fullmatch(value):
        raise StorageError("invalid", "%s %.80r is neither a name nor a number" % (option, value), option=option)
    return value


def _percent(value: str) -> int:
    found = _PERCENT.fullmatch(value)
    if found is None or not int(found.group(1)):
        text = "cpu_quota %.40r is not a percentage of one CPU" % value
        raise StorageError("invalid", text, 'such as "50%" or "200%"', option="cpu_quota")
    return int(found.group(1))
