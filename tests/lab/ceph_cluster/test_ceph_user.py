# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of a real cluster and the files with their keys, judged with ``ceph``, by librados and by the command line."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.lab import ceph
from ansible_collections.bulkhead.storage.tests.lab.ceph_cluster import calls
from ansible_collections.bulkhead.storage.tests.lab.places import Refused
from ansible_collections.bulkhead.storage.tests.support import module

CAPS = {"mon": "profile rbd", "osd": "profile rbd pool=images namespace=blue"}
WRITE = """
import sys, rados
conf, keyring, pool, namespace = sys.argv[1:]
with rados.Rados(conffile=conf, name="client.blue", conf={"keyring": keyring}) as cluster:
    with cluster.open_ioctx(pool) as objects:
        objects.set_namespace(namespace)
        objects.write_full("thing", b"there")
        print(objects.read("thing").decode())
"""


def users(cluster: ceph.Cluster) -> dict[str, Any]:
    """What each may do, and its key."""
    return {row["entity"]: (row["caps"], row["key"]) for row in cluster.ceph("auth", "ls")["auth_dump"]}


def said(done: module.Done) -> str:
    assert done.stderr == ""
    return str(done.result.get("code", "changed" if done.result["changed"] else "quiet"))


def agreed(cluster: ceph.Cluster, call: calls.Call, **options: Any) -> module.Done:
    """Check mode says what the run does, and changes nothing; afterwards there is nothing left to do."""
    path = Path(options.get("keyring_path", "/none"))
    before = users(cluster), path.exists() and (path.read_bytes(), path.stat())
    foreseen = call("ceph_user", check=True, diff=True, **options)
    assert said(foreseen) == "changed"
    assert (users(cluster), path.exists() and (path.read_bytes(), path.stat())) == before
    done = call("ceph_user", diff=True, **options)
    assert said(done) == "changed", done.result
    assert done.result["actions"] == foreseen.result["actions"] and done.result["diff"] == foreseen.result["diff"]
    key = users(cluster).get("client.blue")
    for check in (False, True):
        again = call("ceph_user", check=check, **options)
        assert said(again) == "quiet" and again.result["resource"] == done.result["resource"]
    assert users(cluster).get("client.blue") == key, "no run makes another key"
    return done


def kept(path: Path) -> tuple[int, int, bytes]:
    found = path.lstat()
    assert stat.S_ISREG(found.st_mode)
    return stat.S_IMODE(found.st_mode), found.st_uid, path.read_bytes()


@pytest.fixture(params=calls.WAYS)
def call(cluster: ceph.Cluster, request: pytest.FixtureRequest) -> calls.Call:
    return calls.through(cluster, request.param, calls.access(cluster))


@pytest.fixture
def quick(cluster: ceph.Cluster) -> calls.Call:
    """Where the way makes no difference."""
    return calls.through(cluster, "librados", calls.access(cluster))


