# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``layout`` through ansible-playbook: where a declaration may come from, what it refuses, what it keeps secret."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module, reconciling
from ansible_collections.bulkhead.storage.tests.support.playing import play, run

LAYOUT = "bulkhead.storage.layout"
TREE = {"root": "/srv/t", "entries": [{"path": "a", "mode": "0750"}]}
# Every ansible-playbook the checks have made, oldest and newest core among them; at least the one of this Python.
PROGRAMS = os.environ.get("BULKHEAD_ANSIBLE_PLAYBOOKS", "").split(os.pathsep) + [
    os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
]


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def stat(path: str) -> str:
    return subprocess.run(["stat", "-c", "%a", path], stdout=subprocess.PIPE, check=False).stdout.decode().strip()


def test_lists_in_the_task_check_run_rerun(host: None) -> None:
    task = {LAYOUT: {"trees": [TREE], "tmpfs": [{"path": "/mnt/s", "size": "1MiB"}]}}
    before = reconciling.snapshot(times=True)
    checked = play([task], "--check", "--diff").results[0]
    assert reconciling.snapshot(times=True) == before, "check mode changes nothing"
    made, again = play([task, task], "--diff").results
    assert checked["changed"] and made["changed"] and not again["changed"]
    assert checked["actions"] == made["actions"] and checked["plan_digest"] == made["plan_digest"]
    assert checked["diff"] == made["diff"]
    assert stat("/srv/t/a") == "750" and os.path.ismount("/mnt/s")
    assert again["actions"] == [] and again["journal"] == ""


def test_a_declaration_from_a_file(host: None, tmp_path: Path) -> None:
    document = {"trees": [TREE]}
    (tmp_path / "d.json").write_text(json.dumps(document))
    (tmp_path / "d.yml").write_text("trees:\n- root: /srv/u\n  entries:\n  - {path: a, mode: '0700'}\n")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "gadgets.json").write_text('{"gadgets": [], "state": "gone"}')
    results = play(
        [
            {LAYOUT: {"src": str(tmp_path / "d.json")}},
            {LAYOUT: {"src": str(tmp_path / "d.json"), "remote_src": True}},
            {LAYOUT: {"src": str(tmp_path / "d.yml")}},
            {LAYOUT: {"src": str(tmp_path / "d.json"), "trees": [TREE]}},
            {LAYOUT: {"src": "/srv/missing.json", "remote_src": True}},
            {LAYOUT: {"src": str(tmp_path / "list.json"), "remote_src": True}},
            {LAYOUT: {"src": str(tmp_path / "d.json"), "state": "absent"}},
            {LAYOUT: {"src": str(tmp_path / "gadgets.json")}},
            {LAYOUT: {"src": str(tmp_path / "d.json"), "remote_src": True, "trees": [TREE]}},
        ]
    ).results
    assert results[0]["changed"] and stat("/srv/u/a") == "700"
    assert not results[1]["changed"], "the same file read on the target is the same declaration"
    for refused in (results[3], results[8]):
        assert refused["failed"] and "exclude each other" in refused["msg"]
    assert [results[i]["code"] for i in (4, 5)] == ["not_found", "invalid"]
    assert "gadgets" in results[7]["errors"][0]["message"] and "gone" in results[7]["errors"][1]["message"]
    assert results[6]["changed"] and not os.path.exists("/srv/t")


def test_a_declaration_on_the_target_is_torn_down_too(host: None, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps({"trees": [TREE], "state": "present"}))
    source = {"src": str(tmp_path / "d.json"), "remote_src": True}
    checked = play([{LAYOUT: {**source, "state": "absent"}}], "--check").results[0]
    assert not checked["changed"], "nothing is there yet"
    made, gone, again = play([{LAYOUT: source}, *[{LAYOUT: {**source, "state": "absent"}}] * 2]).results
    assert made["changed"] and gone["changed"] and not again["changed"] and not os.path.exists("/srv/t")


def test_a_module_that_is_asked_directly_takes_one_source_too(host: None, tmp_path: Path) -> None:
    """What the action plugin refuses the module refuses as well: no list is ever silently passed over."""
    (tmp_path / "d.json").write_text(json.dumps({"trees": [TREE]}))
    for lists in ({"trees": []}, {"_declaration": '{"state": "absent"}', "_secrets": []}):
        done = module.run("layout", {"src": str(tmp_path / "d.json"), **lists})
        assert done.result["code"] == "invalid" and "exclude each other" in done.result["msg"]


