# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools on an NFS server and their volumes; the server runs in this guest too. df(1), dd(1) and findmnt(8) judge."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool, volume
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh

MIB = 1 << 20
SHARE, HOME, STATE = "/srv/share", "/var/lib/bulkhead/pools/far", "/var/lib/bulkhead"
EXPORTS = "/srv/share/%s 127.0.0.1(rw,insecure,no_subtree_check,no_root_squash)\n"
POOL: dict[str, Any] = {"name": "far", "backend": "nfs", "config": {"server": "127.0.0.1", "export": SHARE + "/out"}}
VOLUME: dict[str, Any] = {"name": "a", "pool": "far", "size": "16MiB", "owner": "20001"}


def converge(check: bool = False, **lists: Any) -> dict[str, Any]:
    return quotas.converge([], check, **lists)


def codes(done: dict[str, Any]) -> list[str]:
    return [error["code"] for error in [*done["refused"], *done["errors"]]]


def good(done: dict[str, Any]) -> dict[str, Any]:
    assert codes(done) == [], done
    return done


def limited(path: str, size: str) -> None:
    """As the server's own play would: a directory with a project quota."""
    os.makedirs(path, exist_ok=True)
    quota = {"path": SHARE, "paths": [path], "hard": size, "name": path.replace("/", "-").strip("-")}
    good(quotas.converge([quota]))


def df(path: str) -> int:
    return int(sh(["df", "-B1", "--output=size", path]).split()[1])


def source(path: str) -> str:
    return sh(["findmnt", "-n", "-o", "SOURCE", "--mountpoint", path], check=False).strip()


def written(path: str) -> int:
    """Bytes that dd(1) gets onto it before it is full."""
    done = subprocess.run(
        ["dd", "if=/dev/zero", "of=" + path, "bs=1M", "count=40", "conv=fsync"], check=False, capture_output=True
    )
    assert done.returncode and (b"No space" in done.stderr or b"quota exceeded" in done.stderr), done.stderr
    return os.stat(path).st_blocks * 512


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    os.makedirs(SHARE)
    sh(["truncate", "-s", "400M", "/srv/share.img"])
    sh(["mkfs.xfs", "-q", "/srv/share.img"])
    sh(["mount", "-o", "loop,prjquota", "/srv/share.img", SHARE])
    os.mkdir(SHARE + "/out")
    os.mkdir(SHARE + "/small")
    Path("/etc/exports").write_text("".join(EXPORTS % name for name in ("out", "small")))
    os.makedirs("/etc/nfs.conf.d", exist_ok=True)
    Path("/etc/nfs.conf.d/lab.conf").write_text("[nfsd]\ngrace-time=10\nlease-time=10\n")
    sh(["systemctl", "restart", "nfs-server"])
    limited(SHARE + "/small", "64MiB")
    yield
    sh(["systemctl", "stop", "nfs-server"])
    Path("/etc/exports").write_text("")
    sh(["umount", SHARE])


@pytest.fixture(autouse=True)
def clean(server: None) -> Iterator[None]:
    fstab = Path("/etc/fstab").read_bytes()
    limited(SHARE + "/out/default/a", "16MiB")
    yield
    for place in sorted(sh(["findmnt", "-rn", "-t", "nfs4", "-o", "TARGET"], check=False).split(), reverse=True):
        sh(["umount", place])
    Path("/etc/fstab").write_bytes(fstab)
    shutil.rmtree(STATE)
    for name in os.listdir(SHARE + "/out/default"):
        shutil.rmtree(SHARE + "/out/default/" + name)


def shown(kind: Any, name: str) -> dict[str, Any]:
    ports = _kinds.ports(["pools", "volumes"])
    filters = {**dict.fromkeys(kind.FILTERS), "name": name}
    found = kind.gather(filters, ports)[kind.LIST]
    return dict(found[0]) if found else {}


