# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of a real cluster, judged with ``ceph``, by librados and by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.lab import ceph, ceph_packages
from ansible_collections.bulkhead.storage.tests.lab.ceph_cluster import calls
from ansible_collections.bulkhead.storage.tests.support import module

PACKAGE = "ansible_collections.bulkhead.storage."
# What nobody but who runs a module changes; placement groups come and go by themselves.
OURS = "pool type size min_size crush_rule pg_autoscale_mode quota_max_bytes quota_max_objects erasure_code_profile"
OURS += " options application_metadata"
# What is declared of one pool, one after the other, and what the cluster shows of it then.
STEPS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"size": 3, "pg_num": 4, "autoscale": "off", "application": ["rbd"], "quota_bytes": "1GiB", "nodelete": True},
        {"size": 3, "min_size": 2, "pg_num_target": 4, "quota_max_bytes": 1 << 30, "application_metadata": {"rbd": {}}},
    ),
    ({"size": 2}, {"size": 2, "min_size": 2, "pg_num_target": 4, "quota_max_bytes": 1 << 30}),
    ({"size": 3}, {"size": 3, "min_size": 2}),
    ({"min_size": 1}, {"size": 3, "min_size": 1}),
    ({"size": 2, "min_size": 2}, {"size": 2, "min_size": 2}),
    ({"pg_num": 8}, {"pg_num_target": 8}),
    ({"pg_num": 4, "autoscale": "warn"}, {"pg_num_target": 4, "pg_autoscale_mode": "warn"}),
    ({"autoscale": "on", "pg_num": 16}, {"pg_autoscale_mode": "on"}),
    ({"autoscale": "off"}, {"pg_autoscale_mode": "off"}),
    ({"crush_rule": "other"}, {"crush_rule": 1}),
    ({"application": ["rgw", "own"]}, {"application_metadata": {"own": {}, "rgw": {}}}),
    ({"application": []}, {"application_metadata": {}}),
    ({"quota_bytes": "none", "quota_objects": "100"}, {"quota_max_bytes": 0, "quota_max_objects": 100}),
    ({"quota_objects": "none"}, {"quota_max_objects": 0}),
    (
        {"compression": {"mode": "aggressive", "algorithm": "zstd", "required_ratio": 0.1}},
        {
            "options": {
                "compression_mode": "aggressive",
                "compression_algorithm": "zstd",
                "compression_required_ratio": 0.1,
            }
        },
    ),
    (
        {"compression": {"mode": "none", "required_ratio": 0.875}},
        {"options": {"compression_mode": "none", "compression_algorithm": "zstd", "compression_required_ratio": 0.875}},
    ),
    ({"nodelete": False}, {"flags_names": "hashpspool"}),
]
# The same commands, of which each is a process.
AT_ONCE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {**STEPS[0][0], "quota_objects": "100", "min_size": 1, **STEPS[14][0]},
        {**STEPS[0][1], "quota_max_objects": 100, "min_size": 1, **STEPS[14][1]},
    ),
    (
        {
            **STEPS[4][0],
            **STEPS[5][0],
            **STEPS[9][0],
            **STEPS[10][0],
            **STEPS[12][0],
            **STEPS[15][0],
            "autoscale": "warn",
        },
        {**STEPS[4][1], **STEPS[5][1], **STEPS[9][1], **STEPS[10][1], **STEPS[12][1], **STEPS[15][1]},
    ),
    STEPS[-1],
]


def pools(cluster: ceph.Cluster) -> dict[str, Any]:
    return {pool["pool_name"]: pool for pool in cluster.ceph("osd", "dump")["pools"]}


def settings(cluster: ceph.Cluster) -> dict[str, Any]:
    found = pools(cluster)
    flags = {name: sorted(set(pool["flags_names"].split(",")) - {"creating"}) for name, pool in found.items()}
    return {name: [flags[name], *(pool[key] for key in OURS.split())] for name, pool in found.items()}


def states(cluster: ceph.Cluster, pool: str) -> set[str]:
    """Of each placement group, as its own OSD tells."""
    groups = [group["pgid"] for group in cluster.ceph("pg", "ls-by-pool", pool)["pg_stats"]]
    return {word for group in groups for word in [cluster.ceph("pg", group, "query")["state"]]}


