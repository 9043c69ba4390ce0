# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS2 on a device: the header, the opened mapping and the line of crypttab are one declaration."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Secret, Unit

KIND, LIST = "luks_device", "luks_devices"
OPTIONS: dict[str, Any] = {
    "device": {"type": "raw", "required": True},
    "name": {"type": "str", "required": True},
    "key_file": {"type": "path", "no_log": False},
    "passphrase": {"type": "str", "no_log": True},
    "tenant": {"type": "str"},
    "new_key_file": {"type": "path", "no_log": False},
    "pbkdf": {"type": "str", "choices": ["argon2id", "pbkdf2"]},
    "pbkdf_iterations": {"type": "int"},
    "pbkdf_memory": {"type": "raw"},
    "cipher": {"type": "str"},
    "discards": {"type": "bool"},
    "nofail": {"type": "bool"},
    "persist": {"type": "str", "choices": ["crypttab", "none"]},
    "wipe_token": {"type": "str", "no_log": False},
    "state": {"type": "str", "choices": ["opened", "closed", "present", "absent"], "default": "opened"},
}
_KEYS = ["key_file", "passphrase", "tenant"]
RULES: dict[str, Any] = {
    "mutually_exclusive": [_KEYS],
    "required_if": [("state", "opened", _KEYS, True), ("state", "present", _KEYS, True)],
}
FILE = "/etc/crypttab"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}", re.ASCII)


def label(p: dict[str, Any]) -> str:
    return str(p["name"])


def unit(p: dict[str, Any], look: Any) -> Unit:
    device, name, state = names.path(p["device"], "device"), p["name"], p["state"]
    if not _NAME.fullmatch(name) or name == "control":
        hint = "1 to 127 letters, digits, _ . + or -, the first one a letter, digit or _"
        raise StorageError("invalid", "name %.150r is not one of a mapping" % name, hint, option="name")
    if p["tenant"] is not None:
        hint = "give its key as key_file or passphrase"
        raise StorageError("unsupported", "keys of tenants are not kept yet", hint, option="tenant")
    path, made, cells = "/dev/mapper/" + name, state in ("opened", "present"), []
    if state != "closed":
        cells.append(Cell("luks", device, declared(p) if made else None))
    if state != "present":
        cells.append(Cell("mapping", path, opened(p, device) if made else None))
    if state != "closed" and (p["persist"] or ("crypttab" if p["key_file"] or not made else "none")) == "crypttab":
        cells.append(Cell("crypttab", (FILE, name), line(p, device) if made else None))
    consents = {"wipe_token": p["wipe_token"], "allow_unstable_device": bool(p.get("allow_unstable_device"))}
    needs = (("device", device), ("path", device))
    provides = (("content", device), ("device", path), ("path", path))
    return Unit((KIND, name), tuple(cells), needs, provides, consents=consents)


def keys(p: dict[str, Any]) -> dict[str, Any]:
    """Never shown nor compared: a port reads them when it needs them."""
    old = Secret(p["passphrase"]) if p["passphrase"] is not None else names.path(p["key_file"], "key_file")
    if not p["new_key_file"]:
        return {"_key": old}
    new = names.path(p["new_key_file"], "new_key_file")
    if new == old:
        text = "new_key_file is key_file: %s" % new
        raise StorageError("invalid", text, "name another file", option="new_key_file")
    return {"_key": old, "_new_key": new}


def declared(p: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {"version": 2, **keys(p)}
    if "_new_key" in value:
        value["opened_by"] = "new_key_file"
    value.update({field: p[field] for field in ("cipher", "pbkdf") if p[field] is not None})
    least = 1000 if p["pbkdf"] == "pbkdf2" else 4
    if p["pbkdf_iterations"] is not None:
        if p["pbkdf_iterations"] < least:
            text = "pbkdf_iterations %d is less than %d" % (p["pbkdf_iterations"], least)
            raise StorageError("invalid", text, "leave it out to have it measured", option="pbkdf_iterations")
        value["_iterations"] = p["pbkdf_iterations"]
    if p["pbkdf_memory"] is not None:
        memory = size.parse(p["pbkdf_memory"], "pbkdf_memory")
        if p["pbkdf"] == "pbkdf2" or not 32 << 10 <= memory <= 4 << 30:
            hint = "32KiB to 4GiB, and not with pbkdf2"
            raise StorageError(
                "invalid", "pbkdf_memory %r cannot be had" % p["pbkdf_memory"], hint, option="pbkdf_memory"
            )
        value["_memory"] = memory
    return value


def opened(p: dict[str, Any], device: str) -> dict[str, Any]:
    wanted = {"device": device, "fills": True, **keys(p)}
    if p["discards"] is not None:
        wanted["discards"] = p["discards"]
    return wanted


def line(p: dict[str, Any], device: str) -> dict[str, Any]:
    wanted = {"device": device, "key_file": p["new_key_file"] or p["key_file"] or "none"}
    wanted.update({field: p[field] for field in ("discards", "nofail") if p[field] is not None})
    return wanted


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    path = "/dev/mapper/" + p["name"]
    found = rows["luks"].get(names.path(p["device"])) or {}
    mapping = rows["mapping"].get(path)
    uuid = found.get("uuid") or (mapping or {}).get("uuid")
    slots = found.get("keyslots", ())
    return {
        "device": p["device"],
        "name": p["name"],
        "path": path if mapping else None,
        "uuid": uuid,
        "keyslots": slots if not isinstance(slots, tuple) else list(slots),
    }