def test_a_volume_is_held_to_its_size_by_the_server() -> None:
    wanted = {"pools": [POOL], "volumes": [{**VOLUME, "state": "attached", "target": "/mnt/a"}]}
    foreseen = converge(True, **wanted)
    assert codes(foreseen) == [] and not source(HOME) and not os.path.exists("/mnt/a"), foreseen
    done = good(converge(**wanted))
    assert done["digest"] == foreseen["digest"]
    assert source(HOME) == "127.0.0.1:/srv/share/out" and source("/mnt/a").startswith("127.0.0.1:/srv/share/out")
    assert df("/mnt/a") == 16 * MIB and os.stat(SHARE + "/out/default/a").st_uid == 20001
    assert {"nosuid", "nodev"} <= set(sh(["findmnt", "-no", "OPTIONS", "/mnt/a"]).strip().split(","))
    assert good(converge(**wanted))["actions"] == []
    assert good(converge(volumes=wanted["volumes"]))["actions"] == [], "without its pool beside it"
    assert 14 * MIB < written("/mnt/a/file") <= 16 * MIB
    told = shown(volume, "a")
    assert (told["status"], told["enforced_by"], told["size_bytes"]) == ("in_use", "project_quota", 16 * MIB), told
    assert 14 * MIB < told["usage"]["bytes"] <= 16 * MIB
    told = shown(pool, "far")
    assert (told["phase"], told["volumes"], told["provisioned_bytes"]) == ("ready", 1, 16 * MIB), told
    assert told["capacity_bytes"] == df(HOME) > 300 * MIB
    kept = os.open(HOME + "/default/a/file", os.O_RDONLY)
    assert codes(converge(volumes=[{**VOLUME, "state": "absent", "force": True}])) == ["in_use"]
    os.close(kept)
    gone = converge(volumes=[{**VOLUME, "state": "absent", "force": True}])
    assert good(gone) and not os.path.exists(SHARE + "/out/default/a") and not source("/mnt/a")
    good(converge(pools=[{**POOL, "state": "absent", "confirm": "far"}]))
    assert not source(HOME) and HOME not in Path("/etc/fstab").read_text() and os.path.isdir(SHARE + "/out")


@pytest.mark.parametrize("entry", [{"size": "17MiB"}, {"size": "8MiB"}, {"name": "b"}], ids=str)
def test_what_no_limit_holds_is_no_volume(entry: dict[str, Any]) -> None:
    """Where its pool is to be mounted that is seen after the mount, and before anything is made in it."""
    before = sorted(os.listdir(SHARE + "/out/default"))
    for pools in [POOL], [POOL], []:
        done = converge(pools=pools, volumes=[{**VOLUME, **entry}])
        assert codes(done) == ["not_enforced"], done
        assert sorted(os.listdir(SHARE + "/out/default")) == before and not shown(volume, entry.get("name", "a"))
        good(converge(pools=[POOL]))


def test_a_limit_follows_the_server() -> None:
    good(converge(pools=[POOL], volumes=[VOLUME]))
    larger = {**VOLUME, "size": "32MiB"}
    assert codes(converge(volumes=[larger])) == ["not_enforced"]
    limited(SHARE + "/out/default/a", "32MiB")
    assert codes(converge(volumes=[VOLUME])) == ["not_enforced"], "it may hold more than is declared now"
    assert [each["port"] for each in good(converge(volumes=[larger]))["actions"]] == ["record"]
    assert shown(volume, "a")["size_bytes"] == 32 * MIB == df(HOME + "/default/a")
    assert good(converge(volumes=[larger]))["actions"] == []


def test_the_limit_of_an_export_is_for_one_volume() -> None:
    small = {**POOL, "config": {**POOL["config"], "export": SHARE + "/small"}}
    one, two = {**VOLUME, "size": "64MiB"}, {**VOLUME, "size": "64MiB", "name": "b"}
    assert "not_enforced" in codes(converge(pools=[small], volumes=[one, two]))
    good(converge(pools=[small], volumes=[one]))
    assert df(HOME + "/default/a") == 64 * MIB and os.path.isdir(SHARE + "/small/default/a")
    assert codes(converge(volumes=[two])) == ["not_enforced"]
    assert good(converge(volumes=[one]))["actions"] == []
    good(converge(volumes=[{**one, "state": "absent"}]))