def said(done: module.Done) -> str:
    assert done.stderr == ""
    return str(done.result.get("code", "changed" if done.result["changed"] else "quiet"))


def agreed(cluster: ceph.Cluster, call: calls.Call, **options: Any) -> module.Done:
    """Check mode says what the run does, and changes nothing; afterwards there is nothing left to do."""
    before = settings(cluster)
    foreseen = call("ceph_pool", check=True, diff=True, **options)
    assert said(foreseen) == "changed" and settings(cluster) == before
    done = call("ceph_pool", diff=True, **options)
    assert said(done) == "changed", done.result
    assert done.result["actions"] == foreseen.result["actions"] and done.result["diff"] == foreseen.result["diff"]
    assert done.result["plan_digest"] == foreseen.result["plan_digest"] and done.result["journal"] == ""
    for check in (False, True):
        again = call("ceph_pool", check=check, **options)
        assert said(again) == "quiet" and again.result["actions"] == []
        assert again.result["resource"] == done.result["resource"]
    return done


@pytest.fixture(autouse=True)
def removable(cluster: ceph.Cluster) -> Iterator[None]:
    """Who makes the cluster as new removes every pool."""
    yield
    for name, pool in pools(cluster).items():
        if "nodelete" in pool["flags_names"]:
            cluster.ceph("osd", "pool", "set", name, "nodelete", "false")


@pytest.fixture(params=calls.WAYS)
def call(cluster: ceph.Cluster, request: pytest.FixtureRequest) -> calls.Call:
    return calls.through(cluster, request.param, calls.access(cluster))


@pytest.fixture
def quick(cluster: ceph.Cluster) -> calls.Call:
    """Where the way makes no difference."""
    return calls.through(cluster, "librados", calls.access(cluster))


@pytest.mark.parametrize(("how", "steps"), [("librados", STEPS), ("cli", AT_ONCE)], ids=calls.WAYS)
def test_each_option_is_made_and_changed_and_only_that(cluster: ceph.Cluster, how: str, steps: Any) -> None:
    cluster.ceph("osd", "crush", "rule", "create-replicated", "other", "default", "osd")
    call = calls.through(cluster, how, calls.access(cluster))
    shown: dict[str, Any] = {}
    for options, expected in steps:
        agreed(cluster, call, name="images", **options)
        now = pools(cluster)["images"]
        assert {key: now[key] for key in expected} == expected, options
        shown.update(expected)
        left = {k: v for k, v in shown.items() if k not in ("flags_names",)}
        assert {key: now[key] for key in left} == left, "what was not declared stays"
    assert said(call("ceph_pool", name="images", state="absent")) == "would_destroy"
    assert list(pools(cluster)) == ["images"]
    agreed(cluster, call, name="images", state="absent", confirm="images")
    assert pools(cluster) == {}


def test_a_new_pool_is_active(cluster: ceph.Cluster, quick: calls.Call) -> None:
    done = quick("ceph_pool", name="images", pg_num=8, application=["rbd"])
    assert said(done) == "changed"
    assert states(cluster, "images") <= {"active+clean", "active"}, "at once"
    assert done.result["resource"]["ready"] is True


def test_erasure_coding(cluster: ceph.Cluster, call: calls.Call) -> None:
    profile = ("k=2", "m=1", "crush-failure-domain=osd")
    cluster.ceph("osd", "erasure-code-profile", "set", "wide", *profile)
    done = agreed(cluster, call, name="archive", ec_profile="wide", pg_num=4, application=["rgw"])
    assert done.result["resource"]["type"] == "erasure" and done.result["resource"]["size"] == 3
    agreed(cluster, call, name="archive", ec_overwrites=True, min_size=3)
    now = pools(cluster)["archive"]
    assert (now["type"], now["erasure_code_profile"], now["min_size"]) == (3, "wide", 3)
    assert "ec_overwrites" in now["flags_names"]


