# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and their playbooks through ansible-playbook, each claim checked with the eyes of other programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support.playing import run

DAEMON, ACME, GLOBEX = 61000, 61001, 61002  # ids without a name
BASE = "/srv/builderd"
ROOT = BASE + "/tenants/acme"
MB = 1 << 20
TENANTS: dict[str, Any] = {
    "tenant_base": BASE,
    "tenant_daemon": str(DAEMON),
    "tenant_list": [
        {"name": "acme", "tier": "free", "group": str(ACME), "builds": ["b-1"], "overrides": {"cache": "8MB"}},
        {"name": "globex", "tier": "pro", "group": str(GLOBEX)},
    ],
}
ATTACHED = {"state": "attached", "job": "j-1", "force": True}
JOBS: dict[str, Any] = {
    "job_host_pools": [{"name": "p", "backend": "loop", "max_volume_size": "1GB", "confirm": "p"}],
    "job_host_volumes": [
        {**ATTACHED, "name": "data", "pool": "p", "size": "32MB", "target": "/mnt/data"},
        {**ATTACHED, "name": "fast", "type": "memory", "size": "4MB", "target": "/mnt/fast"},
    ],
}


class Done(NamedTuple):
    code: int
    output: str
    result: dict[str, Any]


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def role(folder: Path, name: str, given: dict[str, Any], *arguments: str) -> Done:
    """A play with one role; ``given`` come as extra variables, as AWX hands over a survey."""
    kept = folder / "result.json"
    kept.unlink(missing_ok=True)
    copy = {"content": "{{ %s_result | to_json }}" % name, "dest": str(kept), "mode": "0600"}
    tasks = [
        {"ansible.builtin.include_role": {"name": "bulkhead.storage." + name}},
        {"ansible.builtin.copy": copy, "check_mode": False, "diff": False},
    ]
    (folder / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    return played(folder, str(folder / "play.json"), given, kept, *arguments)


def played(folder: Path, playbook: str, given: dict[str, Any], kept: Path, *arguments: str) -> Done:
    (folder / "given.json").write_text(json.dumps(given))
    done = run(playbook, "-e", "@%s/given.json" % folder, *arguments, cwd=str(folder))
    result = json.loads(kept.read_text()) if kept.exists() else {}
    return Done(done.returncode, done.stdout.decode(), result)


def said(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode()


def acl(path: str) -> set[str]:
    text = said("getfacl", "--numeric", "--omit-header", "--absolute-names", "--no-effective", path)
    return {line for line in text.splitlines() if line}


def limits() -> dict[str, str]:
    """Path of a subvolume of /srv: what its level-1 group may hold, as btrfs-progs tell it."""
    subvolumes = dict(re.findall(r"^ID (\d+) .* path (\S+)$", said("btrfs", "subvolume", "list", "/srv"), re.M))
    groups = re.findall(r"^1/(\d+)\s+\d+\s+\d+\s+(\S+)", said("btrfs", "qgroup", "show", "-r", "--raw", "/srv"), re.M)
    return {"/srv/" + subvolumes[number]: hard for number, hard in groups if number in subvolumes}


def as_user(uid: int, gid: int, *argv: str) -> subprocess.CompletedProcess[bytes]:
    become = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups", "--"]
    return subprocess.run([*become, *argv], check=False, capture_output=True)


def write(path: str, megabytes: int) -> str:
    argv = ["dd", "if=/dev/zero", "of=" + path, "bs=1M", "count=%d" % megabytes, "conv=fsync"]
    return subprocess.run(argv, check=False, stderr=subprocess.PIPE, env={"LC_ALL": "C"}).stderr.decode()


# -- tenants -----------------------------------------------------------------------------------------------------------


def test_tenants_check_run_rerun(host: None, tmp_path: Path) -> None:
    before = hosts.picture()
    checked = role(tmp_path, "tenant", TENANTS, "--check", "--diff")
    assert checked.code == 0, checked.output
    assert hosts.changed(before, hosts.picture()) == [], "check mode changes nothing"

    made = role(tmp_path, "tenant", TENANTS)
    assert made.code == 0, made.output
    assert made.result["actions"] == checked.result["actions"]
    assert made.result["plan_digest"] == checked.result["plan_digest"]
    assert made.result["changed"] and checked.result["changed"]

    for action in checked.result["actions"]:
        if action["port"] == "node" and not os.path.ismount(action["target"]):
            _as_predicted(action["target"], action["after"])
    assert limits() == {
        ROOT: str(1008 * MB), ROOT + "/artifacts": str(500 * MB), ROOT + "/builds": str(500 * MB),
        ROOT + "/cache": str(8 * MB), BASE + "/tenants/globex": str(15 << 30),
        **{BASE + "/tenants/globex/" + name: str(5 << 30) for name in ("artifacts", "builds", "cache")},
    }  # fmt: skip
    rights = {"user::rwx", "user:%d:rwx" % DAEMON, "group::---", "group:%d:rwx" % ACME, "mask::rwx", "other::---"}
    assert acl(ROOT + "/cache/docker-layers") == rights | {"default:" + entry for entry in rights}
    found = json.loads(said("findmnt", "--json", "--output", "TARGET,SOURCE,OPTIONS", ROOT + "/builds/b-1/rootfs"))
    (bind,) = found["filesystems"]
    assert bind["source"].endswith("[/builderd/tenants/acme/artifacts/b-1]")
    assert {"nosuid", "nodev"} <= set(bind["options"].split(","))
    line = "%s/artifacts/b-1 %s/builds/b-1/rootfs none bind,nosuid,nodev,nofail 0 0" % (ROOT, ROOT)
    assert Path("/etc/fstab").read_text().splitlines().count(line) == 1

    before = hosts.picture()
    again = role(tmp_path, "tenant", TENANTS)
    assert again.code == 0 and not again.result["changed"] and again.result["actions"] == [], again.output
    assert hosts.changed(before, hosts.picture()) == [], "a second run changes nothing"


def _as_predicted(path: str, after: dict[str, Any]) -> None:
    mode, uid, gid, inode = said("stat", "--format", "%a %u %g %i", path).split()
    assert (int(uid), int(gid)) == (after["uid"], after["gid"])
    assert (inode == "256") == (after["type"] == "subvolume")
    named = {re.sub("^u", "user", re.sub("^g", "group", entry)) for entry in after["acl"]}
    shown = {entry for entry in acl(path) if re.match(r"(user|group):\d+:", entry)}
    assert shown == named, path
    assert int(mode, 8) & 0o707 == int(after["mode"], 8) & 0o707  # with an ACL the group bits are its mask


def test_limits_and_walls_hold(host: None, tmp_path: Path) -> None:
    assert role(tmp_path, "tenant", TENANTS).code == 0
    assert "Disk quota exceeded" in write(ROOT + "/cache/big", 12), "root is held to it as well"
    assert os.path.getsize(ROOT + "/cache/big") <= 8 * MB
    assert "12582912 bytes" in write(ROOT + "/builds/b-1/workspace/big", 12), "another category has room"
    assert "Disk quota exceeded" in write(ROOT + "/cache/docker-layers/more", 1)
    said("sync", "--file-system", ROOT)
    usage = role(tmp_path, "tenant", TENANTS).result["resources"]["quotas"]
    used = {os.path.relpath(entry["path"], ROOT): entry["used_bytes"] for entry in usage[:4]}
    assert 7 * MB < used["cache"] <= 8 * MB and used["builds"] >= 12 * MB and used["artifacts"] < MB
    assert used["."] >= used["cache"] + used["builds"]
    for name, counted in used.items():
        found = int(said("du", "--summarize", "--block-size=1", "%s/%s" % (ROOT, name)).split()[0])
        assert abs(found - counted) <= MB // 4, (name, found, counted)  # du counts no metadata

    write(ROOT + "/builds/b-1/rootfs/image", 3)
    assert os.path.getsize(ROOT + "/artifacts/b-1/image") == 3 * MB, "what is written to rootfs is an artifact"

    daemon, tenant, stranger = (DAEMON, 1), (71001, ACME), (71002, GLOBEX)
    assert as_user(*daemon, "touch", ROOT + "/builds/b-1/temp/a").returncode == 0
    assert as_user(*tenant, "touch", ROOT + "/builds/b-1/temp/b").returncode == 0
    assert as_user(*tenant, "ls", ROOT + "/artifacts").returncode == 0
    for path in (ROOT, ROOT + "/cache", ROOT + "/builds/b-1/rootfs"):
        assert b"Permission denied" in as_user(*stranger, "ls", path).stderr
    assert b"Permission denied" in as_user(*stranger, "ls", BASE + "/tenants").stderr, "nobody lists the tenants"
    for user in (daemon, tenant):
        assert b"Permission denied" in as_user(*user, "mv", ROOT + "/cache", ROOT + "/cache2").stderr
        assert b"Permission denied" in as_user(*user, "mkdir", ROOT + "/mine").stderr
    assert as_user(*tenant, "mkdir", ROOT + "/builds/b-1/temp/new").returncode == 0
    assert "user:%d:rwx" % DAEMON in acl(ROOT + "/builds/b-1/temp/new"), "defaults are inherited"


def test_a_change_of_tier_changes_limits_only(host: None, tmp_path: Path) -> None:
    assert role(tmp_path, "tenant", TENANTS).code == 0
    write(ROOT + "/cache/kept", 2)
    other = {"name": "acme", "tier": "pro", "group": str(ACME), "builds": ["b-1"]}
    done = role(tmp_path, "tenant", {**TENANTS, "tenant_list": [other]})
    assert done.code == 0 and {action["port"] for action in done.result["actions"]} == {"quota"}, done.output
    assert limits()[ROOT + "/cache"] == str(5 << 30) and os.path.getsize(ROOT + "/cache/kept") == 2 * MB


def test_a_tenant_goes_with_its_data_only_when_its_name_is_typed_again(host: None, tmp_path: Path) -> None:
    assert role(tmp_path, "tenant", TENANTS).code == 0
    write(ROOT + "/cache/precious", 1)
    before = hosts.picture()
    leaving = {"name": "acme", "state": "absent", "builds": ["b-1"]}
    unsaid = role(tmp_path, "tenant", {**TENANTS, "tenant_list": [leaving]})
    assert unsaid.code != 0 and "repeat it with confirm: acme" in unsaid.output
    assert hosts.changed(before, hosts.picture()) == []
    leave = {**TENANTS, "tenant_list": [{**leaving, "confirm": "acme"}]}
    gone = role(tmp_path, "tenant", leave)
    assert gone.code == 0, gone.output
    assert not os.path.exists(ROOT) and ROOT not in Path("/proc/self/mountinfo").read_text()
    listed = subprocess.run(["btrfs", "subvolume", "list", "/srv"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert "acme" not in listed
    again = role(tmp_path, "tenant", leave)
    assert again.code == 0 and again.result["actions"] == [], again.output


WRONG_TENANTS: list[tuple[dict[str, Any], str]] = [
    ({"tenant_list": [{"tier": "free"}]}, "missing required arguments: name"),
    ({"tenant_list": [{"name": "acme", "tier": "free", "state": "gone"}]}, "value of state must be one of"),
    ({"tenant_list": [{"name": "acme", "tier": "free", "colour": "red"}]}, "Supported parameters include"),
    ({"tenant_list": [{"name": "../etc", "tier": "free"}]}, "'../etc' is not a valid name"),
    ({"tenant_list": [{"name": "acme", "tier": "gold"}]}, "there is no tier 'gold'"),
    (
        {"tenant_list": [{"name": "acme", "tier": "free", "group": "nosuchgroup"}]},
        "'nosuchgroup'",
    ),
    ({"tenant_daemon": "nosuchuser"}, "'nosuchuser'"),
    ({"tenant_encryption": "true"}, "not supported yet"),
    ({"tenant_selinux": {"type": "builderd_tenant_t"}}, "not supported yet"),
]


def test_wrong_tenants_change_nothing(host: None, tmp_path: Path) -> None:
    before = hosts.picture()
    for change, text in WRONG_TENANTS:
        done = role(tmp_path, "tenant", {**TENANTS, **change})
        assert done.code != 0 and text in done.output, done.output
    assert hosts.changed(before, hosts.picture()) == []


def test_tenants_where_nothing_can_hold_them_are_refused(host: None, tmp_path: Path) -> None:
    done = role(tmp_path, "tenant", {**TENANTS, "tenant_base": "/mnt"})
    assert done.code != 0 and "btrfs" in done.output, done.output
    assert not os.path.exists("/mnt/tenants/acme"), "nobody gets a directory without a limit"


# -- job hosts ---------------------------------------------------------------------------------------------------------


def test_job_host_check_run_rerun_removal(host: None, tmp_path: Path) -> None:
    before = hosts.picture()
    checked = role(tmp_path, "job_host", JOBS, "--check")
    assert checked.code == 0, checked.output
    assert hosts.changed(before, hosts.picture()) == [], "check mode changes nothing"
    made = role(tmp_path, "job_host", JOBS)
    assert made.code == 0 and made.result["changed"], made.output
    assert made.result["plan_digest"] == checked.result["plan_digest"]
    data, fast = made.result["resources"]["volumes"]
    assert (data["enforced_by"], fast["enforced_by"]) == ("block", "tmpfs")
    assert said("findmnt", "--noheadings", "--output", "FSTYPE", "/mnt/data").strip() == "ext4"
    assert said("findmnt", "--noheadings", "--output", "FSTYPE", "/mnt/fast").strip() == "tmpfs"
    assert said("stat", "--file-system", "--format", "%b %S", "/mnt/fast").split() == ["1024", "4096"]
    assert "No space left" in write("/mnt/data/big", 40) and "No space left" in write("/mnt/fast/big", 8)
    said("sync", "--file-system", "/mnt/data")
    for entry in role(tmp_path, "job_host", JOBS).result["resources"]["volumes"]:
        path = "/mnt/" + entry["name"]
        found = int(said("du", "--summarize", "--block-size=1", path).split()[0])
        size = int(said("stat", "--format", "%s", path + "/big"))
        assert size <= found <= entry["usage"]["bytes"] <= entry["size_bytes"], (found, entry["usage"])

    middle = hosts.picture()
    again = role(tmp_path, "job_host", JOBS)
    assert again.code == 0 and not again.result["changed"], again.output
    assert hosts.changed(middle, hosts.picture()) == [], "a second run changes nothing"

    gone = role(tmp_path, "job_host", {**JOBS, "job_host_state": "absent"})
    assert gone.code == 0 and gone.result["changed"], gone.output
    after = hosts.picture()
    kept = "/var/lib/bulkhead"  # the catalogue and the journal
    left = [line for line in hosts.changed(before, after) if not line.startswith((kept, "/var/lib/.", "/run/bulkhead"))]
    assert [line for line in left if not re.match(r"/(mnt|var/lib)(/\.)? ?", line.split(":")[0])] == []
    assert not os.path.exists("/var/lib/bulkhead/pools")
    assert after["mounts"] == before["mounts"] and after["fstab"] == before["fstab"]


def test_job_host_with_the_texts_of_a_survey(host: None, tmp_path: Path) -> None:
    empty = dict.fromkeys(("namespace", "group"), "")
    text = {"type": "memory", "size": "4194304", "state": "attached", "job": "j-1", "read_only": "false", "owner": "0"}
    volumes = [{"name": "fast", "target": "/mnt/fast", **text, **empty}]
    pools = [{"name": "p", "backend": "loop", "max_volumes_per_namespace": "3", "overcommit": "2.0"}]
    done = role(tmp_path, "job_host", {"job_host_pools": pools, "job_host_volumes": volumes})
    assert done.code == 0, done.output
    assert done.result["resources"]["volumes"][0]["size_bytes"] == 4 * MB
    assert done.result["resources"]["pools"][0]["max_volumes_per_namespace"] == 3


WRONG_JOB_HOSTS: list[tuple[dict[str, Any], str]] = [
    ({"job_host_volumes": [{"size": "1GB"}]}, "missing required arguments: name"),
    ({"job_host_volumes": [{"name": "v", "size": "big"}]}, "'big' is not a size"),
    ({"job_host_volumes": [{"name": "v", "type": "memory", "size": "1"}]}, "did you mean 1GiB?"),
    ({"job_host_volumes": [{"name": "v", "sise": "1GB"}]}, "Supported parameters include"),
    ({"job_host_pools": [{"name": "p", "backend": "zfs"}]}, "value of backend must be one of"),
    ({"job_host_state": "gone"}, "value of job_host_state must be one of"),
    ({"job_host_base": "relative"}, "is not absolute"),
]


def test_wrong_job_hosts_change_nothing(host: None, tmp_path: Path) -> None:
    before = hosts.picture()
    for given, text in WRONG_JOB_HOSTS:
        done = role(tmp_path, "job_host", given)
        assert done.code != 0 and text in done.output, done.output
    assert hosts.changed(before, hosts.picture()) == []


# -- playbooks ---------------------------------------------------------------------------------------------------------


def test_onboarding_from_a_survey(host: None, tmp_path: Path) -> None:
    answers = {"tenant_onboard_hosts": "localhost", "storage_become": "false", "tenant_base": BASE}
    answers.update(tenant_daemon=str(DAEMON), tenant_onboard_name="acme", tenant_onboard_tier="free")
    answers.update(tenant_onboard_group=str(ACME), tenant_onboard_builds="b-1")
    answers.update(tenant_onboard_cache="8MB", tenant_onboard_scratch="")
    for _again in range(2):
        done = played(tmp_path, "bulkhead.storage.tenant_onboard", answers, tmp_path / "none")
        assert done.code == 0, done.output
    assert "changed=0" in done.output
    assert limits()[ROOT + "/cache"] == str(8 * MB) and limits()[ROOT] == str(1008 * MB)
    assert os.path.isdir(ROOT + "/builds/b-1/rootfs")


def test_site_and_drift(host: None, tmp_path: Path) -> None:
    groups = {"job_hosts": {"hosts": {"localhost": None}}, "tenants": {"hosts": {"localhost": None}}}
    given = {**TENANTS, **JOBS, "storage_become": False, "ansible_connection": "local"}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": groups}}))
    inventory = ("-i", str(tmp_path / "inventory.json"))
    before = hosts.picture()
    report = played(tmp_path, "bulkhead.storage.drift_report", given, tmp_path / "none", *inventory)
    assert report.code == 0 and "create quotas[0] (%s)" % ROOT in report.output, report.output
    assert hosts.changed(before, hosts.picture()) == [], "the report changes nothing"
    for expected in ("changed=2", "changed=0"):
        done = played(tmp_path, "bulkhead.storage.site", given, tmp_path / "none", *inventory)
        assert done.code == 0 and expected in done.output, done.output
    assert os.path.ismount("/mnt/data") and limits()[ROOT + "/cache"] == str(8 * MB)
    report = played(tmp_path, "bulkhead.storage.drift_report", given, tmp_path / "none", *inventory)
    assert report.code == 0 and "0 differences" in report.output, report.output
    os.chmod(ROOT + "/cache", 0o777)
    report = played(tmp_path, "bulkhead.storage.drift_report", given, tmp_path / "none", *inventory)
    assert "change trees[1] (%s)" % ROOT in report.output and "1 differences" in report.output, report.output


def test_the_site_has_its_servers(host: None, tmp_path: Path) -> None:
    """Each by the variables of its role, which is asked by the report too."""
    groups = {name: {"hosts": {"localhost": None}} for name in ("nfs_servers", "iscsi_servers", "ceph_clients")}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": groups}}))
    inventory = ("-i", str(tmp_path / "inventory.json"))
    given = {"storage_become": False, "ansible_connection": "local", "iscsi_server_install": False}
    given.update(nfs_server_install=False, nfs_server_service=False, ceph_client_install=False)
    before = hosts.picture()
    done = played(tmp_path, "bulkhead.storage.site", given, tmp_path / "none", *inventory)
    assert done.code == 0 and "changed=0" in done.output, done.output
    assert "Reconcile the exports" in done.output and "Reconcile targets" in done.output
    report = played(tmp_path, "bulkhead.storage.drift_report", given, tmp_path / "none", *inventory)
    assert report.code == 0 and "0 differences" in report.output, report.output
    for wrong, text in (
        ({"nfs_server_exports": [{"path": "srv", "clients": [{"host": "10.0.0.1"}]}]}, "'srv' is not absolute"),
        ({"iscsi_server_targets": [{"target": "disks", "luns": []}]}, "'disks' is no name of iSCSI"),
        ({"ceph_client_pools": [{"name": "images"}]}, "client.admin is never assumed"),
    ):
        done = played(tmp_path, "bulkhead.storage.site", {**given, **wrong}, tmp_path / "none", *inventory)
        assert done.code != 0 and text in done.output, done.output
        report = played(tmp_path, "bulkhead.storage.drift_report", {**given, **wrong}, tmp_path / "none", *inventory)
        assert report.code != 0 and "refused: " in report.output and text in report.output, report.output
    assert hosts.changed(before, hosts.picture()) == []


def test_the_drift_report_counts_all_and_tells_what_is_refused(host: None, tmp_path: Path) -> None:
    """All differences are counted, though a result lists 100 actions; a refusal hides nothing of the rest."""
    groups = {"job_hosts": {"hosts": {"localhost": None}}, "tenants": {"hosts": {"localhost": None}}}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": groups}}))
    inventory = ("-i", str(tmp_path / "inventory.json"))
    more = [{"name": "more-%d" % n, "tier": "free", "group": str(GLOBEX), "builds": ["b-1"]} for n in range(12)]
    given = {
        **TENANTS,
        "tenant_list": TENANTS["tenant_list"] + more,
        **JOBS,
        "storage_become": False,
        "ansible_connection": "local",
    }
    checked = [role(tmp_path, name, given, "--check") for name in ("tenant", "job_host")]
    assert [done.code for done in checked] == [0, 0], checked[0].output + checked[1].output
    planned = sum(done.result["summary"]["planned"] for done in checked)
    before = hosts.picture()
    report = played(tmp_path, "bulkhead.storage.drift_report", given, tmp_path / "none", *inventory)
    assert report.code == 0 and planned > 150 and '"%d differences"' % planned in report.output, report.output
    shown = int(re.findall(r"and (\d+) more", report.output)[0])
    assert 0 < shown < planned

    wrong = [{**JOBS["job_host_pools"][0], "backend": "cephfs"}]
    given.update(TENANTS)
    unlike = {**given, "job_host_pools": wrong}
    report = played(tmp_path, "bulkhead.storage.drift_report", unlike, tmp_path / "none", *inventory)
    assert report.code != 0 and "refused: " in report.output and "not supported yet" in report.output, report.output
    assert "create quotas[0] (%s)" % ROOT in report.output, "the tenants are compared all the same"
    unlike = {**given, "tenant_encryption": "true"}
    report = played(tmp_path, "bulkhead.storage.drift_report", unlike, tmp_path / "none", *inventory)
    assert report.code != 0 and "refused: tenant_encryption and tenant_selinux are not supported yet" in report.output
    assert "create volumes[0] (default/data)" in report.output, report.output
    assert hosts.changed(before, hosts.picture()) == []