def test_all_refusals_come_at_once_in_check_mode_too_and_nothing_is_made(host: None) -> None:
    wrong = {
        "trees": [{"root": "/srv/x", "entries": [{"path": "../y"}]}, {"root": "relative", "entries": [{"path": "a"}]}],
        "tmpfs": [{"path": "/mnt/a"}, {"path": "/mnt/b", "size": "-1"}, {"path": "/mnt/c", "size": 100}],
        "volumes": [
            {"name": "Upper", "size": "1GiB"},
            {"name": "ok", "size": "1GiB", "pool": "nowhere"},
            {"name": "v", "size": "1GiB", "colour": "red"},
        ],
        "quotas": [{"path": "/mnt", "hard": "1GiB"}],
    }
    before = reconciling.snapshot(times=True)
    for arguments in ((), ("--check",)):
        result = play([{LAYOUT: wrong}], *arguments).results[0]
        assert result["failed"] and not result["changed"]
        found = {(error["entry"].split(" ")[0], error["code"]) for error in result["errors"]}
        assert found == {
            ("trees[0]", "invalid"),
            ("trees[1]", "invalid"),
            ("tmpfs[0]", "invalid"),
            ("tmpfs[1]", "invalid"),
            ("tmpfs[2]", "invalid"),
            ("volumes[0]", "invalid"),
            ("volumes[1]", "not_found"),
            ("volumes[2]", "invalid"),
            ("quotas[0]", "not_enforced"),
        }
        assert result["code"] == result["errors"][0]["code"]
    assert reconciling.snapshot(times=True) == before


@pytest.mark.parametrize("program", sorted({p for p in PROGRAMS if p}))
def test_vaulted_values_stay_secret(host: None, tmp_path: Path, program: str) -> None:
    """A vaulted label reaches the record, and is printed nowhere: at -vvvv, in the diff, in results, or on failure."""
    secret, password = "Ultramarine 48213", tmp_path / "password"
    password.write_text("open sesame")
    vault = os.path.join(os.path.dirname(program), "ansible-vault")
    argv = [vault, "encrypt_string", "--vault-password-file", str(password), secret]
    cipher = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    label = cipher.strip().replace("\n", "\n            ")
    text = """
- hosts: localhost
  gather_facts: false
  vars:
    hidden: %s
  tasks:
    - bulkhead.storage.layout:
        volumes:
          - {name: paint, type: memory, size: 1MiB, labels: {colour: "{{ hidden }}"}}
        return_resources: true
    - bulkhead.storage.layout:
        volumes:
          - {name: "{{ hidden }}", type: memory, size: 1MiB}
      ignore_errors: true
    - bulkhead.storage.layout:
        src: %s
        return_resources: true
""" % (label, tmp_path / "more.yml")
    (tmp_path / "play.yml").write_text(text)
    (tmp_path / "more.yml").write_text(
        "volumes:\n  - name: canvas\n    type: memory\n    size: 1MiB\n    labels:\n      colour: %s\n" % label
    )
    done = run(str(tmp_path / "play.yml"), "-vvvv", "--diff", "--vault-password-file", str(password), program=program)
    output = done.stdout.decode()
    assert done.returncode == 0, output
    assert secret not in output
    rows = reconciling.snapshot()["rows"]
    assert rows["volume", "default/paint"]["labels"] == {"colour": secret}
    assert rows["volume", "default/canvas"]["labels"] == {"colour": secret}


@pytest.mark.parametrize("program", sorted({p for p in PROGRAMS if p}))
def test_a_vault_that_is_not_at_hand_is_nobody_elses_matter(host: None, tmp_path: Path, program: str) -> None:
    """A variable that no password here opens: every module but the one that uses it goes on."""
    (tmp_path / "other").write_text("their password")
    vault = os.path.join(os.path.dirname(program), "ansible-vault")
    argv = [vault, "encrypt_string", "--vault-id", "other@%s/other" % tmp_path, "Ultramarine 48213"]
    cipher = subprocess.run(argv, capture_output=True, check=True).stdout.decode().strip().replace("\n", "\n      ")
    text = """
- hosts: localhost
  gather_facts: false
  vars:
    theirs: %s
    nested: [{deeper: "{{ theirs }}"}]
  tasks:
    - bulkhead.storage.layout:
        trees: [{root: /srv/t, entries: [{path: a}]}]
"""
    (tmp_path / "play.yml").write_text(text % cipher)
    (tmp_path / "mine").write_text("my password")
    for vaults in ((), ("--vault-id", "mine@%s/mine" % tmp_path)):
        done = run(str(tmp_path / "play.yml"), *vaults, program=program)
        assert done.returncode == 0, done.stdout.decode()
    assert os.path.isdir("/srv/t/a")


def test_the_canary_would_be_seen(host: None) -> None:
    """The same search finds a label that is not vaulted: the test above can fail."""
    task: dict[str, Any] = {
        LAYOUT: {"volumes": [{"name": "a", "type": "memory", "size": "1MiB"}], "return_resources": True}
    }
    task[LAYOUT]["volumes"][0]["labels"] = {"colour": "Ultramarine 48213"}
    assert "Ultramarine 48213" in play([task], "-v").output