def test_what_erasure_coding_cannot_be(cluster: ceph.Cluster, quick: calls.Call) -> None:
    profile = ("k=2", "m=1", "crush-failure-domain=osd")
    cluster.ceph("osd", "erasure-code-profile", "set", "wide", *profile)
    made = {"name": "archive", "ec_profile": "wide", "ec_overwrites": True, "pg_num": 1}
    assert said(quick("ceph_pool", **made)) == "changed"
    before = settings(cluster)
    for options, code in (
        ({"ec_overwrites": False}, "conflict"),
        ({"ec_profile": "default"}, "conflict"),
        ({"type": "replicated"}, "conflict"),
        ({"size": 2}, "unsupported"),
        ({"min_size": 4}, "invalid"),
        ({"name": "other", "ec_profile": "none"}, "not_found"),
        ({"name": "other", "type": "erasure"}, "limit_exceeded"),
        ({"name": "other", "ec_profile": "wide", "min_size": 1}, "invalid"),
        ({"name": "other", "ec_profile": "wide", "crush_rule": "replicated_rule"}, "invalid"),
    ):
        for check in (True, False):
            assert said(quick("ceph_pool", check=check, **{"name": "archive", **options})) == code, options
    assert settings(cluster) == before


def test_what_the_cluster_would_refuse_is_told_before(cluster: ceph.Cluster, call: calls.Call) -> None:
    assert said(call("ceph_pool", name="images", pg_num=4)) == "changed"
    cluster.ceph("osd", "crush", "rule", "create-replicated", "hosts", "default", "host")
    before = settings(cluster)
    for options, code in (
        ({"size": 4}, "limit_exceeded"),
        ({"crush_rule": "hosts"}, "limit_exceeded"),
        ({"crush_rule": "none"}, "not_found"),
        ({"min_size": 4}, "invalid"),
        ({"ec_overwrites": True}, "invalid"),
        ({"name": "four", "size": 4}, "limit_exceeded"),
        ({"name": "one", "size": 1}, "would_destroy"),
    ):
        for check in (True, False):
            assert said(call("ceph_pool", check=check, **{"name": "images", **options})) == code, options
    assert settings(cluster) == before


def test_what_the_cluster_refuses_leaves_nothing(cluster: ceph.Cluster, call: calls.Call) -> None:
    assert said(call("ceph_pool", name="many", pg_num=65536)) == "limit_exceeded"
    assert said(call("ceph_pool", name="thin", min_size=9)) == "invalid", "more than the copies that nobody declared"
    assert pools(cluster) == {}


def test_a_change_that_is_refused_in_part_is_taken_back(cluster: ceph.Cluster, call: calls.Call) -> None:
    """A pool has four applications at most, and 16.2 tells only when a fifth is enabled."""
    assert said(call("ceph_pool", name="images", pg_num=1, application=["a"], quota_objects="7")) == "changed"
    before = settings(cluster)
    done = call("ceph_pool", name="images", application=list("bcdef"), quota_objects="8", autoscale="warn")
    assert said(done) == "invalid" and done.result["summary"]["applied"] == 0, done.result
    assert settings(cluster)["images"][:-1] == before["images"][:-1], done.result["errors"]
    assert set(pools(cluster)["images"]["application_metadata"]) == {"a"}


def test_what_cannot_be_taken_back_is_told(cluster: ceph.Cluster, quick: calls.Call) -> None:
    """A cluster that lets nobody remove a pool keeps the useless one, and a pool that should go."""
    cluster.ceph("tell", "mon.a", "config", "set", "mon_allow_pool_delete", "false")
    try:
        done = quick("ceph_pool", name="thin", min_size=9)
        assert said(done) == "invalid" and "stays" in done.result["errors"][0]["details"]["kept"]
        done = quick("ceph_pool", name="thin", state="absent", confirm="thin")
        assert said(done) == "denied" and "mon_allow_pool_delete" in done.result["hint"]
        assert list(pools(cluster)) == ["thin"]
    finally:
        cluster.ceph("tell", "mon.a", "config", "set", "mon_allow_pool_delete", "true")


def test_one_copy_takes_its_name_and_the_clusters_leave(cluster: ceph.Cluster, call: calls.Call) -> None:
    one = {"name": "one", "size": 1, "pg_num": 1}
    done = call("ceph_pool", **one)
    assert said(done) == "would_destroy" and "confirm: one" in done.result["hint"]
    assert said(call("ceph_pool", confirm="one", **one)) == "denied" and pools(cluster) == {}
    cluster.ceph("tell", "mon.a", "config", "set", "mon_allow_pool_size_one", "true")
    try:
        agreed(cluster, call, confirm="one", **one)
        assert (pools(cluster)["one"]["size"], pools(cluster)["one"]["min_size"]) == (1, 1)
    finally:
        cluster.ceph("tell", "mon.a", "config", "set", "mon_allow_pool_size_one", "false")


