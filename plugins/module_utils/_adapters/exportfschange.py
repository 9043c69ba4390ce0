# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting and unexporting, a client of a path at a time, and what speaks against it. Loaded only where it differs.

Never ``exportfs -r``, which drops what others exported by hand, and never ``-a``. With ``-i`` no table is read, so that
an export has exactly the options that are said, whatever it had before; it then comes before all others of its path.
"""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exportfs import host_of, kind
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import plain, read
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_CONFS = ("/etc/nfs.conf", "/etc/nfs.conf.d")
_CACHE = "/proc/net/rpc/nfsd.export/"
_STATE = re.compile(r"\s*state-directory-path\s*=\s*(\S+)")


def refusal(port: Any, target: str, after: Any) -> StorageError | None:
    if port.run is None and not any(os.path.exists(folder + "/exportfs") for folder in _FOLDERS):
        return StorageError("missing_tool", "exportfs is not installed", "nfs-kernel-server or nfs-utils has it")
    elsewhere = _elsewhere(port.etab)
    if elsewhere:
        text = "the state of the NFS server is in %s" % elsewhere
        return StorageError("unsupported", text, "leave state-directory-path of nfs.conf at its default")
    seen: dict[str, str] = {}
    for text in after["clients"] if after is not None else ():
        host = host_of(text)
        for address in _addresses(host) if kind(host) == 0 else ():
            if seen.setdefault(address, host) != host:
                said = "%s and %s are one client, %s" % (seen[address], host, address)
                return StorageError("conflict", said, "name it once, exportfs(8) would drop one of them")
        if kind(host) == 0 and not _addresses(host):
            return StorageError("not_found", "client %s is not known to the resolver" % host, "name its address")
    return _dropped(port)


def _dropped(port: Any) -> StorageError | None:
    """exportfs(8) reads its table anew each time, and writes back what it could resolve."""
    for path, clients in port.table().items():
        for host, _options in clients:
            if kind(host) == 0 and host not in port.asked and not _addresses(host):
                text = "%s is exported to %s, which the resolver no longer knows: exportfs(8) would drop that" % (
                    path, host,
                )  # fmt: skip
                return StorageError("conflict", text, "make the name known, or: exportfs -u %s:%s" % (host, path))
            port.asked.add(host)
    return None


def put(port: Any, path: str, before: Any, after: Any) -> None:
    now = port.scan([path]).get(path)
    if isinstance(now, StorageError):
        raise now
    if not _alike(port, path, now, before):
        raise StorageError("moved", "who may mount %s changed since it was read" % path, "run it again")
    wanted = after["clients"] if after is not None else ()
    stay = {host_of(text) for text in wanted}
    gone = [host_of(text) for text in (now["clients"] if now else ()) if host_of(text) not in stay]
    words = [_run(port, ["-u"], gone, path)] if gone else []
    for options, hosts in reversed(_alike_options(wanted)):
        words.append(_run(port, ["-i", "-o", options], hosts, path))
    if after is None and port.run is None:
        _let_go(port, path)
    seen = port.scan([path]).get(path)
    if isinstance(seen, StorageError):
        raise seen
    if not _alike(port, path, seen, after):
        said = "; ".join(filter(None, words)) or "%s shows something else" % port.etab
        raise StorageError("not_enforced", "%s is not exported as declared: %.300s" % (path, said))


def _alike(port: Any, path: str, one: Any, two: Any) -> bool:
    """What was predicted is shorter than what is found."""
    return one is two if one is None or two is None else bool(port.same(path, one, two))


def _alike_options(clients: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Neighbours with the same options go in one call, in which the first stays the first."""
    found: list[tuple[str, list[str]]] = []
    for text in clients:
        host, _bracket, options = text.rstrip(")").partition("(")
        if not found or found[-1][0] != options:
            found.append((options, []))
        found[-1][1].append(host)
    return found


def _run(port: Any, options: list[str], hosts: list[str], path: str) -> str:
    """What the program said; it also ends well when it left out what it could not do."""
    argv = ["exportfs", *options, "--", *(spec(host, path) for host in hosts)]
    code, _out, err = (port.run or program.execute)(argv)
    said = " ".join(err.decode("utf-8", "replace").split())
    if code:
        text = "exportfs refuses %s: %.300s" % (path, said or "it ended with %d" % code)
        raise StorageError("failed" if "-u" in options else "not_enforced", text, "see exports(5), fsid= for example")
    return said


def _let_go(port: Any, path: str) -> None:
    """What the kernel was told of a path keeps its filesystem busy, though it no longer counts, until it is flushed.

    A flush takes out what is older than the second that it gives as its own, which is one after that of the flush
    before: after several of them that lies ahead, and nothing is taken out before it has come. Measured with Linux
    6.12, where the filesystem of an export that was gone stayed busy for more than a minute.
    """
    device = _device(path)
    if device in ("", _device("/")):
        return  # nobody unmounts that
    for _turn in range(3):
        known = read(_CACHE + "content").decode("utf-8", "surrogateescape").splitlines()
        if device not in [_device(plain(line[2:].partition("\t")[0])) for line in known if line[:3] == "# /"]:
            return
        ahead = int(read(_CACHE + "flush") or b"0") - time.time()
        time.sleep(min(max(ahead, 0.0) + 1.0, 30.0))
        (port.run or program.execute)(["exportfs", "-f"])
        time.sleep(0.1)  # it is let go of by a worker of the kernel


def _device(path: str) -> str:
    """Of the filesystem that it lies on, "" where it is not to be had."""
    try:
        return str(os.stat(path, follow_symlinks=False).st_dev)
    except OSError:
        return ""


def spec(host: str, path: str) -> str:
    """IPv6 stands in brackets here, but not in a file."""
    if ":" in host:
        address, slash, length = host.partition("/")
        host = "[%s]%s%s" % (address, slash, length)
    return "%s:%s" % (host, path)


def canonical(host: str) -> str:
    """As exportfs(8) would write it."""
    try:
        found = socket.getaddrinfo(host, None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return host
    return found[0][3] or host


def _addresses(host: str) -> set[str]:
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None, 0, socket.SOCK_DGRAM)}
    except (OSError, UnicodeError):
        return set()


def _elsewhere(etab: str) -> str:
    files = [_CONFS[0]]
    if os.path.isdir(_CONFS[1]):
        files += ["%s/%s" % (_CONFS[1], name) for name in sorted(os.listdir(_CONFS[1])) if name.endswith(".conf")]
    for file in files:
        for line in read(file).decode("utf-8", "replace").splitlines():
            said = _STATE.match(line)
            if said is not None and said.group(1).rstrip("/") != os.path.dirname(etab):
                return said.group(1)
    return ""
