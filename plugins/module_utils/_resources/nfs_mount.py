# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount of an NFS server's export: NFS 4.1 or 4.2, hard, never with setuid programs or devices."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount, mount_options

KIND, LIST = "nfs_mount", "nfs_mounts"
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "server": {"type": "str"},
    "export": {"type": "str"},
    "version": {"type": "str", "choices": ["4.1", "4.2"], "default": "4.2"},
    "sec": {"type": "str", "choices": ["sys", "krb5", "krb5i", "krb5p"]},
    "hard": {"type": "bool", "default": True},
    "rsize": {"type": "str"},
    "wsize": {"type": "str"},
    "nconnect": {"type": "int"},
    "automount": {"type": "bool"},
    "read_only": {"type": "bool"},
    "options": {"type": "list", "elements": "str"},
    "persist": {"type": "str", "choices": ["fstab", "unit", "none"], "default": "fstab"},
    "timeout": {"type": "int", "default": 30},
    "on_drift": {"type": "str", "choices": ["remount", "fail", "replace"], "default": "remount"},
    "state": {"type": "str", "choices": ["mounted", "unmounted", "present", "absent"], "default": "mounted"},
}
RULES: dict[str, Any] = {
    "required_if": [("state", "mounted", ["server", "export"]), ("state", "present", ["server", "export"])]
}
LARGEST = 1 << 20  # of a read or write, nfs(5)
_HERE = ("localhost", "127.0.0.1", "::1", "[::1]")  # what is mounted is an export of this very host
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(r"(?=.{1,253}\Z)%s(\.%s)*\.?" % (_LABEL, _LABEL), re.ASCII)
# Words that have an option of their own here, and what that option is.
_OWN = {"vers": "version", "nfsvers": "version", "minorversion": "version", "softerr": "hard", "soft": "hard"}
_OWN.update(hard="hard", sec="sec", rsize="rsize", wsize="wsize", nconnect="nconnect")
_OWN.update({"addr": "server", "clientaddr": "server", "x-systemd.automount": "automount"})
# mount.nfs(8) reads these and the kernel does not; the last two it has forgotten (nfs(5)).
_ONLY_IN_FSTAB = ("bg", "fg", "retry", "intr", "nointr")
_FORGOTTEN = ("intr", "nointr")
_DEFAULTS = ("ac", "cto", "rdirplus", "sharecache", "resvport", "acl")  # shown only with "no" before them
_ACTIMEO = ("acregmin", "acregmax", "acdirmin", "acdirmax")  # what actimeo stands for, and how it is shown


def label(p: dict[str, Any]) -> str:
    return mount.label(p)


def warned(p: dict[str, Any], warn: Callable[[str], None]) -> None:
    """What was accepted and means nothing."""
    for word in p["options"] or ():
        if word in _FORGOTTEN:
            warn("nfs_mount (%s): %s is dropped, Linux has ignored it since 2.6.25" % (label(p), word))


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    return mount.facts(_as_mount(p), look)


def unit(p: dict[str, Any], look: Any) -> Unit:
    found = mount.unit(_as_mount(p), look, KIND, _declared)
    if not p["export"] or p["server"] not in _HERE:
        return found
    return found._replace(needs=(*found.needs, ("export", names.path(p["export"], "export"))))


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    shown = mount.show(_as_mount(p), rows, _declared)
    server, _colon, export = (shown["source"] or "").rpartition(":/")
    return {**shown, "server": server.strip("[]") or None, "export": "/" + export if server else None}


def _as_mount(p: dict[str, Any]) -> dict[str, Any]:
    source = _source(p) if p["server"] and p["export"] else None
    return {**p, "source": source, "bind": False, "recursive": None, "fstab": "/etc/fstab"}


def _source(p: dict[str, Any]) -> str:
    server, export = p["server"], names.path(p["export"], "export")
    if re.search("[ \t\\\\#]", export):
        raise StorageError("invalid", "export %.300r holds a blank, a \\ or a #" % export, option="export")
    bare = server[1:-1] if server[:1] == "[" and server[-1:] == "]" else server
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST.fullmatch(server) or re.fullmatch("[0-9.]+", server):
            text = "server %.300r is neither an address nor the name of a host" % server
            raise StorageError("invalid", text, "for example nfs1.example.com", option="server") from None
        return "%s:%s" % (server, export)
    return "%s:%s" % ("[%s]" % address if address.version == 6 else address, export)