def test_a_clone_is_a_copy_with_a_limit_of_its_own() -> None:
    good(converge(pools=[POOL], volumes=[VOLUME]))
    source = SHARE + "/out/default/a"
    os.mkdir(source + "/folder")
    for name in ("one", "folder/two"):
        Path(source, name).write_bytes(os.urandom(100000))
        os.chown(os.path.join(source, name), 7, 8)
    os.symlink("/etc", source + "/link")
    clone = {**VOLUME, "name": "b", "size": "24MiB", "source": {"type": "clone", "name": "a"}}
    limited(SHARE + "/out/default/b", "24MiB")
    Path(SHARE + "/out/default/b/theirs").touch()
    assert codes(converge(volumes=[clone])) == ["not_blank"] and not shown(volume, "b")
    os.unlink(SHARE + "/out/default/b/theirs")
    foreseen = converge(True, volumes=[clone])
    done = good(converge(volumes=[clone]))
    assert done["digest"] == foreseen["digest"] and os.listdir(SHARE + "/out/default") == ["a", "b"]
    find = ["find", ".", "-mindepth", "1", "-printf", "%P %y %m %U:%G %s %l %T@\\n"]
    trees = ["cd %s/out/default/%s && %s | sort" % (SHARE, name, " ".join(map(repr, find))) for name in "ab"]
    assert sh(["sh", "-c", trees[0]]) == sh(["sh", "-c", trees[1]])
    sh(["diff", "-r", "--no-dereference", source, HOME + "/default/b"])
    assert df(HOME + "/default/b") == 24 * MIB and os.stat(HOME + "/default/b").st_uid == 20001
    os.unlink(HOME + "/default/b/one")
    assert good(converge(volumes=[clone]))["actions"] == []
    good(converge(volumes=[{**clone, "state": "absent"}]))
    assert os.listdir(SHARE + "/out/default") == ["a"]


def test_a_clone_that_fails_is_no_consent_for_another_volume_of_its_name() -> None:
    good(converge(pools=[POOL], volumes=[VOLUME]))
    Path(SHARE + "/out/default/a/kept").write_text("kept")
    os.mknod(SHARE + "/out/default/a/zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    limited(SHARE + "/out/default/b", "24MiB")
    plain = {**VOLUME, "name": "b", "size": "24MiB"}
    failed = converge(volumes=[{**plain, "source": {"type": "clone", "name": "a"}}])
    assert failed["errors"] and not shown(volume, "b"), failed
    assert os.listdir(SHARE + "/out/default/b") == []
    os.unlink(SHARE + "/out/default/a/zero")
    good(converge(volumes=[plain]))
    assert good(converge(volumes=[plain]))["actions"] == [] and os.listdir(HOME + "/default/b") == []


def test_a_pool_that_is_not_mounted_has_no_volumes() -> None:
    wanted = {"pools": [POOL], "volumes": [VOLUME]}
    good(converge(**wanted))
    Path(SHARE + "/out/default/a/kept").write_text("kept")
    sh(["umount", HOME])
    for state in ("present", "attached", "absent"):
        assert codes(converge(volumes=[{**VOLUME, "state": state}])) == ["not_found"], state
    assert os.listdir(HOME) == [] and shown(volume, "a")["status"] == "error"
    assert good(converge(**wanted))["actions"][0]["port"] == "mount" and source(HOME)
    assert good(converge(**wanted))["actions"] == []
    assert Path(HOME + "/default/a/kept").read_text() == "kept"


def test_a_server_that_is_gone() -> None:
    """Mounted by an nfs_mount beside it: timeo, in tenths of a second, has it notice sooner that the server is back."""
    mount = {"path": HOME, **POOL["config"], "options": ["timeo=20"], "persist": "none"}
    wanted: dict[str, Any] = {"nfs_mounts": [mount], "pools": [POOL]}
    wanted["volumes"] = [{**VOLUME, "state": "attached", "target": "/mnt/a"}]
    good(converge(**wanted))
    Path("/mnt/a/kept").write_text("kept")
    sh(["systemctl", "stop", "nfs-server"])
    try:
        for entry in wanted["volumes"][0], {**VOLUME, "state": "absent", "force": True}:
            start = time.monotonic()
            assert set(codes(converge(volumes=[entry]))) == {"unreachable"}
            assert time.monotonic() - start < foreign.PATIENCE + 15
        assert shown(pool, "far")["phase"] == "error"
    finally:
        sh(["systemctl", "start", "nfs-server"])
        foreign.answered.clear()  # as another process
    assert good(converge(**wanted))["actions"] == []
    assert Path("/mnt/a/kept").read_text() == "kept"


def test_an_export_that_squashes_root_gives_nothing_away() -> None:
    """Nobody's files are changed or taken where the server does not let root do it."""
    Path("/etc/exports").write_text((EXPORTS % "out").replace("no_root_squash", "root_squash"))
    sh(["exportfs", "-ra"])
    try:
        done = converge(pools=[POOL], volumes=[VOLUME])
        assert codes(done) == ["denied"], done
        assert os.stat(SHARE + "/out/default/a").st_uid == 0
    finally:
        Path("/etc/exports").write_text("".join(EXPORTS % name for name in ("out", "small")))
        sh(["exportfs", "-ra"])
