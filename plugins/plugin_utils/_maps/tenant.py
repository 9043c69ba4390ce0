# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From tenants and tiers to options of ``layout``: directories, ACLs and limits. Pure; raises StorageError.

A tenant is a subvolume that is held to its total. In it lie three more, held to their own limits:
``builds`` (scratch: what a build works in), ``artifacts`` (what it produced) and ``cache``. They are disjoint, so the
total is their sum. ``builds/<build>/rootfs`` shows ``artifacts/<build>`` (a bind mount), so what is written there is
charged as an artifact. Only root can write to the tenant's own directory: nobody else can exchange a category.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

CATEGORIES = {"artifacts": "artifacts", "cache": "cache", "scratch": "builds"}  # each with its directory
CACHES = ("docker-layers", "dependencies", "git-repos")
WORK = ("workspace", "temp", "logs", "metadata")
TENANT = frozenset(("name", "tier", "overrides", "builds", "group", "state", "confirm"))
TIER = frozenset((*CATEGORIES, "total", "inodes", "concurrent_builds"))


def layout(
    tenants: Any, tiers: Any, base: str = "/var/lib/builderd", daemon: Any = "builderd", backend: str = "btrfs"
) -> dict[str, list[dict[str, Any]]]:
    """``trees``, ``quotas`` and ``mounts`` of ``layout``. All that is wrong with a tenant names the tenant."""
    if backend != "btrfs":
        text = "tenants on backend %.80r are not supported yet" % (backend,)
        raise StorageError("unsupported", text, "put the base directory on btrfs", option="backend")
    base = names.path(base, "base")
    _known(tiers, None, "tiers")
    if not isinstance(tenants, list):
        raise StorageError("invalid", "tenant_list %.80r is not a list" % (tenants,), option="tenant_list")
    found: dict[str, list[dict[str, Any]]] = {"trees": [], "quotas": [], "mounts": []}
    seen: set[str] = set()
    for index, tenant in enumerate(tenants):
        where = "tenant_list[%d]" % index
        try:
            _known(tenant, TENANT, where)
            name = names.identifier(tenant.get("name"), "tenant")
            where += " (%s)" % name
            if name in seen:
                raise StorageError("conflict", "the tenant is declared twice", "declare it once")
            seen.add(name)
            _tenant(found, tenant, tiers, names.join(base, "tenants", name), daemon)
        except StorageError as error:
            error.at(where)
            raise
    if any(tree["state"] == "present" for tree in found["trees"]):
        everybody = {"path": "tenants", "owner": "0", "group": "0", "mode": "0711"}
        found["trees"].insert(0, {"root": base, "entries": [everybody], "state": "present"})
    return found


def limits(tiers: Any, tier: Any, overrides: Any = None) -> dict[str, int]:
    """Bytes of each category and their sum as ``total``, ``inodes``, ``concurrent_builds``.

    A total that is given must be the sum: two limits on the same bytes could not both be true.
    """
    if tier not in tiers:
        raise StorageError(
            "not_found", "there is no tier %.80r" % (tier,), "one of %s" % ", ".join(map(str, tiers)), option="tier"
        )
    _known(tiers[tier], TIER, "tier %s" % tier)
    _known(overrides or {}, TIER, "overrides")
    changed = {option: value for option, value in (overrides or {}).items() if value not in (None, "")}
    given = {**{option: value for option, value in tiers[tier].items() if value not in (None, "")}, **changed}
    if changed and "total" not in changed:
        given.pop("total", None)  # the tier's own total no longer holds
    missing = sorted({*CATEGORIES, "concurrent_builds"} - given.keys())
    if missing:
        raise StorageError(
            "invalid", "tier %s lacks %s" % (tier, ", ".join(missing)), "see tenant_tiers", option="tier"
        )
    # Btrfs counts in blocks of 4096 bytes: a limit is what a file of that size may fill.
    found = {category: size.parse(given[category], category, minimum=1 << 20, unit=4096) for category in CATEGORIES}
    total = sum(found.values())
    if "total" in given and size.parse(given["total"], "total", unit=4096) != total:
        text = "total %s of tier %s is not the sum of its categories, %s" % (given["total"], tier, size.human(total))
        raise StorageError("invalid", text, "leave total out, or give artifacts, cache and scratch that sum to it")
    for option in ("inodes", "concurrent_builds"):
        if option in given:
            found[option] = _count(given[option], option)
    return {**found, "total": total}