def test_a_user_and_its_key(cluster: ceph.Cluster, call: calls.Call, tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    done = agreed(cluster, call, name="blue", caps=CAPS, keyring_path=str(path))
    caps, key = users(cluster)["client.blue"]
    assert caps == CAPS == done.result["resource"]["caps"]
    assert kept(path) == (0o600, 0, ("[client.blue]\n\tkey = %s\n" % key).encode())
    wider = {**CAPS, "osd": "profile rbd pool=images namespace=blue, allow r pool=other", "mgr": "allow r"}
    agreed(cluster, call, name="client.blue", caps=wider, keyring_path=str(path))
    assert users(cluster)["client.blue"][1] == key
    same = {
        "mgr": " allow  r",
        "mon": "profile rbd",
        "osd": 'allow r pool "other";profile rbd pool = images namespace=blue',
    }
    assert said(call("ceph_user", name="blue", caps=same)) == "quiet"
    agreed(cluster, call, name="blue", state="absent", keyring_path=str(path))
    assert "client.blue" not in users(cluster) and not path.exists()


def test_what_the_file_should_not_be_is_mended(cluster: ceph.Cluster, quick: calls.Call, tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    wanted = {"name": "blue", "caps": CAPS, "keyring_path": str(path)}
    assert said(quick("ceph_user", **wanted)) == "changed"
    right = kept(path)

    def older() -> None:
        path.write_bytes(b"[client.blue]\n key = AQBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n")

    def open_to_a_group() -> None:
        subprocess.run(["setfacl", "-m", "g:65534:r", str(path)], check=True)

    for spoil in (
        lambda: path.chmod(0o644),
        lambda: path.chmod(0o400),
        lambda: os.chown(path, 65534, 65534),
        path.unlink,
        lambda: path.write_bytes(b""),
        older,
        open_to_a_group,
    ):
        spoil()
        agreed(cluster, quick, **wanted)
        assert kept(path) == right
        done = subprocess.run(["getfacl", "-cs", str(path)], check=True, capture_output=True, text=True)
        assert done.stdout == "", "nothing is left of who could read it before"
    path.write_bytes(b"# of the monitors\n" + right[2] + b'\tcaps mon = "profile rbd"\n')
    assert said(quick("ceph_user", **wanted)) == "quiet", "as ceph itself would write it"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keyring"]


def standing(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns


def test_what_is_somebody_elses_stays(cluster: ceph.Cluster, quick: calls.Call, tmp_path: Path) -> None:
    path, other = tmp_path / "keyring", tmp_path / "other"
    wanted = {"name": "blue", "caps": CAPS, "keyring_path": str(path)}
    other.write_text("kept")

    def linked() -> None:
        path.unlink()
        path.symlink_to(other)

    def folder() -> None:
        path.unlink()
        path.mkdir()

    for make, code in (
        (lambda: path.write_text("[client.red]\n\tkey = x\n"), "conflict"),
        (lambda: path.write_text("[client.blue]\n\tkey = x\n[client.red]\n\tkey = x\n"), "conflict"),
        (lambda: path.write_text("anything\n"), "conflict"),
        (linked, "unsafe_path"),
        (folder, "conflict"),
    ):
        make()
        before = standing(path)
        for state in ("present", "absent"):
            for check in (True, False):
                assert said(quick("ceph_user", check=check, state=state, **wanted)) == code
        assert (standing(path), other.read_text()) == (before, "kept") and "client.blue" not in users(cluster)
    done = quick("ceph_user", **{**wanted, "keyring_path": str(tmp_path / "none" / "keyring")})
    assert said(done) == "not_found" and "client.blue" not in users(cluster), "told before"


def test_what_the_cluster_does_not_know_as_a_capability_is_refused(cluster: ceph.Cluster, call: calls.Call) -> None:
    before = users(cluster)
    for caps in ({"osd": "allow everything"}, {"mon": "profile none of it"}):
        done = call("ceph_user", name="blue", caps=caps)
        assert said(done) == "invalid" and "parse failed" in done.result["msg"], caps
    assert said(call("ceph_user", name="blue", caps=CAPS)) == "changed"
    now = users(cluster)
    assert said(call("ceph_user", name="blue", caps={"osd": "allow everything"})) == "invalid"
    assert users(cluster) == now != before


def test_who_is_not_to_be_touched(cluster: ceph.Cluster, quick: calls.Call) -> None:
    before = users(cluster)
    for name in ("admin", "client.admin", "bulkhead", "client.bootstrap-osd", "mon.", "osd.0", "mgr.x"):
        for options in ({"caps": {"mon": "allow r"}}, {"state": "absent"}):
            assert said(quick("ceph_user", name=name, **options)) == "protected", name
    assert users(cluster) == before


def test_a_tenant_is_bound_to_its_namespace(cluster: ceph.Cluster, quick: calls.Call, tmp_path: Path) -> None:
    """A namespace without a pool would be that of every pool, as the cluster itself shows."""
    path = tmp_path / "keyring"
    assert said(quick("ceph_pool", name="images", pg_num=1, namespaces=["blue"], application=["rbd"])) == "changed"
    assert said(quick("ceph_pool", name="other", pg_num=1, application=["rbd"])) == "changed"
    assert said(quick("ceph_user", name="blue", caps=CAPS, keyring_path=str(path))) == "changed"
    where = (str(cluster.conf), str(path))
    assert cluster.python(WRITE, *where, "images", "blue") == "there\n"
    for pool, namespace in (("images", ""), ("images", "red"), ("other", "blue")):
        with pytest.raises(Refused, match="Permission|EPERM|not permitted"):
            cluster.python(WRITE, *where, pool, namespace)
    wide = {"mon": "profile rbd", "osd": "profile rbd namespace=blue"}
    done = quick("ceph_user", name="blue", caps=wide)
    assert said(done) == "invalid" and "pool=<name> namespace=blue" in done.result["hint"]
    cluster.ceph("auth", "caps", "client.blue", "mon", wide["mon"], "osd", wide["osd"])
    assert cluster.python(WRITE, *where, "other", "blue") == "there\n", "which is why it is refused"


def test_who_holds_every_pool_is_warned_of(cluster: ceph.Cluster, quick: calls.Call) -> None:
    done = quick("ceph_user", check=True, name="blue", caps={"osd": "allow rw, allow r pool=a"})
    assert said(done) == "changed" and "names no pool" in str(done.result["warnings"])
    for osd in ("allow rw pool=a", "allow rw tag cephfs data=files", "allow class-read object_prefix rbd_children"):
        assert "warnings" not in quick("ceph_user", check=True, name="blue", caps={"osd": osd}).result, osd


def test_who_may_not_look_is_not_told_that_nobody_is_there(cluster: ceph.Cluster) -> None:
    for how in calls.WAYS:
        call = calls.through(cluster, how, calls.access(cluster, "blind", mon="allow r"))
        assert said(call("ceph_user", name="blue", state="absent")) == "denied", how


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_every_call_ends_without_a_monitor(cluster: ceph.Cluster, call: calls.Call, tmp_path: Path, how: str) -> None:
    path = tmp_path / "keyring"
    wanted = {"name": "blue", "caps": CAPS, "keyring_path": str(path), "timeout": 1}
    assert said(call("ceph_user", **{**wanted, "timeout": 20})) == "changed"
    before = users(cluster), kept(path)
    {"stopped": cluster.stop, "killed": cluster.kill}[how]("mon.a")
    try:
        for options in (wanted, {**wanted, "caps": {"mon": "allow r"}}, {**wanted, "state": "absent"}):
            assert said(call("ceph_user", **options)) == "unreachable"
    finally:
        {"stopped": cluster.cont, "killed": cluster.start}[how]("mon.a")
    assert (users(cluster), kept(path)) == before


def test_pools_and_users_in_one_declaration(cluster: ceph.Cluster, tmp_path: Path) -> None:
    way, path = calls.access(cluster), tmp_path / "keys" / "blue"
    document: dict[str, Any] = {
        "trees": [{"root": str(path.parent), "entries": [{"path": ".", "mode": "0700"}]}],
        "ceph_pools": [{"name": "images", "pg_num": 1, "namespaces": ["blue"], "application": ["rbd"], **way}],
        "ceph_users": [{"name": "blue", "caps": CAPS, "keyring_path": str(path), **way}],
    }

    def call(check: bool = False, **more: Any) -> module.Done:
        options = {"_declaration": json.dumps({**document, **more}), "_secrets": []}
        with calls.entered(cluster):
            return module.run("layout", options, check, True, ceph.PYTHON, calls.environment())

    foreseen, done = call(check=True), call()
    assert said(done) == "changed" and done.result["plan_digest"] == foreseen.result["plan_digest"], done.result
    assert [each["port"] for each in done.result["actions"]][-3:] == ["ceph_namespace", "ceph_auth", "ceph_keyring"]
    assert kept(path)[:2] == (0o600, 0) and users(cluster)["client.blue"][0] == CAPS
    assert said(call()) == "quiet" and said(call(check=True)) == "quiet"
    document["ceph_pools"][0]["confirm"] = "images"
    done = call(state="absent")
    assert said(done) == "changed" and not path.exists() and "client.blue" not in users(cluster), done.result
    assert cluster.ceph("osd", "pool", "ls") == []


# -- keys are nowhere ----------------------------------------------------------------------------------------------


def traced(cluster: ceph.Cluster, folder: Path, how: str, options: dict[str, Any]) -> str:
    """All that is executed for a call, and all that it says with everything asked for."""
    record, python = folder / "record", folder / "python"
    python.write_text('#!/bin/sh\nexec strace -f -s 65535 -e trace=execve -o %s %s "$@"\n' % (record, ceph.PYTHON))
    python.chmod(0o755)
    kind, given = "ceph_user", {**options, "_ansible_verbosity": 4, "_ansible_debug": False}
    if how == "cli":
        kind, given = calls.BY_CLI, {**given, "kind": kind}
    with calls.entered(cluster):
        done = module.run(kind, given, diff=True, python=str(python), environment=calls.environment())
    assert said(done) == "changed", done.result
    return record.read_text() + json.dumps(done.result) + done.stderr


def holding(key: str) -> list[str]:
    """Files where a run may leave something."""
    folders = ["/tmp", "/var/tmp", "/run", "/var/lib/bulkhead", "/root/.ansible", "/etc"]
    argv = ["grep", "-rlIF", "--exclude-dir=mon.a", "--", key, *(each for each in folders if os.path.exists(each))]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("how", calls.WAYS)
def test_a_key_is_in_its_file_and_nowhere_else(cluster: ceph.Cluster, tmp_path: Path, how: str) -> None:
    path, way = tmp_path / "keyring", calls.access(cluster)
    told = ""
    for options in (
        {"caps": CAPS},
        {"caps": {"mon": "allow r"}},
        {"state": "absent"},
    ):
        told += traced(cluster, tmp_path, how, {"name": "blue", "keyring_path": str(path), **options, **way})
        if path.exists():
            key = users(cluster)["client.blue"][1]
            assert holding(key) == [str(path)]
    own = (cluster.folder / "client.bulkhead.keyring").read_text().split("key = ")[1].split()[0]
    assert len(key) == len(own) == 40 and "auth" in told
    assert key not in told and own not in told
    assert holding(key) == []
    (tmp_path / "canary").write_text("[x]\n key = %s\n" % key)
    assert holding(key) == [str(tmp_path / "canary")], "a planted one is found"
    argv = ["strace", "-f", "-s", "65535", "-e", "trace=execve", "-o", str(tmp_path / "record"), "true", "--key=" + key]
    subprocess.run(argv, check=True)
    assert key in (tmp_path / "record").read_text(), "and one that is executed"


def test_a_playbook_says_no_key(cluster: ceph.Cluster, tmp_path: Path) -> None:
    """As Ansible itself runs it, with all that it can say."""
    path, way = tmp_path / "keyring", calls.access(cluster)
    arguments = json.dumps({"name": "blue", "caps": CAPS, "keyring_path": str(path), **way})
    done = calls.ansible_says(
        cluster, tmp_path, ["-m", "bulkhead.storage.ceph_user", "-a", arguments, "-vvvv", "--diff"]
    )
    assert path.exists() and "CHANGED" in done, done
    assert users(cluster)["client.blue"][1] not in done
