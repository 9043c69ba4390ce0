# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes from birth to death on the real kernel, seen through other programs; every test leaves the host as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module, namespace, reconciling

MIB = 1 << 20
ROW = "SELECT value FROM rows WHERE kind = 'volume' AND key = '%s'"


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        before = world()
        yield
        assert world() == before, "it leaves nothing behind"


def world() -> dict[str, Any]:
    """Everything that stands, but for the books of the collection and the folder of its default pool."""
    seen = reconciling.snapshot()
    books = ["/var/lib/bulkhead/" + name for name in ("journal", "catalogue.sqlite", "catalogue.reserve", "volumes")]
    return {**seen, "tree": {path: row for path, row in seen["tree"].items() if path not in books}}


def made(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer of a run in which nothing fails, and after which nothing is left to do."""
    answer = reconciling.run(document, **more)
    assert answer.get("errors") == [], answer
    assert answer["summary"]["applied"] == answer["summary"]["planned"] or "UNKNOWN" in str(answer["actions"])
    quiet = reconciling.run(document)
    assert quiet.get("actions") == [], quiet
    return answer


def refused(document: dict[str, Any]) -> str:
    """The code of the refusal of a run that changes nothing."""
    before = world()
    answer = reconciling.run(document)
    assert "refused" in answer, answer
    assert world() == before
    return str(answer["refused"][0]["code"])


def failed(document: dict[str, Any]) -> dict[str, Any]:
    """The error of a run that takes everything back."""
    before = world()
    answer = reconciling.run(document)
    assert len(answer.get("errors", ())) == 1, answer
    assert world() == before
    error: dict[str, Any] = answer["errors"][0]
    return error


def said(*argv: str, rc: int = 0) -> str:
    """What a program says; ``rc`` is what it must end with."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == rc, (argv, done)
    return done.stdout.decode().strip()


def sums(path: str) -> str:
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def fill(path: str, count: int = MIB) -> str:
    with open(path, "wb") as f:
        f.write(os.urandom(count))
        f.flush()
        os.fsync(f.fileno())
    return sums(path)


def poured(path: str, mib: int) -> str:
    """What dd(1) says when it writes more than there is room for."""
    return said("dd", "if=/dev/zero", "of=" + path, "bs=1M", "count=%d" % mib, "conv=fsync", rc=1)


def room(path: str) -> int:
    return int(said("df", "-B1", "--output=size", path).split()[-1])


def row(key: str) -> Any:
    text = said("sqlite3", "/var/lib/bulkhead/catalogue.sqlite", ROW % key)
    return json.loads(text) if text else None


def may_resize_ext4() -> bool:
    """EXT4_IOC_RESIZE_FS takes CAP_SYS_RESOURCE (24), which a guest may lack even as root."""
    with open("/proc/self/status", encoding="ascii") as f:
        mask = next(int(line.split()[1], 16) for line in f if line.startswith("CapEff"))
    return bool(mask >> 24 & 1)


class Writer(threading.Thread):
    """Writes and reads back while a volume changes its size."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path, self.going, self.rounds, self.wrong = folder + "/writer", True, 0, 0

    def run(self) -> None:
        while self.going or not self.rounds:
            expected = fill(self.path, 65536)
            self.wrong += sums(self.path) != expected
            self.rounds += 1

    def __enter__(self) -> Writer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.going = False
        self.join()


LOOP = {"pools": [{"name": "fast", "backend": "loop", "config": {"path": "/srv/fast"}}]}
BTRFS = {"pools": [{"name": "fast", "backend": "btrfs", "config": {"path": "/srv/fast"}}]}


def volumes(pool: dict[str, Any], *entries: dict[str, Any]) -> dict[str, Any]:
    return {**pool, "volumes": [{"pool": "fast", **entry} for entry in entries]}


def removed(*names: str, pool: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"state": "absent", "volumes": []}
    for name in names:
        namespace_, _slash, last = name.rpartition("/")
        found["volumes"].append({"name": last, "namespace": namespace_ or "default"})
    return {**found, "pools": [{"name": "fast", "confirm": "fast"}]} if pool else found


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fstype,size", [("ext4", 32), ("xfs", 320), ("btrfs", 256)])
def test_an_image_from_birth_to_death(host: None, fstype: str, size: int) -> None:
    volume = {"name": "a", "size": "%dMiB" % size, "fstype": fstype, "owner": "1000", "group": "1001", "mode": "2770"}
    attached = {**volume, "state": "attached", "target": "/mnt/a"}
    image = "/srv/fast/default/a.img"
    made(volumes(LOOP, attached))
    assert said("findmnt", "-nro", "FSTYPE", "/mnt/a") == fstype
    assert {"rw", "nosuid", "nodev"} <= set(said("findmnt", "-nro", "OPTIONS", "/mnt/a").split(","))
    assert said("stat", "-c", "%a %u %g", "/mnt/a") == "2770 1000 1001"
    assert said("stat", "-c", "%a %u %s", image) == "600 0 %d" % (size * MIB)
    device = said("findmnt", "-nro", "SOURCE", "/srv/fast/default/a")
    assert said("losetup", "-nO", "BACK-FILE", device) == image
    assert row("default/a")["attachments"] == {"host": {"target": "/mnt/a", "read_only": False}}
    data = fill("/mnt/a/data")

    # It grows beneath a writer; or, where this kernel may not do that, only its image has, and stays so.
    larger = {**attached, "size": "%dMiB" % (size + 64)}
    was = room("/mnt/a")
    with Writer("/mnt/a") as writer:
        if fstype == "ext4" and not may_resize_ext4():
            answer = reconciling.run(volumes(LOOP, larger))
            assert [e["code"] for e in answer["errors"]] == ["failed"], answer
            assert any(image in words for words in answer["errors"][0]["details"]["kept"]), answer
            assert room("/mnt/a") == was
        else:
            made(volumes(LOOP, larger))
            assert room("/mnt/a") > was + 40 * MIB
    size += 64
    assert os.path.getsize(image) == row("default/a")["size"] == size * MIB
    assert writer.rounds and not writer.wrong and sums("/mnt/a/data") == data
    os.unlink("/mnt/a/writer")
    attached, volume = ({**each, "size": "%dMiB" % size} for each in (attached, volume))

    assert "No space left on device" in poured("/mnt/a/zero", size + 8)
    assert sums("/mnt/a/data") == data
    os.unlink("/mnt/a/zero")

    made(volumes({}, {"name": "a", "state": "detached"}))
    assert not os.path.exists("/mnt/a") and os.listdir("/srv/fast/default") == ["a.img"]
    assert namespace.loop_devices("/srv/fast") == []
    assert row("default/a")["attachments"] == {} and row("default/a")["size"] == size * MIB
    made(volumes({}, {"name": "a", "state": "attached", "target": "/mnt/other/place", "read_only": True}))
    assert sums("/mnt/other/place/data") == data
    assert "Read-only file system" in said("touch", "/mnt/other/place/x", rc=1)
    made(volumes({}, {"name": "a", "state": "detached"}))
    made(removed("a"))
    assert row("default/a") is None and not os.path.exists("/srv/fast")


def test_a_growth_that_fails_at_its_end_cuts_nothing(host: None, tmp_path: Any) -> None:
    """As when a deadline expires or the answer gets lost: the filesystem has grown, whatever we heard of it."""
    image, program = "/srv/fast/default/a.img", os.path.realpath(shutil.which("resize2fs") or "")
    made(volumes(LOOP, {"name": "a", "size": "16MiB"}))
    shutil.copy(program, "/mnt/real")
    late = tmp_path / "late"
    late.write_text('#!/bin/sh\n/mnt/real "$@" || exit\ncase " $* " in *" -P "*) exit 0;; esac\nexit 1\n')
    late.chmod(0o755)
    said("mount", "--bind", str(late), program)
    answer = reconciling.run(volumes(LOOP, {"name": "a", "size": "48MiB"}))
    said("umount", program)
    os.unlink("/mnt/real")
    assert [e["code"] for e in answer["errors"]] == ["failed"], answer
    assert "Block count:              49152" in said("dumpe2fs", "-h", image)
    said("e2fsck", "-fn", image)
    assert os.path.getsize(image) == row("default/a")["size"] == 48 * MIB
    made(volumes(LOOP, {"name": "a", "size": "48MiB"}))
    made(removed("a"))


def test_a_detached_ext4_grows_and_shrinks(host: None) -> None:
    image = "/srv/fast/default/a.img"

    def blocks() -> int:
        text = said("dumpe2fs", "-h", image)
        return int(text.split("Block count:")[1].split()[0]) * int(text.split("Block size:")[1].split()[0])

    made(volumes(LOOP, {"name": "a", "size": "16MiB", "state": "attached"}))
    data = fill("/srv/fast/default/a/data", 4 * MIB)
    made(volumes(LOOP, {"name": "a", "state": "detached"}))
    assert blocks() == 16 * MIB
    made(volumes(LOOP, {"name": "a", "size": "64MiB"}))
    assert blocks() == 64 * MIB == os.path.getsize(image)
    assert refused(volumes(LOOP, {"name": "a", "size": "32MiB"})) == "would_shrink"
    assert failed(volumes(LOOP, {"name": "a", "size": "2MiB", "allow_shrink": True}))["code"] == "would_shrink"
    assert blocks() == 64 * MIB
    made(volumes(LOOP, {"name": "a", "size": "32MiB", "allow_shrink": True}))
    assert blocks() == 32 * MIB == os.path.getsize(image) == row("default/a")["size"]
    said("e2fsck", "-fn", image)
    made(volumes(LOOP, {"name": "a", "size": "32MiB", "state": "attached"}))
    assert sums("/srv/fast/default/a/data") == data
    assert refused(volumes(LOOP, {"name": "a", "size": "24MiB", "allow_shrink": True, "state": "attached"})) == "in_use"
    made(volumes(LOOP, {"name": "a", "state": "detached"}))
    made(removed("a"))


@pytest.mark.parametrize("fstype,size", [("xfs", 320), ("btrfs", 128)])
def test_what_grows_only_while_mounted_says_so_beforehand(host: None, fstype: str, size: int) -> None:
    volume = {"name": "a", "size": "%dMiB" % size, "fstype": fstype}
    made(volumes(LOOP, volume))
    assert refused(volumes(LOOP, {**volume, "size": "%dMiB" % (size + 64)})) == "unsupported"
    if fstype == "btrfs":
        made(volumes(LOOP, {**volume, "state": "attached"}))
        assert refused(volumes(LOOP, {**volume, "size": "%dMiB" % (size + 64), "state": "attached"})) == "unsupported"
        made(volumes(LOOP, {**volume, "size": "512MiB", "state": "attached"}))
        made(volumes(LOOP, {"name": "a", "state": "detached"}))
    made(removed("a"))


def test_a_clone_of_an_image_is_a_volume_of_its_own(host: None) -> None:
    made(volumes(LOOP, {"name": "a", "size": "16MiB", "state": "attached", "target": "/mnt/a"}))
    data = fill("/mnt/a/data")
    clone = {"name": "b", "namespace": "blue", "size": "48MiB", "source": {"type": "clone", "name": "a"}}
    clone["source"]["namespace"] = "default"
    assert refused(volumes(LOOP, clone)) == "in_use", "its bytes change"
    made(volumes(LOOP, {"name": "a", "state": "detached"}))
    assert refused(volumes(LOOP, {**clone, "size": "8MiB"})) == "would_shrink"
    made(volumes(LOOP, clone))
    assert os.path.getsize("/srv/fast/blue/b.img") == 48 * MIB
    assert "Block count:              49152" in said("dumpe2fs", "-h", "/srv/fast/blue/b.img")
    both = [{"name": "a", "target": "/mnt/a"}, {"name": "b", "namespace": "blue", "target": "/mnt/b"}]
    made(volumes({}, *({**each, "state": "attached"} for each in both)))
    assert sums("/mnt/a/data") == sums("/mnt/b/data") == data
    assert room("/mnt/b") > room("/mnt/a") + 20 * MIB
    other = fill("/mnt/b/data")
    assert sums("/mnt/a/data") == data and sums("/mnt/b/data") == other
    made(volumes({}, *({"name": v["name"], "namespace": v.get("namespace"), "state": "detached"} for v in both)))
    made(removed("a", pool=False))
    made(volumes({}, {**both[1], "state": "attached"}))
    assert sums("/mnt/b/data") == other
    made(volumes({}, {"name": "b", "namespace": "blue", "state": "detached"}))
    made(removed("blue/b"))


def test_a_thick_image_has_its_blocks(host: None) -> None:
    made(volumes(LOOP, {"name": "a", "size": "8MiB", "provisioning": "thick"}, {"name": "b", "size": "8MiB"}))
    assert int(said("stat", "-c", "%b", "/srv/fast/default/a.img")) * 512 == 8 * MIB
    assert int(said("stat", "-c", "%b", "/srv/fast/default/b.img")) * 512 < 4 * MIB
    made(removed("a", "b"))


# -- subvolumes ----------------------------------------------------------------------------------------------------


def limits() -> dict[str, str]:
    """Of each quota group of /srv: its limit."""
    rows = [line.split() for line in said("btrfs", "qgroup", "show", "-re", "--raw", "/srv").splitlines()]
    return {each[0]: each[3] for each in rows if len(each) > 4 and each[0][0] == "1"}


def number(path: str) -> str:
    return next(line.split()[-1] for line in said("btrfs", "subvolume", "show", path).splitlines() if "ume ID" in line)


def test_a_subvolume_from_birth_to_death(host: None) -> None:
    volume = {"name": "a", "size": "16MiB", "owner": "1000", "mode": "0700"}
    attached = {**volume, "state": "attached", "target": "/mnt/a"}
    path = "/srv/fast/default/a"
    made(volumes(BTRFS, volume))
    mine = "1/" + number(path)
    assert limits()[mine] == str(16 * MIB)
    assert said("stat", "-c", "%a %u %g", path) == "700 1000 0"
    made(volumes(BTRFS, attached))
    assert {"rw", "nosuid", "nodev"} <= set(said("findmnt", "-nro", "OPTIONS", "/mnt/a").split(","))
    data = fill("/mnt/a/data", 4 * MIB)
    assert "Disk quota exceeded" in poured("/mnt/a/zero", 20)
    os.unlink("/mnt/a/zero")
    with Writer("/mnt/a") as writer:
        made(volumes(BTRFS, {**attached, "size": "48MiB"}))
    assert not writer.wrong and limits()[mine] == str(48 * MIB) and sums("/mnt/a/data") == data
    said("dd", "if=/dev/zero", "of=/mnt/a/more", "bs=1M", "count=20", "conv=fsync")
    assert refused(volumes(BTRFS, {**attached, "size": "16MiB"})) == "would_shrink"
    os.unlink("/mnt/a/more")
    os.sync()
    made(volumes(BTRFS, {**attached, "size": "32MiB", "allow_shrink": True}))
    assert limits()[mine] == str(32 * MIB)
    assert refused(removed("a")) == "in_use"
    made(volumes({}, {"name": "a", "state": "detached", "target": "/mnt/a"}))
    assert not os.path.exists("/mnt/a") and sums(path + "/data") == data
    made(removed("a"))
    assert mine not in limits()


def test_a_clone_of_a_subvolume_is_a_snapshot(host: None) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "16MiB", "state": "attached", "target": "/mnt/a"}))
    data = fill("/mnt/a/data", 2 * MIB)
    clone = {"name": "b", "size": "24MiB", "source": {"type": "clone", "name": "a"}, "owner": "7"}
    made(volumes(BTRFS, clone))
    shown = said("btrfs", "subvolume", "show", "/srv/fast/default/b")
    uuid = said("btrfs", "subvolume", "show", "/srv/fast/default/a").split("UUID:")[1].split()[0]
    assert "Parent UUID: \t\t%s" % uuid in shown
    assert limits()["1/" + number("/srv/fast/default/b")] == str(24 * MIB)
    assert said("stat", "-c", "%u", "/srv/fast/default/b") == "7"
    assert sums("/srv/fast/default/b/data") == data
    other = fill("/srv/fast/default/b/data")
    assert sums("/mnt/a/data") == data
    made(volumes({}, {"name": "a", "state": "detached"}))
    made(removed("a", pool=False))
    assert sums("/srv/fast/default/b/data") == other
    assert "Disk quota exceeded" in poured("/srv/fast/default/b/zero", 32)
    made(removed("b"))


def test_many_limits_turn_accounting_on_once(host: None) -> None:
    """In check mode too, and whether what is limited is there already or not."""
    switch = {"port": "quota_enabled", "target": "/srv"}
    document = volumes(BTRFS, *({"name": name, "size": "16MiB"} for name in "abc"))
    document["quotas"] = [{"path": "/srv/projects/blue", "hard": "64MiB"}]
    checked = reconciling.run(document, check=True)
    done = made(document)
    assert checked["digest"] == done["digest"]
    found = [{k: row[k] for k in switch} for row in done["actions"] if row["port"] == "quota_enabled"]
    assert found == [switch]
    assert {limits()["1/" + number("/srv/fast/default/" + name)] for name in "abc"} == {str(16 * MIB)}
    gone = removed("a", "b", "c")
    made({**gone, "quotas": [{"path": "/srv/projects/blue"}]})


def test_what_its_owner_nests_in_a_volume_is_cloned_with_it_and_goes_with_it(host: None) -> None:
    """Check mode promises the removal, so the owner must not be able to make it impossible."""
    made(volumes(BTRFS, {"name": "a", "size": "16MiB", "owner": "1000", "state": "attached", "target": "/mnt/a"}))
    tenant = ["setpriv", "--reuid", "1000", "--clear-groups"]
    for path in ("/mnt/a/in", "/mnt/a/in/deep"):
        said(*tenant, "btrfs", "subvolume", "create", path)
        said(*tenant, "sh", "-c", "echo kept > %s/f" % path)
    said(*tenant, "btrfs", "property", "set", "/mnt/a/in", "ro", "true")
    made(volumes(BTRFS, {"name": "b", "size": "16MiB", "source": {"type": "clone", "name": "a"}}))
    for path in ("in/f", "in/deep/f"):
        assert said("cat", "/srv/fast/default/b/" + path) == "kept"
    assert "Disk quota exceeded" in poured("/srv/fast/default/b/in/deep/zero", 20)
    made(volumes({}, {"name": "a", "state": "detached"}))
    gone = removed("a", "b")
    assert reconciling.run(gone, check=True)["errors"] == []
    made(gone)
    assert "/fast" not in said("btrfs", "subvolume", "list", "/srv")


def test_a_clone_across_namespaces_shares_no_blocks(host: None) -> None:
    """Simple quota charges a block to who wrote it first: a shared one would be free for the other namespace."""
    made(volumes(BTRFS, {"name": "a", "size": "32MiB"}))
    data = fill("/srv/fast/default/a/data", 8 * MIB)
    source = {"type": "clone", "name": "a", "namespace": "default"}
    made(volumes(BTRFS, {"name": "a", "namespace": "blue", "size": "32MiB", "source": source}))
    path = "/srv/fast/blue/a"
    assert "Parent UUID: \t\t-" in said("btrfs", "subvolume", "show", path) and sums(path + "/data") == data
    os.sync()
    rows = [line.split() for line in said("btrfs", "qgroup", "show", "--raw", "/srv").splitlines()]
    charged = {each[0]: int(each[1]) for each in rows if each and each[0].startswith("1/")}
    assert charged["1/" + number(path)] >= 8 * MIB
    made(removed("a", "blue/a"))


def test_a_source_and_its_clone_in_one_call(host: None) -> None:
    """The clone is named first, and can only be made second."""
    clone = {"name": "b", "size": "16MiB", "source": {"type": "clone", "name": "z"}}
    made(volumes(BTRFS, clone, {"name": "z", "size": "16MiB"}))
    assert "Parent UUID: \t\t-" not in said("btrfs", "subvolume", "show", "/srv/fast/default/b")
    made(removed("b", "z"))


# -- memory --------------------------------------------------------------------------------------------------------


def test_memory_of_jobs_is_theirs_alone(host: None) -> None:
    volume = {"name": "m", "type": "memory", "size": "1MiB", "state": "attached", "mode": "0700", "owner": "1000"}
    os.mkdir("/srv/one")
    one, two = ({**volume, "job": job, "target": "/srv/" + job} for job in ("one", "a-second"))
    made({"volumes": [one]})
    assert said("findmnt", "-nro", "FSTYPE", "/srv/one") == "tmpfs" and room("/srv/one") == MIB
    assert said("df", "--output=itotal", "/srv/one").split()[-1] == "64"
    data = fill("/srv/one/data", 4096)
    made({"volumes": [two]})
    assert said("stat", "-c", "%a %u", "/srv/one") == said("stat", "-c", "%a %u", "/srv/a-second") == "700 1000"
    assert os.listdir("/srv/a-second") == [] and sums("/srv/one/data") == data
    assert "No space left on device" in poured("/srv/one/zero", 2)
    for count in range(100):
        try:
            open("/srv/a-second/%d" % count, "w").close()
        except OSError:
            break
    assert 60 <= count < 64, "the inodes are bounded too"
    made({"volumes": [{**volume, "size": "2MiB", "job": "one", "target": "/srv/one"}]})
    assert room("/srv/one") == 2 * MIB == room("/srv/a-second") and sums("/srv/one/data") == data
    made({"volumes": [{"name": "m", "state": "detached", "job": "one"}]})
    assert os.listdir("/srv/one") == [] and os.path.ismount("/srv/a-second"), "its content is gone with it"
    assert refused({"volumes": [{"name": "m", "state": "absent"}]}) == "in_use"
    made({"volumes": [{"name": "m", "state": "absent", "force": True}]})
    os.rmdir("/srv/one")


def test_memory_of_the_host_is_one_for_all(host: None) -> None:
    os.mkdir("/srv/one")
    volume = {"name": "m", "type": "memory", "size": "1MiB", "state": "attached", "scope": "host"}
    made({"volumes": [{**volume, "job": "one", "target": "/srv/one"}]})
    made({"volumes": [{**volume, "job": "two", "target": "/srv/two", "read_only": True}]})
    data = fill("/srv/one/data", 4096)
    assert sums("/srv/two/data") == data
    assert "Read-only file system" in said("touch", "/srv/two/x", rc=1)
    made({"volumes": [{"name": "m", "state": "detached", "job": "one"}]})
    assert sums("/srv/two/data") == data and os.listdir("/srv/one") == []
    made({"volumes": [{"name": "m", "state": "detached"}]})
    assert not os.path.exists("/srv/two")
    made({"volumes": [{**volume, "job": "one", "target": "/srv/one"}]})
    assert os.listdir("/srv/one") == []
    made({"volumes": [{"name": "m", "state": "absent", "force": True}]})
    os.rmdir("/srv/one")


@pytest.mark.parametrize("pool", [LOOP, BTRFS, None], ids=["loop", "btrfs", "memory"])
def test_what_is_attached_and_not_mounted_is_in_error(host: None, pool: Any) -> None:
    """As after a boot: mounts are gone, and whoever has the volume would write into the bare directory."""
    volume = {"name": "a", "size": "8MiB", "state": "attached", "job": "j1", "target": "/mnt/a"}
    document = volumes(pool, volume) if pool else {"volumes": [{**volume, "type": "memory"}]}

    def shown() -> str:
        return str(module.run("volume_info", {"name": "a"}).result["volumes"][0]["status"])

    made(document)
    assert shown() == "in_use"
    said("umount", "/mnt/a")
    assert shown() == "error"
    if pool is LOOP:
        said("umount", "/srv/fast/default/a")
    made(document)
    assert shown() == "in_use"
    if pool is LOOP:
        said("umount", "/mnt/a", "/srv/fast/default/a")
        said("mount", "--bind", "/srv/images", "/mnt/a")
        assert shown() == "error", "its own mount is missing"
        said("umount", "/mnt/a")
    made({"volumes": [{"name": "a", "state": "detached"}]})
    assert shown() == "ready"
    made(removed("a") if pool else {"volumes": [{"name": "a", "state": "absent"}]})


def test_what_lies_where_nobody_named_a_path_is_not_hidden(host: None) -> None:
    """As after a boot, when somebody wrote into the bare directory of an image that was not mounted."""
    attached = volumes(LOOP, {"name": "a", "size": "8MiB", "state": "attached", "target": "/mnt/a"})
    made(attached)
    said("umount", "/mnt/a", "/srv/fast/default/a")
    before = fill("/srv/fast/default/a/written", 4096)
    for check in (True, False):
        (error,) = reconciling.run(attached, check=check)["refused"]
        assert (error["code"], error["details"]["entries"]) == ("in_use", ["written"])
    assert sums("/srv/fast/default/a/written") == before
    os.unlink("/srv/fast/default/a/written")
    made(attached)
    fill("/mnt/a/seen", 4096)
    assert os.path.exists("/srv/fast/default/a/seen")
    made({"volumes": [{"name": "a", "state": "detached"}]})
    made(removed("a"))


# -- protection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [LOOP, BTRFS], ids=["loop", "btrfs"])
def test_nothing_goes_that_somebody_uses(host: None, pool: dict[str, Any]) -> None:
    made(volumes(pool, {"name": "a", "size": "8MiB", "state": "attached", "target": "/mnt/a", "job": "j1"}))
    data = fill("/mnt/a/data")
    assert refused(removed("a", pool=False)) == "in_use"
    assert refused({"pools": [{"name": "fast", "confirm": "fast", "state": "absent"}]}) == "in_use"
    assert refused({"pools": [{"name": "fast", "state": "absent"}]}) == "would_destroy"
    force = {"volumes": [{"name": "a", "state": "absent", "force": True}]}
    with subprocess.Popen(["sleep", "60"], cwd="/mnt/a") as user:
        error = failed(force)
        assert error["code"] == "in_use" and str(user.pid) in error["message"]
        assert failed(volumes({}, {"name": "a", "state": "detached"}))["code"] == "in_use"
        assert sums("/mnt/a/data") == data
        user.kill()
    made(force)
    made(removed())


@pytest.mark.parametrize("fstype,size", [("ext4", 8), ("btrfs", 128)])
def test_no_image_goes_that_is_mounted_in_another_namespace(host: None, fstype: str, size: int) -> None:
    """Nor by the second try, when nothing of it is mounted here any more. Check mode says so too."""
    volume = {"name": "a", "size": "%dMiB" % size, "fstype": fstype, "state": "attached", "target": "/mnt/a"}
    force = {"volumes": [{"name": "a", "state": "absent", "force": True}]}
    made(volumes(LOOP, volume))
    data = fill("/mnt/a/data")
    before = world()
    argv = ["unshare", "--mount", "--propagation", "private", "sleep", "60"]
    with subprocess.Popen(argv) as other:
        while len(namespaces(other.pid)) < 2:
            time.sleep(0.01)
        inside = "/proc/%d/root/srv/fast/default/a/data" % other.pid
        for check in (True, False):
            answer = reconciling.run(force, check=check)
            error = answer["refused"][0]
            assert error["code"] == "in_use" and "process %d" % other.pid in error["message"], answer
            assert world() == before
        said("umount", "/mnt/a", "/srv/fast/default/a")
        for check in (True, False):
            assert reconciling.run(force, check=check)["refused"][0]["code"] == "in_use"
        assert os.path.getsize("/srv/fast/default/a.img") == size * MIB and sums(inside) == data
        other.kill()
    made(force)
    made(removed())


def namespaces(pid: int) -> set[str]:
    return {os.readlink("/proc/%s/ns/mnt" % each) for each in ("self", pid)}


def test_an_image_that_others_attached_stays_until_they_detach_it(host: None) -> None:
    made(volumes(LOOP, {"name": "a", "size": "8MiB"}))
    with namespace.loop_device("/srv/fast/default/a.img") as device:
        error = reconciling.run(removed("a"), check=True)["refused"][0]
        assert error["code"] == "in_use" and device in error["message"], error
        assert refused(removed("a")) == "in_use"
        said("mount", device, "/mnt")
        made(volumes({}, {"name": "a", "state": "attached", "target": "/srv/a"}))  # by the device that is there
        assert refused({"volumes": [{"name": "a", "state": "absent", "force": True}]}) == "in_use"
        said("umount", "/mnt")
    made({"volumes": [{"name": "a", "state": "absent", "force": True}]})
    made(removed())


def test_unmounts_that_propagate_hold_nothing_up(host: None) -> None:
    """What runs in a namespace that follows this one, as services of systemd do, keeps no image."""
    said("mount", "--make-rshared", "/srv")
    made(volumes(LOOP, {"name": "a", "size": "8MiB", "state": "attached"}))
    with subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "sleep", "60"]) as other:
        while len(namespaces(other.pid)) < 2:
            time.sleep(0.01)
        said("test", "-e", "/proc/%d/root/srv/fast/default/a/lost+found" % other.pid)
        made({"volumes": [{"name": "a", "state": "absent", "force": True}]})
        other.kill()
    made(removed())


def test_two_may_share_and_one_may_not(host: None) -> None:
    volume = {"name": "a", "size": "8MiB", "state": "attached", "sharing": "exclusive"}
    made(volumes(LOOP, {**volume, "job": "j1", "target": "/mnt/1"}))
    assert refused(volumes(LOOP, {**volume, "job": "j2", "target": "/mnt/2"})) == "in_use"
    made(volumes(LOOP, {**volume, "sharing": "read_write", "job": "j2", "target": "/mnt/2"}))
    data = fill("/mnt/1/data")
    assert sums("/mnt/2/data") == data
    made(volumes({}, {"name": "a", "state": "detached", "job": "j1"}))
    assert not os.path.exists("/mnt/1") and sums("/mnt/2/data") == data
    made(volumes({}, {"name": "a", "state": "detached", "job": "j2"}))
    assert namespace.loop_devices("/srv/fast") == []
    made(removed("a"))


@pytest.mark.parametrize("pool", [LOOP, BTRFS], ids=["loop", "btrfs"])
def test_equal_names_of_two_namespaces(host: None, pool: dict[str, Any]) -> None:
    both = [
        {"name": "a", "namespace": ns, "size": "8MiB", "labels": {"tier": ns, "n": 1}, "target": "/mnt/" + ns}
        for ns in ("blue", "green")
    ]
    made(volumes(pool, *({**each, "state": "attached"} for each in both)))
    data = fill("/mnt/blue/data")
    assert "data" not in os.listdir("/mnt/green")
    assert row("blue/a")["labels"] == {"tier": "blue", "n": "1"} and row("blue/a")["id"] != row("green/a")["id"]
    answer = made(volumes(pool, {"name": "a", "namespace": "blue", "labels": {"x": "y"}, "state": "detached"}))
    assert [a["verb"] for a in answer["actions"]].count("change") == 1 and row("blue/a")["labels"] == {"x": "y"}
    made(removed("blue/a", pool=False))
    assert os.path.ismount("/mnt/green") and row("green/a")["labels"]["tier"] == "green"
    made(volumes(pool, {"name": "a", "namespace": "blue", "size": "8MiB", "state": "attached", "target": "/mnt/blue"}))
    assert not os.path.exists("/mnt/blue/data"), data
    made(volumes({}, *({"name": "a", "namespace": ns, "state": "detached"} for ns in ("blue", "green"))))
    made(removed("blue/a", "green/a"))


def test_a_pool_holds_to_its_limits(host: None) -> None:
    pool = {"pools": [{**LOOP["pools"][0], "max_volume_size": "16MiB", "max_volumes_per_namespace": 2}]}
    made(volumes(pool, {"name": "a", "size": "8MiB"}))
    assert refused(volumes({}, {"name": "a", "size": "17MiB"})) == "limit_exceeded"
    assert refused(volumes({}, {"name": "b", "size": "17MiB"})) == "limit_exceeded"
    assert refused(volumes({}, *({"name": n, "size": "4MiB"} for n in "bc"))) == "limit_exceeded"
    made(volumes({}, {"name": "b", "size": "16MiB"}, {"name": "c", "namespace": "blue", "size": "4MiB"}))
    made({"volumes": [{"name": "a", "state": "absent"}, {"name": "c", "pool": "fast", "size": "4MiB"}]})
    wide = {**LOOP["pools"][0], "max_volume_size": "2GiB", "max_volumes_per_namespace": 9}
    assert refused({"pools": [{**wide, "overcommit": 0.5}]}) == "invalid"
    made({"pools": [{**wide, "overcommit": 1.0}]})
    assert refused(volumes({}, {"name": "d", "size": "%d" % room("/srv")})) == "limit_exceeded"
    assert refused(volumes({}, {"name": "c", "size": "%d" % room("/srv")})) == "limit_exceeded", "nor may one grow so"
    lifted = dict.fromkeys(("max_volume_size", "max_volumes_per_namespace", "overcommit"), "none")
    made({"pools": [{**LOOP["pools"][0], **lifted}]})
    made(volumes({}, {"name": "d", "size": "%d" % room("/srv")}))
    made(removed("d", pool=False))
    made(removed("b", "c", "blue/c"))


def test_what_a_pool_will_hold_is_foreseen_with_the_volumes_declared_beside_it(host: None) -> None:
    def told(*entries: dict[str, Any], check: bool) -> tuple[int, int]:
        sent = {**volumes(LOOP, *entries), "return_resources": True}
        pool = module.run("layout", sent, check=check).result["resources"]["pools"][0]
        return pool["volumes"], pool["provisioned_bytes"] >> 20

    def foretold(*entries: dict[str, Any]) -> tuple[int, int]:
        found = told(*entries, check=True)
        assert told(*entries, check=False) == told(*entries, check=True) == found
        return found

    assert foretold({"name": "a", "size": "8MiB"}, {"name": "m", "pool": None, "type": "memory", "size": "1MiB"}) == (
        1,
        8,
    )
    assert foretold({"name": "a", "size": "16MiB"}, {"name": "b", "namespace": "blue", "size": "8MiB"}) == (2, 24)
    assert foretold({"name": "a", "state": "absent"}, {"name": "c", "size": "4MiB"}) == (2, 12)
    made({**removed("blue/b", "c"), "volumes": [*removed("blue/b", "c")["volumes"], {"name": "m", "state": "absent"}]})


def test_the_default_pool_needs_no_word(host: None) -> None:
    """The first volume a newcomer types, on a folder that cannot hold anybody to a limit: an image."""
    made({"volumes": [{"name": "a", "size": "8MiB", "state": "attached", "target": "/mnt/a"}]})
    assert said("stat", "-c", "%a %u", "/var/lib/bulkhead") == "700 0"
    assert said("findmnt", "-nro", "FSTYPE", "/mnt/a") == "ext4"
    assert "No space left on device" in poured("/mnt/a/zero", 16)
    made({"volumes": [{"name": "a", "state": "absent", "force": True}]})
    assert os.listdir("/var/lib/bulkhead/volumes") == []


# -- all of it in one call -----------------------------------------------------------------------------------------


def test_a_stack_in_one_call(host: None) -> None:
    """An image, a filesystem on it, its mount, a pool that finds out what it stands on, and two volumes."""
    image = "/srv/images/pool.img"
    stack = {
        "volumes": [
            {"name": "a", "pool": "p", "size": "16MiB", "state": "attached", "target": "/mnt/a"},
            {"name": "b", "pool": "p", "size": "8MiB"},
        ],
        "pools": [{"name": "p", "backend": "auto", "config": {"path": "/mnt/deep/pool/volumes"}}],
        "mounts": [{"path": "/mnt/deep/pool", "source": image, "fstype": "btrfs", "options": ["noatime"]}],
        "filesystems": [{"device": image, "fstype": "btrfs", "label": "pool"}],
    }
    before = world()
    checked = reconciling.run(stack, check=True)
    assert world() == before
    built = made(stack)
    assert (checked["actions"], checked["digest"]) == (built["actions"], built["digest"])
    assert said("blkid", "-p", "-o", "value", "-s", "LABEL", image) == "pool"
    assert said("findmnt", "-nro", "FSTYPE", "/mnt/deep/pool") == "btrfs"
    assert "noatime" in said("findmnt", "-nro", "OPTIONS", "/mnt/deep/pool")
    assert "/mnt/deep/pool btrfs noatime" in said("cat", "/etc/fstab")
    said("btrfs", "subvolume", "show", "/mnt/deep/pool/volumes/default/b")
    data = fill("/mnt/a/data")
    assert "Disk quota exceeded" in poured("/mnt/a/zero", 24)
    assert sums("/mnt/a/data") == data
    assert reconciling.run(stack, check=True)["summary"]["planned"] == 0

    gone = {
        "state": "absent",
        "mounts": [{"path": "/mnt/deep/pool"}],
        "pools": [{"name": "p", "confirm": "p"}],
        "volumes": [{"name": "b"}, {"name": "a", "force": True}],
    }
    assert refused({**gone, "pools": [{"name": "p"}]}) == "would_destroy"
    assert refused({**gone, "volumes": [{"name": "b"}, {"name": "a"}]}) == "in_use"
    made(gone)
    assert said("blkid", "-p", "-o", "value", "-s", "TYPE", image) == "btrfs", "nobody consented to that"
    assert world() == before
    wipe = {"device": image, "state": "absent"}
    answer = reconciling.run({"filesystems": [wipe]})["refused"][0]
    assert answer["code"] == "not_blank"
    made({"filesystems": [{**wipe, "wipe_token": answer["details"]["wipe_token"]}]})
    said("blkid", "-p", image, rc=2)


def test_what_lies_in_an_attached_volume_is_made_in_the_same_call(host: None) -> None:
    """By its target and by its own path; the image is mounted first, and goes last."""
    whole = volumes(LOOP, {"name": "a", "size": "16MiB", "state": "attached", "target": "/mnt/a"})
    whole["trees"] = [{"root": "/mnt/a", "entries": [{"path": "inside", "mode": "0700"}]}]
    made(whole)
    assert said("stat", "-c", "%a", "/mnt/a/inside") == said("stat", "-c", "%a", "/srv/fast/default/a/inside") == "700"
    down = removed("a")
    down["volumes"][0]["force"] = True
    made({**down, "trees": [{"root": "/mnt/a", "entries": [{"path": "inside"}], "state": "absent"}]})
    made(volumes(BTRFS, {"name": "b", "size": "16MiB"}))
    within = {"root": "/srv/fast/default/b", "entries": [{"path": "inside", "mode": "0711"}], "state": "present"}
    made({**volumes(BTRFS, {"name": "b", "size": "16MiB"}), "trees": [within]})
    assert said("stat", "-c", "%a", "/srv/fast/default/b/inside") == "711"
    made(removed("b"))


def test_a_pool_on_a_mount_of_the_same_declaration(host: None) -> None:
    """A mount, a pool on it, a volume in that, and a tree on the volume: one call up, one call down."""
    document = {
        "filesystems": [{"device": "/srv/images/pool.img", "fstype": "ext4"}],
        "mounts": [{"path": "/mnt/fast", "source": "/srv/images/pool.img", "fstype": "ext4", "persist": "none"}],
        "pools": [{"name": "fast", "backend": "loop", "config": {"path": "/mnt/fast"}}],
        "volumes": [
            {"name": "data", "pool": "fast", "size": "16MiB", "state": "attached", "job": "j1", "target": "/mnt/data"}
        ],
        "trees": [{"root": "/mnt/data", "entries": [{"path": ".", "mode": "0750"}, {"path": "in", "mode": "0700"}]}],
    }
    made(document)
    shown = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "/mnt/data"], check=True, stdout=subprocess.PIPE).stdout
    assert shown.split() == [b"ext4"]
    modes = [os.stat(path).st_mode & 0o7777 for path in ("/mnt/fast", "/mnt/data", "/mnt/data/in")]
    assert modes == [0o711, 0o750, 0o700]
    assert os.stat("/mnt/fast").st_ino == 2, "the pool's rights are on the root of what is mounted"
    gone = {
        "volumes": [{"name": "data", "state": "absent", "force": True}],
        "pools": [{"name": "fast", "state": "absent", "confirm": "fast"}],
        "mounts": [{"path": "/mnt/fast", "state": "absent", "persist": "none"}],
    }
    made(gone)
