# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is exported now: the table that exportfs(8) keeps, and that the kernel is answered from, client by client."""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import plain, read
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

ETAB = "/var/lib/nfs/etab"
_LINE = re.compile(r"(\S+)\t([^\s()]+)\(([^\s()]*)\)", re.ASCII)
# What an option means where it is not written. Words that newer versions add are nobody's to compare.
PAIRS = (
    "ro rw", "sync async", "wdelay no_wdelay", "hide nohide", "nocrossmnt crossmnt", "secure insecure",
    "root_squash no_root_squash", "no_all_squash all_squash", "no_subtree_check subtree_check",
    "secure_locks insecure_locks", "acl no_acl", "no_pnfs pnfs",
)  # fmt: skip
_ABOUT = {word: pair.split()[0] for pair in PAIRS for word in pair.split()}
_PLAIN = {pair.split()[0]: pair.split()[0] for pair in PAIRS}
_PLAIN.update(anonuid="65534", anongid="65534", sec="sys")
_ALONE = ("nordirplus", "security_label", "mountpoint")
_VALUES = ("fsid", "mountpoint", "refer", "replicas", "reexport", "anonuid", "anongid", "xprtsec")


class ExportTable:
    """Port ``exportfs``: path -> ``{clients}``, each as ``host(options)``.

    All that is exported of a declared path is its declaration's, so that nobody has more rights than it says.
    """

    name, behind, slow = "exportfs", False, False

    def __init__(self, run: Callable[..., Any] | None = None, etab: str = ETAB) -> None:
        self.run, self.etab = run, etab
        self.declared: dict[str, tuple[str, ...]] = {}
        self.missing: set[str] = set()
        self.canonical: dict[str, str] = {}
        self.asked: set[str] = set()  # names that were found to be known

    def resolve(self, target: str, declared: Any) -> Any:
        self.declared[target] = declared["clients"]
        return declared

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        table = self.table()
        rows: dict[str, Any] = {}
        with Walk() as walk:
            for target in table if targets is None else targets:
                if target in table:
                    rows[target] = {"clients": tuple(self.named(target, table[target]))}
                if target in self.declared:
                    problem = self.place(walk, target)
                    if problem is not None:
                        rows[target] = problem
        return rows

    def table(self) -> dict[str, list[tuple[str, str]]]:
        """By path the clients and their options."""
        found: dict[str, list[tuple[str, str]]] = {}
        for number, line in enumerate(read(self.etab).decode("utf-8", "surrogateescape").splitlines()):
            said = _LINE.fullmatch(line)
            if said is None:
                raise StorageError("unreadable", "line %d of %s is no export" % (number + 1, self.etab))
            found.setdefault(plain(said.group(1)), []).append((said.group(2), said.group(3)))
        return found

    def named(self, target: str, clients: list[tuple[str, str]]) -> Iterable[str]:
        """Under the declared names: exportfs(8) writes what the resolver makes of one."""
        here = {host for host, _options in clients}
        declared = {host_of(text) for text in self.declared.get(target, ())}
        names = {host: host for host in here}
        if here - declared:
            for host in declared - here:
                if kind(host) == 0:
                    names[self.known_as(host)] = host
        return ["%s(%s)" % (names[host], options) for host, options in clients]

    def known_as(self, host: str) -> str:
        if host not in self.canonical:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportfschange

            self.canonical[host] = exportfschange.canonical(host)
        return self.canonical[host]

    def place(self, walk: Walk, path: str) -> StorageError | None:
        """What speaks against the directory. exportfs(8) follows links, and would write down another path."""
        self.missing.discard(path)
        try:
            os.close(walk.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK))
            real = walk.real(walk.follow(path))
        except StorageError as error:
            if error.code == "not_found":
                self.missing.add(path)
                return None
            if error.details.get("errno") == errno.ENOTDIR:
                return StorageError("conflict", "%s is no directory" % path, "export the one that it is in")
            return error
        if real != path:
            text = "%s leads through a symbolic link to %s" % (path, real)
            return StorageError("unsafe_path", text, "export %s" % real)
        return None

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return meaning(now["clients"]) == meaning(declared["clients"])

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return {**declared, "_missing": target} if target in self.missing else declared

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportfschange

        return exportfschange.refusal(self, target, after)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportfschange

        exportfschange.put(self, target, before, after)


def host_of(text: str) -> str:
    return text.partition("(")[0]


def kind(host: str) -> int:
    """A client is looked for among hosts, then networks, patterns, netgroups, and everybody."""
    if host in ("", "*"):
        return 4
    return 3 if host[0] == "@" else 2 if re.search(r"[*?\[]", host) else 1 if "/" in host else 0


def meaning(clients: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """What each may, in the order in which they are looked for."""
    said = [text.rstrip(")").partition("(") for text in clients]
    return sorted(((host, settings(options)) for host, _b, options in said), key=lambda each: kind(each[0]))


def settings(options: str) -> dict[str, str]:
    """Every option that is known, with its default. After ``sec=`` come those of these flavors again."""
    found = dict(_PLAIN)
    flavors: list[str] = []
    for word in options.split(","):
        name, _equals, value = word.partition("=")
        if name == "sec":
            flavors.append(value)
        elif word in _ABOUT and not flavors:
            found[_ABOUT[word]] = word
        elif word in _ABOUT and found[_ABOUT[word]] != word:
            flavors.append(word)  # not what it is for the others
        elif word in _ALONE or name in _VALUES:
            found[name] = value
    if flavors:
        found["sec"] = ",".join(flavors)
    return found