def _tenant(found: dict[str, list[dict[str, Any]]], tenant: dict[str, Any], tiers: Any, root: str, daemon: Any) -> None:
    name, state = tenant["name"], tenant.get("state") or "present"
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    if state == "absent" and tenant.get("confirm") != name:
        hint = "repeat it with confirm: %s" % name
        raise StorageError("would_destroy", "the tenant would go", hint, confirm=name)
    builds = [names.identifier(build, "build") for build in _list(tenant.get("builds"))]
    if len(set(builds)) < len(builds):
        raise StorageError("conflict", "a build is declared twice", "declare it once", option="builds")
    held: dict[str, int] = {}
    if state == "present":
        held = limits(tiers, tenant.get("tier"), tenant.get("overrides"))
        if len(builds) > held["concurrent_builds"]:
            text = "%d builds are declared" % len(builds)
            hint = "tier %s allows %d" % (tenant["tier"], held["concurrent_builds"])
            raise StorageError("limit_exceeded", text, hint, concurrent_builds=held["concurrent_builds"])
    entries = _entries(builds, str(daemon), str(tenant.get("group") or name))
    if state == "absent":
        entries = [{"path": entry["path"], "type": "absent"} for entry in entries]
    tree = {"root": root, "entries": entries, "state": state}
    if state == "absent":  # the tenant's name was typed again: that is the consent
        tree["confirm"] = root
    found["trees"].append(tree)
    for category, folder in (("total", "."), *CATEGORIES.items()):
        limit = {"hard": str(held[category])} if held else {}
        if held and folder != ".":
            limit["parent"] = root
        found["quotas"].append({"path": names.join(root, folder), **limit, "state": state})
    for build in builds:
        found["mounts"].append(_rootfs(root, build, state))


def _entries(builds: list[str], daemon: str, group: str) -> list[dict[str, Any]]:
    """As the seed's setfacl lines, with ``X`` for ``x`` and without walking what is there already."""
    rights = ["u:%s:rwX" % daemon, "g:%s:rwX" % group]
    own = {"owner": "0", "group": "0", "mode": "0700"}
    shared = {**own, "acl": rights, "default_acl": rights}
    passing = ["u:%s:r-X" % daemon, "g:%s:r-X" % group]
    entries = [{"path": ".", "type": "subvolume", **own, "acl": passing, "default_acl": []}]
    entries += [{"path": folder, "type": "subvolume", **shared} for folder in CATEGORIES.values()]
    folders = ["cache/" + cache for cache in CACHES]
    for build in builds:
        folders += ["builds/" + build, "artifacts/" + build, *("builds/%s/%s" % (build, part) for part in WORK)]
    return entries + [{"path": folder, "type": "directory", **shared} for folder in folders]


def _rootfs(root: str, build: str, state: str) -> dict[str, Any]:
    path = names.join(root, "builds", build, "rootfs")
    if state == "absent":
        return {"path": path, "state": "absent"}
    source = names.join(root, "artifacts", build)
    # A host boots without the directory of one build.
    return {
        "path": path,
        "source": source,
        "bind": True,
        "options": ["nosuid", "nodev"],
        "nofail": True,
        "state": "mounted",
    }


def _known(value: Any, options: frozenset[str] | None, what: str) -> None:
    if not isinstance(value, dict):
        raise StorageError("invalid", "%s %.80r is not a dictionary" % (what, value), option=what)
    unknown = sorted(str(option) for option in value if options is not None and option not in options)
    if unknown:
        hint = "one of %s" % ", ".join(sorted(options or ()))
        raise StorageError("invalid", "%s: unknown option %s" % (what, ", ".join(unknown)), hint, option=unknown[0])


def _list(value: Any) -> list[Any]:
    """A list, or what a survey sends for one: a text with commas or line ends."""
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value) if part]
    if value is None or isinstance(value, list):
        return value or []
    raise StorageError("invalid", "builds %.80r is not a list" % (value,), option="builds")


def _count(value: Any, what: str) -> int:
    text = "" if isinstance(value, bool) else str(value)
    if text.isascii() and text.isdigit() and 1 <= int(text) < 2**63:
        return int(text)
    raise StorageError("invalid", "%s %.80r is not a positive number" % (what, value), "an integer", option=what)