def test_a_pool_that_says_so_is_not_removed(cluster: ceph.Cluster, quick: calls.Call) -> None:
    assert said(quick("ceph_pool", name="images", pg_num=1, nodelete=True)) == "changed"
    for check in (True, False):
        assert said(quick("ceph_pool", check=check, name="images", state="absent", confirm="images")) == "protected"
    assert "nodelete" in pools(cluster)["images"]["flags_names"]


def test_namespaces(cluster: ceph.Cluster, call: calls.Call) -> None:
    wanted = {"name": "images", "pg_num": 1, "application": ["rbd"], "namespaces": ["red", "blue"]}

    def there() -> list[str]:
        argv = ["rbd", "--conf", str(cluster.conf), "namespace", "ls", "--pool", "images", "--format", "json"]
        return sorted(each["name"] for each in json.loads(cluster.run(argv).stdout))

    done = agreed(cluster, call, **wanted)
    assert there() == ["blue", "red"] == done.result["resource"]["namespaces"]
    cluster.run(["rbd", "--conf", str(cluster.conf), "namespace", "create", "images/own"])
    assert said(call("ceph_pool", **wanted)) == "quiet" and there() == ["blue", "own", "red"], (
        "not declared, not touched"
    )
    cluster.run(["rbd", "--conf", str(cluster.conf), "namespace", "rm", "images/red"])
    assert said(call("ceph_pool", **wanted)) == "changed" and there() == ["blue", "own", "red"]


def test_a_size_that_is_not_declared_stays(cluster: ceph.Cluster, quick: calls.Call) -> None:
    """ceph.automation sets it to 3, its default."""
    cluster.ceph("osd", "pool", "create", "images", "4")
    cluster.settle()  # else it becomes active meanwhile
    cluster.ceph("osd", "pool", "set", "images", "size", "4")
    agreed(cluster, quick, name="images", quota_bytes="1GiB", application=["rbd"], min_size=1, autoscale="warn")
    assert (pools(cluster)["images"]["size"], pools(cluster)["images"]["min_size"]) == (4, 1)
    assert said(quick("ceph_pool", name="images", size=4)) == "quiet", "it is so, though there are places for three"


