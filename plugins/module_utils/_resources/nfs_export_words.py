# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients and options of an export as exports(5) has them: what is allowed, and one spelling for one meaning."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# Of each pair the first is what exports(5) assumes, in the order of exportfs(8).
PAIRS = (
    ("ro", "rw"),
    ("sync", "async"),
    ("wdelay", "no_wdelay"),
    ("hide", "nohide"),
    ("nocrossmnt", "crossmnt"),
    ("secure", "insecure"),
    ("root_squash", "no_root_squash"),
    ("no_all_squash", "all_squash"),
    ("no_subtree_check", "subtree_check"),
    ("secure_locks", "insecure_locks"),
    ("acl", "no_acl"),
    ("no_pnfs", "pnfs"),
)
ALONE = ("nordirplus", "security_label")  # words without an opposite
SAID = ("ro", "sync", "secure", "root_squash", "no_subtree_check")  # written even when nobody said so
ALIASES = {"auth_nlm": "secure_locks", "no_auth_nlm": "insecure_locks", "mp": "mountpoint"}
_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)+")
_AWAY = re.compile(r"(/[A-Za-z0-9_.+-]+)+@[A-Za-z0-9_.-]+(\+[A-Za-z0-9_.-]+)*")
_FLAVORS, _TRANSPORTS = ("sys", "krb5", "krb5i", "krb5p"), ("none", "tls", "mtls")
MOST = (1 << 31) - 1  # exportfs(8) writes a larger number as a negative one
# nfs-utils reads 511 bytes of a client with all its options at most, and nothing that comes after a longer one.
ROOM = 511 - 230  # what is left once every option without a value is written out

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(r"(?=.{1,253}$)(?=.*[a-z_])%s(\.%s)*" % (_LABEL, _LABEL))
_WILDCARD = re.compile(
    r"(?=.{1,253}$)(?=.*[a-z_])([a-z0-9_*?]|\[[a-z0-9]+(-[a-z0-9])?\])([a-z0-9_*?.-]|\[[a-z0-9]+(-[a-z0-9])?\])*"
)
_NETGROUP = re.compile(r"@[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f.]*:[0-9a-f:.]*")
_KINDS = "an address, a network as 192.0.2.0/24, a name, *.example.com, @netgroup or *"


def clients(given: list[dict[str, Any]]) -> tuple[str, ...]:
    """Each as ``host(options)``, in the order that is declared, which exports(5) goes by."""
    found: dict[str, str] = {}
    for client in given:
        who = host(client["host"])
        if who.lower() in found:
            text = "client %s is there twice" % who
            same = "" if client["host"] == who else ", once as %r" % client["host"]
            raise StorageError("invalid", text + same, "say all its options once", option="clients")
        said = options(client["options"] or [], who)
        found[who.lower()] = "%s(%s)" % (who, said)
    if not found:
        raise StorageError("invalid", "nobody may mount it", "name a client, or say state: absent", option="clients")
    return tuple(found.values())


# -- who -----------------------------------------------------------------------------------------------------------


def host(text: str) -> str:
    """One spelling for one client."""
    low = text.lower()
    address, slash, mask = low.partition("/")
    if low == "*" or (low[:1] == "@" and _NETGROUP.fullmatch(text)):
        return text
    if _ADDRESS.fullmatch(address):
        return _network(text, address, mask if slash else None)
    if low.startswith("gss/"):
        raise _bad(text, "is an old way to ask for Kerberos", "name the client, with the option sec=" + mask)
    if _NAME.fullmatch(low):
        return low
    if any(c in low for c in "*?[") and _WILDCARD.fullmatch(low):
        return low
    if re.fullmatch(r"[0-9.*?]+", low):
        raise _bad(text, "is a wildcard for addresses, which does not work", "name a network, as 192.0.2.0/24")
    raise _bad(text, "is no client that exports(5) knows", "one of %s" % _KINDS)


def _network(text: str, address: str, mask: str | None) -> str:
    import ipaddress

    try:
        found = ipaddress.ip_address(address)
    except ValueError as error:
        raise _bad(text, "is no address", "one of %s" % _KINDS) from error
    if found.version == 4 and str(found) != address:  # 010 is 8 to some and 10 to others
        raise _bad(text, "has leading zeros", "write %s" % found)
    if getattr(found, "ipv4_mapped", None) is not None:
        raise _bad(text, "is an IPv4 address in IPv6", "write the IPv4 address")
    if mask is None:
        return str(found)
    try:
        if not re.fullmatch(r"[0-9]{1,3}" if found.version == 6 else r"[0-9]{1,2}|[0-9]+(\.[0-9]+){3}", mask):
            raise ValueError(mask)
        network: Any = ipaddress.ip_network("%s/%s" % (address, mask), strict=False)
        if "." in mask and str(network.netmask) != mask:
            raise ValueError(mask)
    except ValueError as error:
        raise _bad(text, "has no length of a network after the slash", "as 192.0.2.0/24 or 2001:db8::/64") from error
    if network.prefixlen == 0:  # nfs-utils shifts 32 bits by 32, and then matches next to nobody
        raise _bad(text, "is everybody, which exportfs(8) does not take as a network", 'write "*"')
    if network.network_address != found:
        raise _bad(text, "is an address within a network", "write %s, or the address alone" % network)
    return str(found) if network.prefixlen == network.max_prefixlen else str(network)


