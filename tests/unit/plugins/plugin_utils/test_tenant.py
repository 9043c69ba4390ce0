# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tenants and tiers as options of ``layout``: what they mean, and every refusal."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount, quota, tree
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import tenant

ROLE = Path(__file__).resolve().parents[4] / "roles" / "tenant"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
TIERS = DEFAULTS["tenant_tiers"]
MB, GB = 1 << 20, 1 << 30
KINDS = {"trees": tree, "quotas": quota, "mounts": mount}


def layout(*tenants: Any, tiers: Any = TIERS, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """The map's answer, which must be what the modules themselves accept."""
    found = tenant.layout(list(tenants), tiers, **more)
    assert set(found) == set(KINDS)
    for name, entries in found.items():
        for entry in entries:
            kind: Any = KINDS[name]
            kind.unit(
                options.check(kind.OPTIONS, kind.RULES, entry, set()),
                SimpleNamespace(declared={}, look=lambda port, targets: {}),
            )
    return found


def refused(code: str, *tenants: Any, tiers: Any = TIERS, **more: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        tenant.layout(list(tenants), tiers, **more)
    assert caught.value.code == code, str(caught.value)
    return caught.value


def limits(found: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    return {entry["path"]: int(entry["hard"]) for entry in found["quotas"]}


@pytest.mark.parametrize(
    "tier, artifacts, cache, builds",
    [
        ("free", 500 * MB, 500 * MB, 1),
        ("pro", 5 * GB, 5 * GB, 3),
        ("enterprise", 50 * GB, 50 * GB, 10),
        ("dedicated", 500 * GB, 500 * GB, 50),
    ],
)
def test_the_table_of_the_role(tier: str, artifacts: int, cache: int, builds: int) -> None:
    found = tenant.limits(TIERS, tier)
    assert (found["artifacts"], found["cache"], found["concurrent_builds"]) == (artifacts, cache, builds)
    assert found["scratch"] > 0 and found["inodes"] > 0
    assert found["total"] == found["artifacts"] + found["cache"] + found["scratch"]


def test_a_tenant() -> None:
    found = layout({"name": "acme", "tier": "free", "group": "5001", "builds": ["b-1"]}, base="/srv/b", daemon=4000)
    root = "/srv/b/tenants/acme"
    assert limits(found) == {
        root: 1500 * MB, root + "/artifacts": 500 * MB, root + "/cache": 500 * MB, root + "/builds": 500 * MB
    }  # fmt: skip
    assert {entry["path"]: entry.get("parent") for entry in found["quotas"]} == {
        root: None, root + "/artifacts": root, root + "/cache": root, root + "/builds": root
    }  # fmt: skip
    base, own = found["trees"]
    assert (base["root"], base["entries"]) == (
        "/srv/b", [{"path": "tenants", "owner": "0", "group": "0", "mode": "0711"}]
    )  # fmt: skip
    assert own["root"] == root
    by_path = {entry["path"]: entry for entry in own["entries"]}
    assert [path for path, entry in by_path.items() if entry["type"] == "subvolume"] == [
        ".",
        "artifacts",
        "cache",
        "builds",
    ]
    parts = {"builds/b-1/" + part for part in ("workspace", "temp", "logs", "metadata")}
    caches = {"cache/docker-layers", "cache/dependencies", "cache/git-repos"}
    assert set(by_path) == {".", "artifacts", "cache", "builds", "builds/b-1", "artifacts/b-1"} | parts | caches
    for path, entry in by_path.items():
        rights = "r-X" if path == "." else "rwX"
        assert entry["acl"] == ["u:4000:" + rights, "g:5001:" + rights]
        assert entry["default_acl"] == ([] if path == "." else entry["acl"])
        assert (entry["owner"], entry["group"], entry["mode"]) == ("0", "0", "0700"), (
            "others and its group have nothing"
        )
    assert found["mounts"] == [{
        "path": root + "/builds/b-1/rootfs", "source": root + "/artifacts/b-1", "bind": True,
        "options": ["nosuid", "nodev"], "nofail": True, "state": "mounted",
    }]  # fmt: skip


def test_names_are_the_default() -> None:
    entries = layout({"name": "acme", "tier": "free"})["trees"][1]
    assert entries["root"] == "/var/lib/builderd/tenants/acme"
    assert entries["entries"][1]["acl"] == ["u:builderd:rwX", "g:acme:rwX"]


def test_overrides_and_what_a_survey_sends() -> None:
    overrides = {"cache": "1GB", "artifacts": "", "scratch": None, "concurrent_builds": "2", "inodes": "7"}
    said = {"name": "acme", "tier": "free", "group": "", "state": "", "builds": "b1, b2\n", "overrides": overrides}
    found = layout(said)
    root = "/var/lib/builderd/tenants/acme"
    assert limits(found)[root + "/cache"] == GB and limits(found)[root] == GB + 1000 * MB
    assert [entry["path"][-9:] for entry in found["mounts"]] == ["b1/rootfs", "b2/rootfs"]
    assert found["trees"][1]["entries"][0]["acl"][1] == "g:acme:r-X"
    assert tenant.limits(TIERS, "free", overrides)["inodes"] == 7
    assert layout({"name": "acme", "tier": "free", "overrides": "", "builds": None})["mounts"] == []


def test_the_total_is_the_sum() -> None:
    tiers = {"t": {"artifacts": "1GB", "cache": "1GB", "scratch": "1GB", "total": "3GB", "concurrent_builds": 1}}
    assert tenant.limits(tiers, "t")["total"] == 3 * GB
    assert tenant.limits(tiers, "t", {"cache": "2GB"})["total"] == 4 * GB, "the tier's own total no longer holds"
    assert tenant.limits(tiers, "t", {"cache": "2GB", "total": "4GB"})["total"] == 4 * GB
    for wrong in ({"total": "2GB"}, {"cache": "2GB", "total": "3GB"}):
        with pytest.raises(StorageError, match="is not the sum of its categories, [34]GiB"):
            tenant.limits(tiers, "t", wrong)
    seed = {"t": {"artifacts": "500MB", "cache": "500MB", "total": "1GB", "concurrent_builds": 1}}
    assert "lacks scratch" in str(refused("invalid", {"name": "a", "tier": "t"}, tiers=seed))


def test_disjoint_categories_sum_to_the_total_whatever_the_sizes() -> None:
    rng = random.Random(7)
    for _round in range(200):
        sizes = {name: rng.randrange(1 << 20, 1 << 45) for name in tenant.CATEGORIES}
        found = layout({"name": "a", "tier": "t"}, tiers={"t": {**sizes, "concurrent_builds": "1"}})
        total, *parts = [int(entry["hard"]) for entry in found["quotas"]]
        assert total == sum(parts) and all(part % 4096 == 0 for part in parts)
        assert all(0 <= part - said < 4096 for part, said in zip(parts, sizes.values()))


def test_absent_takes_its_name() -> None:
    error = refused("would_destroy", {"name": "acme", "state": "absent"})
    assert error.details == {"confirm": "acme"} and "confirm: acme" in error.hint
    refused("would_destroy", {"name": "acme", "state": "absent", "confirm": "globex"})
    refused("would_destroy", {"name": "acme", "state": "absent", "confirm": True})
    found = layout({"name": "acme", "state": "absent", "confirm": "acme", "builds": ["b"]})
    assert all(entry["state"] == "absent" for entries in found.values() for entry in entries)
    assert all(entry["type"] == "absent" for entry in found["trees"][0]["entries"])
    assert found["trees"][0]["confirm"] == found["trees"][0]["root"]
    assert len(found["trees"]) == 1, "the folder of all tenants is not needed for that"
    assert not any("hard" in entry for entry in found["quotas"])


@pytest.mark.parametrize(
    "code, said, text",
    [
        ("invalid", {}, "tenant None is not a valid name"),
        ("invalid", {"name": "../etc", "tier": "free"}, "'../etc' is not a valid name"),
        ("invalid", {"name": "a b", "tier": "free"}, "not a valid name"),
        ("invalid", {"name": "A", "tier": "free"}, "not a valid name"),
        ("invalid", {"name": "a..b", "tier": "free"}, "not a valid name"),
        ("invalid", {"name": 7, "tier": "free"}, "tenant 7 is not a valid name"),
        ("not_found", {"name": "a"}, "there is no tier None (one of free, pro, enterprise, dedicated)"),
        ("not_found", {"name": "a", "tier": "gold"}, "there is no tier 'gold'"),
        ("invalid", {"name": "a", "tier": "free", "quota": 1}, "tenant_list[0]: unknown option quota"),
        ("invalid", {"name": "a", "tier": "free", "overrides": {"cahce": "1GB"}}, "overrides: unknown option cahce"),
        ("invalid", {"name": "a", "tier": "free", "overrides": ["x"]}, "is not a dictionary"),
        ("invalid", {"name": "a", "tier": "free", "overrides": {"cache": "100"}}, "did you mean 100GiB?"),
        ("invalid", {"name": "a", "tier": "free", "overrides": {"cache": "-1"}}, "is not a size"),
        (
            "invalid",
            {"name": "a", "tier": "free", "overrides": {"inodes": "-1"}},
            "inodes '-1' is not a positive number",
        ),
        (
            "invalid",
            {"name": "a", "tier": "free", "overrides": {"inodes": True}},
            "inodes True is not a positive number",
        ),
        ("invalid", {"name": "a", "tier": "free", "overrides": {"concurrent_builds": 0}}, "is not a positive number"),
        ("invalid", {"name": "a", "tier": "free", "state": "gone"}, "neither present nor absent"),
        ("invalid", {"name": "a", "tier": "free", "builds": {"b": 1}}, "is not a list"),
        ("invalid", {"name": "a", "tier": "free", "builds": ["../b"]}, "build '../b' is not a valid name"),
        ("conflict", {"name": "a", "tier": "pro", "builds": "b b"}, "a build is declared twice"),
        (
            "limit_exceeded",
            {"name": "a", "tier": "free", "builds": ["b", "c"]},
            "2 builds are declared (tier free allows 1)",
        ),
        ("invalid", "acme", "tenant_list[0] 'acme' is not a dictionary"),
    ],
)
def test_refusals(code: str, said: Any, text: str) -> None:
    assert text in str(refused(code, said))


def test_refusals_name_the_tenant() -> None:
    good = {"name": "good", "tier": "free"}
    assert str(refused("not_found", good, {"name": "bad", "tier": "x"})).startswith("tenant_list[1] (bad): ")
    assert "tenant_list[1] (good): the tenant is declared twice" in str(refused("conflict", good, good))


def test_refusals_of_the_whole() -> None:
    good = {"name": "good", "tier": "free"}
    assert "not supported yet" in str(refused("unsupported", good, backend="xfs"))
    assert "base 'srv' is not absolute" in str(refused("invalid", good, base="srv"))
    assert "tiers 7 is not a dictionary" in str(refused("invalid", good, tiers=7))
    assert "tier free 'much' is not a dictionary" in str(refused("invalid", good, tiers={"free": "much"}))
    assert "unknown option price" in str(refused("invalid", good, tiers={"free": {**TIERS["free"], "price": 1}}))
    with pytest.raises(StorageError, match="is not a list"):
        tenant.layout("acme", TIERS)
    assert tenant.layout([], TIERS) == {"trees": [], "quotas": [], "mounts": []}


def test_nothing_given_is_changed() -> None:
    said = {"name": "a", "tier": "free", "overrides": {"cache": "1GB"}, "builds": ["b"]}
    before = yaml.safe_dump([said, TIERS])
    tenant.layout([said], TIERS)
    assert yaml.safe_dump([said, TIERS]) == before


def test_the_specification_of_the_role_knows_the_options_of_the_map() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    entry = spec["tenant_list"]["options"]
    assert set(entry) == tenant.TENANT and set(entry["overrides"]["options"]) == tenant.TIER
    assert set(spec) == set(DEFAULTS)
    assert {name: option["default"] for name, option in spec.items() if "default" in option} == {
        name: value for name, value in DEFAULTS.items() if name != "tenant_tiers"
    }
    assert size.parse(TIERS["free"]["scratch"]) == 500 * MB