class TestPeers:
    """What is wrong with ceph.automation's ceph_pool, one by one."""

    def test_absent_of_a_pool_that_is_not_there_is_quiet(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        for check in (True, False):
            assert said(quick("ceph_pool", check=check, name="none", state="absent")) == "quiet"

    def test_a_pool_that_is_not_there_can_be_foreseen(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        done = quick("ceph_pool", check=True, diff=True, name="images", size=3)
        assert said(done) == "changed" and "images" in done.result["diff"]["after"] and pools(cluster) == {}

    def test_min_size_counts_at_creation(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        assert said(quick("ceph_pool", name="images", pg_num=1, size=3, min_size=1)) == "changed"
        assert pools(cluster)["images"]["min_size"] == 1

    def test_who_may_not_look_is_not_told_that_nothing_is_there(self, cluster: ceph.Cluster) -> None:
        cluster.ceph("osd", "pool", "create", "images", "1")
        for how in calls.WAYS:
            call = calls.through(cluster, how, calls.access(cluster, "blind", osd="allow r"))
            done = call("ceph_pool", name="images", state="absent")
            assert said(done) == "denied" and "client.blind" in done.result["hint"], how
        assert list(pools(cluster)) == ["images"]

    def test_a_rule_is_compared(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        cluster.ceph("osd", "crush", "rule", "create-replicated", "other", "default", "osd")
        cluster.ceph("osd", "pool", "create", "images", "1")
        cluster.settle()  # until then there would be something to wait for
        assert said(quick("ceph_pool", check=True, name="images", crush_rule="other")) == "changed"
        assert said(quick("ceph_pool", check=True, name="images", crush_rule="replicated_rule")) == "quiet"

    def test_a_tenth_is_a_tenth(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        assert said(quick("ceph_pool", name="images", pg_num=1, compression={"required_ratio": "0.10"})) == "changed"
        assert said(quick("ceph_pool", name="images", compression={"required_ratio": 0.1})) == "quiet"

    def test_every_application_counts(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        assert said(quick("ceph_pool", name="images", pg_num=1, application=["rbd", "own"])) == "changed"
        assert said(quick("ceph_pool", name="images", application=["own", "rbd"])) == "quiet"
        assert said(quick("ceph_pool", name="images", application=["own"])) == "changed"
        assert list(pools(cluster)["images"]["application_metadata"]) == ["own"]

    def test_removal_takes_its_name(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        cluster.ceph("osd", "pool", "create", "images", "1")
        for given in ({}, {"confirm": "image"}, {"confirm": "true"}):
            assert said(quick("ceph_pool", name="images", state="absent", **given)) == "would_destroy"
        assert list(pools(cluster)) == ["images"]

    def test_nobody_is_administrator_by_default(self, cluster: ceph.Cluster, quick: calls.Call) -> None:
        done = quick("ceph_pool", name="images", user=None)
        assert said(done) == "invalid" and "client.admin is never assumed" in done.result["msg"]


# -- many, and one connection --------------------------------------------------------------------------------------


def asked(cluster: ceph.Cluster, user: str, since: int) -> tuple[set[str], list[str]]:
    """What the monitor logged of a user: its connections, and each command. It writes that some time later."""
    until, mine = time.monotonic() + 10, []
    while not mine and time.monotonic() < until:
        time.sleep(1)
        lines = (cluster.folder / "cluster.log").read_text(encoding="utf-8")[since:].splitlines()
        mine = [line for line in lines if "entity='client.%s'" % user in line and line.endswith(": dispatch")]
    connections = {line.split("from='")[1].split("'")[0] for line in mine}
    return connections, [json.loads(line.split("cmd=")[1].rpartition(": ")[0])[0]["prefix"] for line in mine]


def test_fifty_pools_through_one_connection(cluster: ceph.Cluster) -> None:
    way = calls.access(cluster)
    names = ["pool%02d" % number for number in range(50)]
    wanted = [{"name": name, "size": 3, "pg_num": 1, "application": ["rbd"], **way} for name in names]
    document = {"_declaration": json.dumps({"ceph_pools": wanted}), "_secrets": [], "workers": 50}

    def call(check: bool = False, **more: Any) -> module.Done:
        with calls.entered(cluster):
            return module.run(
                "layout", {**document, **more}, check, python=ceph.PYTHON, environment=calls.environment()
            )

    def told() -> int:
        """How long the log is, once what was before is in it."""
        time.sleep(8)
        return (cluster.folder / "cluster.log").stat().st_size

    foreseen = call(check=True)
    since, start = told(), time.monotonic()
    done = call()
    print("made: %.1f s" % (time.monotonic() - start))
    assert said(done) == "changed" and done.result["plan_digest"] == foreseen.result["plan_digest"], done.result
    assert done.result["summary"]["applied"] == 50 and sorted(pools(cluster)) == names
    assert len(asked(cluster, "bulkhead", since)[0]) == 1
    for name in names[::10]:
        assert states(cluster, name) <= {"active+clean", "active"}
    since, start = told(), time.monotonic()
    assert said(call()) == "quiet"
    print("nothing to do: %.3f s" % (time.monotonic() - start))
    connections, commands = asked(cluster, "bulkhead", since)
    assert len(connections) == 1 and sorted(commands) == ["osd crush rule dump", "osd dump"]
    gone = {"ceph_pools": [{"name": name, "confirm": name, **way} for name in names], "state": "absent"}
    assert said(call(_declaration=json.dumps(gone))) == "changed"
    assert pools(cluster) == {}


# -- monitors that do not answer, and runs that are killed -----------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_every_call_ends_without_a_monitor(cluster: ceph.Cluster, call: calls.Call, how: str) -> None:
    assert said(call("ceph_pool", name="images", pg_num=1)) == "changed"
    before = settings(cluster)
    {"stopped": cluster.stop, "killed": cluster.kill}[how]("mon.a")
    try:
        for options in (
            {"name": "images"},
            {"name": "images", "size": 2},
            {"name": "other", "namespaces": ["red"]},
            {"name": "images", "state": "absent", "confirm": "images"},
        ):
            for check in (True, False):
                start = time.monotonic()
                done = call("ceph_pool", check=check, timeout=1, **options)
                assert said(done) == "unreachable" and time.monotonic() - start < 3, options
        assert said(call("ceph_pool_info", timeout=1)) == "unreachable"
    finally:
        {"stopped": cluster.cont, "killed": cluster.start}[how]("mon.a")
    assert settings(cluster) == before


@pytest.mark.parametrize("after", [0.2, 0.3, 0.4])
def test_a_monitor_that_stops_meanwhile(cluster: ceph.Cluster, quick: calls.Call, after: float) -> None:
    wanted = {"name": "images", "pg_num": 4, "application": ["rbd"], "size": 2, "min_size": 1, "quota_bytes": "1GiB"}
    timer = threading.Timer(after, cluster.stop, ["mon.a"])
    timer.start()
    start = time.monotonic()
    done = quick("ceph_pool", timeout=3, **wanted)
    took = time.monotonic() - start
    timer.join()
    cluster.cont("mon.a")
    print("stopped after %.1f s: %s after %.1f s" % (after, said(done), took))
    assert said(done) in ("unreachable", "timeout", "changed") and took < 8
    assert said(quick("ceph_pool", **wanted)) in ("changed", "quiet")
    now = pools(cluster)["images"]
    assert (now["size"], now["min_size"], now["application_metadata"]) == (2, 1, {"rbd": {}})


def test_a_killed_run_is_finished_by_the_next(cluster: ceph.Cluster) -> None:
    call = calls.through(cluster, "librados", calls.access(cluster))
    wanted = {"name": "images", "pg_num": 4, "application": ["rbd"], "min_size": 1, "quota_bytes": "1GiB"}
    wanted.update(namespaces=["red"], nodelete=True)
    found = []
    for number in range(8):
        try:
            call("ceph_pool", timeout_=0.12 + 0.06 * number, **wanted)
        except subprocess.TimeoutExpired:
            found.append(pools(cluster).get("images", {}).get("flags_names", "absent"))
        done = call("ceph_pool", **wanted)
        assert said(done) in ("changed", "quiet"), done.result
        now = pools(cluster)["images"]
        assert (now["min_size"], now["quota_max_bytes"], now["application_metadata"]) == (1, 1 << 30, {"rbd": {}})
        assert "nodelete" in now["flags_names"] and states(cluster, "images") <= {"active", "active+clean"}
        assert said(call("ceph_pool", name="images", nodelete=False)) == "changed"
        assert said(call("ceph_pool", name="images", state="absent", confirm="images")) == "changed"
    print("left by those that were killed: %s" % found)
    assert len(set(found)) > 1, "some were killed before it was there, some afterwards"


def test_pools_and_what_is_in_them(cluster: ceph.Cluster, call: calls.Call) -> None:
    for name in ("one", "two"):
        assert said(call("ceph_pool", name=name, pg_num=1, application=["own"], quota_objects="7")) == "changed"
    cluster.run(["rados", "--conf", str(cluster.conf), "--pool", "one", "put", "thing", "/etc/hostname"])
    size = os.path.getsize("/etc/hostname")
    until = time.monotonic() + 20
    while True:
        done = call("ceph_pool_info")
        one, two = done.result["pools"]
        if (one["objects"], one["stored_bytes"]) == (1, size) or time.monotonic() > until:
            break  # each OSD tells by itself
        time.sleep(0.5)
    assert (one["name"], one["objects"], one["stored_bytes"], one["quota_objects"]) == ("one", 1, size, 7)
    assert (two["name"], two["objects"], two["stored_bytes"]) == ("two", 0, 0) and two["max_avail_bytes"] > 1 << 20
    assert [pool["name"] for pool in call("ceph_pool_info", name="two").result["pools"]] == ["two"]
    assert call("ceph_pool_info", name="three").result["pools"] == []
    shown = call("ceph_pool", name="two").result["resource"]
    assert {k: v for k, v in two.items() if k in shown} == {k: v for k, v in shown.items() if k != "namespaces"}


def test_each_option_of_the_connection_counts(cluster: ceph.Cluster) -> None:
    """A keyring and a configuration elsewhere, and what is wrong with them."""
    way = calls.access(cluster)
    keyring, conf = cluster.folder / "kept", cluster.folder / "own.conf"
    (cluster.folder / "client.bulkhead.keyring").rename(keyring)
    text = cluster.conf.read_text(encoding="utf-8")
    conf.write_text(text.replace("keyring = ", "# keyring = "), encoding="utf-8")
    try:
        for how in calls.WAYS:
            call = calls.through(cluster, how, {"user": "client.bulkhead", "conf": str(conf), "keyring": str(keyring)})
            assert said(call("ceph_pool", check=True, name="a")) == "changed", how
            assert said(call("ceph_pool", check=True, name="a", cluster="other")) == "changed", how
            assert said(call("ceph_pool", check=True, name="a", conf="/etc/ceph/none.conf")) == "not_found", how
            assert said(call("ceph_pool", check=True, name="a", keyring="/etc/ceph/none")) == "not_found", how
            assert said(call("ceph_pool", check=True, name="a", keyring=None)) == "denied", how
            assert said(call("ceph_pool", check=True, name="a", user="stranger")) == "denied", how
            for path in (keyring, conf):
                path.chmod(0o666)
                assert said(call("ceph_pool", check=True, name="a")) == "unsafe_path", how
                path.chmod(0o600)
            os.chown(keyring, 65534, 65534)
            assert said(call("ceph_pool", check=True, name="a")) == "unsafe_path", how
            os.chown(keyring, 0, 0)
    finally:
        keyring.rename(cluster.folder / "client.bulkhead.keyring")
        conf.unlink()
    assert way["user"] == "bulkhead"


def test_a_python_without_the_bindings_asks_through_one_that_has_them(cluster: ceph.Cluster, tmp_path: Path) -> None:
    """As of a virtual environment: the one that runs these tests."""
    line = shlex.join(ceph_packages.shown(cluster.packages, [sys.executable]))
    (tmp_path / "python").write_text('#!/bin/sh\nexec %s "$@"\n' % line, encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    with calls.entered(cluster):
        options = {**calls.access(cluster), "name": "images", "pg_num": 1}
        done = module.run("ceph_pool", options, python=str(tmp_path / "python"))
    assert said(done) == "changed" and list(pools(cluster)) == ["images"]


def test_no_process_is_left(cluster: ceph.Cluster, call: calls.Call) -> None:
    assert said(call("ceph_pool", name="images", pg_num=1)) == "changed"
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.stop("mon.a")
        call("ceph_pool", timeout_=1.0, timeout=3, name="images", size=2)
    until = time.monotonic() + 10
    while speaking(cluster) and time.monotonic() < until:
        time.sleep(0.1)
    cluster.cont("mon.a")
    assert speaking(cluster) == []


def speaking(cluster: ceph.Cluster) -> list[str]:
    """Processes in the cluster's namespace that are none of its daemons."""
    found, daemons = [], {process.pid for process in cluster.daemons.values()}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            theirs = entry.name.isdigit() and int(entry.name) not in daemons
            if theirs and (entry / "ns" / "net").stat().st_ino == os.fstat(cluster.space).st_ino:
                found.append((entry / "cmdline").read_text(encoding="utf-8").replace("\0", " ")[:80])
    return found


def test_nobody_needs_to_be_root(cluster: ceph.Cluster) -> None:
    way = calls.access(cluster)
    place = Path(tempfile.mkdtemp())
    for name, path in (("conf", cluster.conf), ("keyring", cluster.folder / "client.bulkhead.keyring")):
        shutil.copy(path, place / name)
        os.chown(place / name, 65534, 65534)
        way[name] = str(place / name)
    os.chown(place, 65534, 65534)
    code = "import os, sys; os.setgid(65534); os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])"
    arguments = {"ANSIBLE_MODULE_ARGS": {**way, "name": "images", "pg_num": 1, "_ansible_remote_tmp": str(place)}}
    env = {**calls.environment(), "PATH": os.environ["PATH"], "TMPDIR": str(place)}
    argv = [ceph.PYTHON, "-c", code, ceph_packages.PYTHON, "-m", PACKAGE + "plugins.modules.ceph_pool"]
    try:
        with calls.entered(cluster):
            done = subprocess.run(
                argv, env=env, cwd="/", input=json.dumps(arguments), check=False, capture_output=True, text=True
            )
        answer = json.loads(done.stdout)
        assert answer["changed"] and answer["journal"] == "" and list(pools(cluster)) == ["images"], done.stderr
        assert sorted(path.name for path in place.iterdir()) == ["bulkhead-65534", "conf", "keyring"], "but its lock"
    finally:
        shutil.rmtree(place)