def test_check_mode_says_that_a_source_is_not_there(host: None) -> None:
    before = reconciling.snapshot(times=True)
    mounts = [{"path": "/mnt/x", "source": "/srv/nowhere.img", "fstype": "ext4"}]
    mounts += [{"path": "/mnt/y", "source": "/srv/t", "bind": True}]
    for check in (True, False):
        refused = reconciling.run({"mounts": mounts}, check=check)["refused"]
        assert [error["code"] for error in refused] == ["not_found", "not_found"]
    assert reconciling.snapshot(times=True) == before
    brought = reconciling.run({"mounts": mounts[1:], "trees": [{"root": "/srv/t", "entries": [{"path": "a"}]}]})
    assert brought["errors"] == [], "what this very declaration makes is there in time"


def test_a_task_that_is_tried_again_declares_the_same_again(host: None) -> None:
    task = {LAYOUT: {"trees": [TREE], "return_resources": True}}
    (done,) = play([{**task, "until": "result_0 is not changed", "retries": 2, "delay": 0}]).results
    assert done["attempts"] == 2 and not done["changed"]
    assert [tree["counts"]["present"] for tree in done["resources"]["trees"]] == [1]


def test_a_result_stays_small_however_much_is_asked_for(host: None) -> None:
    """2,800 directories, in check mode and for real; all is counted, the first of each list are shown."""
    paths = ("builds", "artifacts", "cache", "cache/docker-layers", "cache/dependencies", "cache/git-repos", ".")
    entries = [{"path": path} for path in paths]
    options: dict[str, Any] = {"trees": [{"root": "/srv/t/%03d" % n, "entries": entries} for n in range(400)]}
    options["tmpfs"] = [{"path": "/mnt/s", "size": "1MiB"}]
    sent = {"_declaration": json.dumps(options), "_secrets": [], "return_resources": True}  # as the action plugin does
    for check in (True, False):
        done = module.run("layout", sent, check=check, diff=True)
        assert len(json.dumps(done.result)) < 256 * 1024
        assert done.result["summary"]["planned"] > 2800 and done.result["resources_total"] == {"tmpfs": 1, "trees": 400}
        shown = done.result["resources"]
        assert len(shown["tmpfs"]) == 1 and 50 < len(shown["trees"]) < 400
        beneath = ["/srv/t/001/" + path for path in paths[:-1]]
        assert shown["trees"][1]["changed_paths"] == sorted(["/srv/t/001", *beneath])


def test_one_directory_under_two_names_is_made_and_changed_once(host: None) -> None:
    """What is done to it by one name is done by the other; and it is taken back once."""
    for name in ("one", "two", "zz/fixed"):
        os.makedirs("/srv/two_names/" + name)
    subprocess.run(["mount", "--bind", "/srv/two_names/one", "/srv/two_names/two"], check=True)
    subprocess.run(["mount", "--bind", "-o", "ro", "/srv/two_names/zz/fixed", "/srv/two_names/zz/fixed"], check=True)
    entries = [{"path": name, "mode": "0750"} for name in ("one", "two")]
    entries += [{"path": name + "/new", "mode": "0700", "acl": ["u:1000:r-x"]} for name in ("one", "two")]
    tree = {"root": "/srv/two_names", "entries": entries}
    try:
        reconciling.run(
            {"trees": [{"root": "/srv/first", "entries": [{"path": "."}]}]}
        )  # for the folder of the journal
        before = reconciling.snapshot()
        failed = reconciling.run({"trees": [{**tree, "entries": [*entries, {"path": "zz/fixed", "mode": "0700"}]}]})
        assert [error["code"] for error in failed["errors"]] == ["denied"], failed
        assert (failed["summary"]["undone"], failed["summary"]["kept"]) == (4, 0), failed
        assert reconciling.snapshot() == before
        done = reconciling.run({"trees": [tree]})
        assert done.get("errors") == [] and done["summary"]["applied"] == done["summary"]["planned"] == 4, done
        assert [stat("/srv/two_names/" + name) for name in ("one", "one/new")] == ["750", "750"]
        assert reconciling.run({"trees": [tree]})["actions"] == []
    finally:
        for name in ("two", "zz/fixed"):
            subprocess.run(["umount", "/srv/two_names/" + name], check=True)
        shutil.rmtree("/srv/two_names")
        os.rmdir("/srv/first")


def test_a_line_for_a_mount_point_that_is_a_link_is_refused(host: None) -> None:
    os.symlink("/mnt/b", "/srv/link")
    line = {"path": "/srv/link", "source": "/mnt", "bind": True, "state": "present"}
    for check in (True, False):
        assert module.run("mount", line, check=check).result["code"] == "unsafe_path"
    os.unlink("/srv/link")