def _declared(p: dict[str, Any], before: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The live mount, and its line of fstab: what is not declared stays as the line that is there has it."""
    live: dict[str, Any] = {"source": p["source"], "fstype": "nfs4", "nosuid": True, "nodev": True, "stale": False}
    live.update({"o:vers": p["version"], "o:hard" if p["hard"] else "o:soft": True, "_timeout": _timeout(p)})
    live["_boot"] = p["persist"] != "none"
    own: list[tuple[str, str | None]] = [("(nfs)?vers(=.*)?|v4.*|minorversion=.*", "vers=" + p["version"])]
    own.append(("hard|soft(err)?", "hard" if p["hard"] else "soft"))
    own.append(("sec=.*", "sec=" + p["sec"] if p["sec"] else None))
    if p["sec"]:
        live["o:sec"] = p["sec"]
    for option in ("rsize", "wsize"):
        asked = None if p[option] is None else size.parse(p[option], option, 1024, LARGEST)
        own.append((option + "=.*", None if asked is None else "%s=%d" % (option, asked)))
        if asked is not None:  # the server may lower it, and that is no drift
            live.update({"o:" + option: UNKNOWN, "_" + option: asked})
    lines = p["nconnect"]
    if lines is not None and not 1 <= lines <= 16:
        raise StorageError("invalid", "nconnect %d is not in 1..16" % lines, "see nfs(5)", option="nconnect")
    own.append(("nconnect=.*", None if lines is None else "nconnect=%d" % lines if lines > 1 else ""))
    if lines is not None:
        live["o:nconnect"] = str(lines) if lines > 1 else False
    fields, words = _parsed(p)
    live.update(fields)
    if p["read_only"] is not None:
        live["read_only"] = p["read_only"]
    if not p["hard"] and live.get("read_only") is not True:
        text = "a soft mount loses what it cannot write, so it must be read-only"
        raise StorageError("invalid", text, "leave hard out, or set read_only: true", option="hard")
    tail: list[tuple[str, str | None]] = [("ro|rw", {True: "ro", False: "", None: None}[p["read_only"]])]
    tail += [("(no)?suid", "nosuid"), ("(no)?dev", "nodev"), ("nofail", "nofail"), ("_netdev", "_netdev")]
    tail.append(("x-systemd[.]automount", {True: "x-systemd.automount", False: "", None: None}[p["automount"]]))
    tail.append(("intr|nointr", ""))
    old = before["options"] if isinstance(before, dict) and before["fstype"] in ("nfs", "nfs4") else ""
    options = mount_options.line(old, None if p["options"] is None else words, own, tail)
    return live, {"source": p["source"], "fstype": "nfs4", "options": options}


def _timeout(p: dict[str, Any]) -> int:
    seconds = int(p["timeout"])
    if not 1 <= seconds <= 3600:
        raise StorageError("invalid", "timeout %d is not in 1..3600 seconds" % seconds, option="timeout")
    return seconds


def _parsed(p: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Fields and words of ``options``, as the kernel shows them."""
    words = list(p["options"] or ())
    fields: dict[str, Any] = {}
    plain: list[str] = []
    for word in words:
        name, _eq, value = word.partition("=")
        if name in _OWN or (name[:1] == "v" and name[1:2].isdigit()):
            text = "options: %.120r has an option of its own" % word
            raise StorageError("invalid", text, "use %s" % _OWN.get(name, "version"), option="options")
        if word in ("suid", "dev"):
            text = "an NFS mount is always no%s" % word
            raise StorageError("invalid", text, "leave the option out", option="options")
        if name == "actimeo" and value.isdigit():
            fields.update(("o:" + each, value) for each in _ACTIMEO)
        elif word in _DEFAULTS:
            fields["o:no" + word] = False
        elif word in ("tcp", "udp", "rdma"):
            fields["o:proto"] = word
        elif name not in _ONLY_IN_FSTAB:
            plain.append(word)
    said, _words = mount_options.parse(plain, "nfs4")
    return {**fields, **said}, [word for word in words if word not in _FORGOTTEN and word != "defaults"]