def _bad(text: str, problem: str, hint: str) -> StorageError:
    return StorageError("invalid", "host %.300r %s" % (text, problem), hint, option="host")


# -- how -----------------------------------------------------------------------------------------------------------


def options(given: list[str], who: str) -> str:
    """In one order, with what matters for safety said even where it is the default."""
    said: dict[str, str] = {}  # by what is decided: the first of a pair, or the name before ``=``
    for entry in given:
        name, equals, value = entry.partition("=")
        name = ALIASES.get(name, name)
        about = next((pair[0] for pair in PAIRS if name in pair), name)
        if equals or name in VALUES:
            word = name + "=" + _value(name, value, entry) if equals or name != "mountpoint" else name
        elif about == name and name not in ALONE and not any(name == pair[0] for pair in PAIRS):
            raise _unknown(entry)
        else:
            word = name
        if said.setdefault(about, word) != word:
            raise _contrary(said[about], word, who)
    if said.get("no_all_squash") == "all_squash" and said.get("root_squash") == "no_root_squash":
        raise _contrary("all_squash", "no_root_squash", who)
    if "refer" in said and "replicas" in said:
        raise _contrary("refer", "replicas", who)
    for word in SAID:
        said.setdefault(word, word)
    if len(who) + sum(len(word) + 1 for word in said.values() if "=" in word) > ROOM:
        text = "%.80s and its options are too long for exportfs(8)" % who
        raise StorageError("limit_exceeded", text, "at most %d bytes of names and values" % ROOM, option="options")
    order = [pair[0] for pair in PAIRS] + [*ALONE, *VALUES]
    return ",".join(said[about] for about in order if about in said)


def _value(name: str, value: str, entry: str) -> str:
    if name not in VALUES:
        raise _unknown(entry)
    good = VALUES[name](value)
    if not good:
        text = "option %.300r has no value that %s can have" % (entry, name)
        raise StorageError("invalid", text, _LIKE[name], option="options")
    return str(good)


def _unknown(entry: str) -> StorageError:
    import difflib

    known = [word for pair in PAIRS for word in pair] + [*ALONE, *ALIASES, *VALUES]
    near = difflib.get_close_matches(entry.partition("=")[0], known, 1, 0.5)
    hint = "do you mean %s? " % near[0] if near else ""
    text = "option %.300r is none that exports(5) knows, or one that takes no value" % entry
    return StorageError("invalid", text, hint + "see exports(5)", option="options")


def _contrary(one: str, two: str, who: str) -> StorageError:
    return StorageError("invalid", "options %s and %s of %s contradict" % (one, two, who), "say one", option="options")


def _number(value: str) -> str:
    return value if _ID.fullmatch(value) and int(value) <= MOST else ""


def _fsid(value: str) -> str:
    return "0" if value == "root" else value if _UUID.fullmatch(value) else _number(value)


def _path(value: str) -> str:
    return value if _PATH.fullmatch(value) and len(value) <= names.NAME_MAX else ""


def _away(value: str) -> str:
    return value if all(map(_AWAY.fullmatch, value.split(":"))) else ""


def _some(known: tuple[str, ...], value: str) -> str:
    said = value.split(":")
    return value if len(set(said)) == len(said) and set(said) <= set(known) else ""


def _flavors(value: str) -> str:
    return _some(_FLAVORS, value)


def _transports(value: str) -> str:
    """Their order means nothing."""
    return ":".join(sorted(value.split(":"), key=_TRANSPORTS.index)) if _some(_TRANSPORTS, value) else ""


VALUES = {
    "fsid": _fsid,
    "mountpoint": _path,
    "refer": _away,
    "replicas": _away,
    "anonuid": _number,
    "anongid": _number,
    "sec": _flavors,
    "xprtsec": _transports,
}
_LIKE = {
    "fsid": "root, a number up to %d, or a UUID in lower case" % MOST,
    "mountpoint": "an absolute path of letters, digits and any of _ . + -",
    "refer": "as /path@host, more hosts after +, more paths after :",
    "replicas": "as /path@host, more hosts after +, more paths after :",
    "anonuid": "a number up to %d" % MOST,
    "anongid": "a number up to %d" % MOST,
    "sec": "each of sys, krb5, krb5i and krb5p at most once, with : between, the preferred one first",
    "xprtsec": "each of none, tls and mtls at most once, with : between",
}
