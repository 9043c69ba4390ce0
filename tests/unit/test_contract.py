# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module promises: thin, documented, and each of its examples does on a real kernel what it says.

An example that needs what this kernel may lack is marked by a comment above it, ``# needs: xfs``; it must be refused.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import docs_layout
import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import errors
from ansible_collections.bulkhead.storage.tests.support import host, module

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
NAMES = [path.stem for path in FILES]
CHANGING = [name for name in NAMES if not name.endswith("_info")]
ATTRIBUTES = {"check_mode", "diff_mode", "idempotent", "platform", "action_group"}
NOBODYS = {"invocation", "diff", "failed", "warnings", "deprecations", "exception"}  # Ansible's own keys
# How an example is refused where something is lacking. EC2 is asked by tests/integration/test_ebs_volume.py; a cluster
# of Ceph is one that is told of in /etc/ceph.
LACKING: dict[str, tuple[str, ...]] = {"": ("not_enforced", "unsupported", "missing_tool")}
LACKING.update(ec2=("invalid",), ceph=("not_found",))
FAST = {"name": "fast", "backend": "btrfs", "config": {"path": "/srv/pools/fast"}}
WORKSPACE = {"name": "workspace", "namespace": "blue", "pool": "fast", "size": "1GiB", "labels": {"tier": "pro"}}
# What must be there before the examples of a module make sense: the examples of others.
BEFORE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "volume": [("pool", FAST)],
    "pool_info": [("pool", FAST)],
    "snapshot": [("pool", FAST), ("volume", WORKSPACE)],
    "job": [("volume", {"name": "data", "size": "64MiB"})],
    "volume_info": [
        ("pool", FAST),
        ("volume", {**WORKSPACE, "job": "build-1138", "target": "/srv/jobs/1138", "state": "attached"}),
        ("volume", {"name": "data", "size": "64MiB"}),
    ],
    "quota_info": [("quota", {"path": "/srv/projects/blue", "hard": "1GiB"})],
}


class Example(NamedTuple):
    name: str
    options: dict[str, Any]
    needs: str


class Texts(NamedTuple):
    """A module's file, taken apart."""

    tree: ast.Module
    source: str
    documentation: Any
    examples: str
    returns: Any


def texts(name: str) -> Texts:
    source = (ROOT / "plugins" / "modules" / (name + ".py")).read_text(encoding="utf-8")
    tree = ast.parse(source)
    said = {n.targets[0].id: ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)}  # type: ignore[attr-defined]
    documentation = yaml.safe_load(said["DOCUMENTATION"])
    for fragment in documentation.get("extends_documentation_fragment", []):
        _extend(documentation, fragment)
    return Texts(tree, source, documentation, said["EXAMPLES"], yaml.safe_load(said["RETURN"]))


def _extend(documentation: Any, fragment: str) -> None:
    namespace, collection, file, *variable = fragment.split(".")
    where = "ansible_collections.%s.%s.plugins.doc_fragments.%s" % (namespace, collection, file)
    plugin = importlib.import_module(where)
    said = getattr(plugin.ModuleDocFragment, variable[0].upper() if variable else "DOCUMENTATION")
    for key, value in yaml.safe_load(said).items():
        if isinstance(value, dict):
            documentation.setdefault(key, {}).update(value)


def examples(name: str) -> list[Example]:
    text = texts(name).examples
    lines = text.splitlines()
    found = []
    for node, task in zip(yaml.compose(text).value, yaml.safe_load(text)):
        mark = re.fullmatch(r"# needs: (\w+)", lines[node.start_mark.line - 1].strip())
        action = "bulkhead.storage." + name
        found.append(Example(task.get("name", ""), task.get(action) or {}, mark.group(1) if mark else ""))
        extra = set(task) - {"name", action, "register", "delegate_to"}
        if not task.get("name") or action not in task or extra:
            raise ValueError("an example of %s is not a named task of it alone: %s" % (name, task))
    return found


def spec(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The argument spec and the rules that the module is built with."""
    if name == "layout":
        generic = {option: {"type": said["type"]} for option, said in yaml.safe_load(docs_layout._GENERIC).items()}
        return {**_shell.COMMON, **generic, **{each: _kinds.option(each) for each in _kinds.LISTS}}, {}
    found = importlib.import_module("ansible_collections.bulkhead.storage.plugins.modules." + name)
    (resource,) = (getattr(found, n) for n in dir(found) if hasattr(getattr(found, n), "KIND"))
    if name.endswith("_info"):
        return resource.FILTERS, {}
    return {**_shell.COMMON, **resource.OPTIONS}, resource.RULES


# -- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_documentation_and_a_main(name: str) -> None:
    tree, source = texts(name).tree, texts(name).source
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions == ["main"]
    rest = [
        n for n in tree.body if not isinstance(n, (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.If))
    ]
    assert rest == []
    last = max(node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Assign))
    code = [line for line in source.splitlines()[last:] if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_described(name: str) -> None:
    said = texts(name).documentation
    assert said["module"] == name
    assert said["version_added"] and said["author"] and said["short_description"] and said["description"]
    assert set(said["attributes"]) >= ATTRIBUTES
    for attribute in ("check_mode", "diff_mode", "idempotent"):
        assert said["attributes"][attribute]["support"] == "full"
    assert said["attributes"]["action_group"]["membership"] == ["bulkhead.storage.storage"]
    assert list(_undescribed(said["options"], "suboptions")) == []
    assert list(_undescribed(texts(name).returns, "contains")) == []


def _undescribed(options: dict[str, Any], below: str) -> Iterator[str]:
    for option, said in options.items():
        if not said.get("description") or not said.get("type"):
            yield option
        yield from _undescribed(said.get(below) or {}, below)


def test_every_module_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    assert runtime["action_groups"]["storage"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_are_the_real_ones(name: str) -> None:
    wanted, _rules = spec(name)
    assert _documented(texts(name).documentation["options"]) == _specified(wanted, name == "layout")


def _documented(options: dict[str, Any]) -> dict[str, Any]:
    kept = ("type", "required", "default", "choices", "elements", "aliases")
    return {
        option: {**{k: said[k] for k in kept if k in said}, "below": _documented(said.get("suboptions") or {})}
        for option, said in options.items()
    }


def _specified(options: dict[str, Any], layout: bool) -> dict[str, Any]:
    kept = ("type", "required", "default", "choices", "elements", "aliases")
    found = {
        option: {**{k: said[k] for k in kept if k in said}, "below": _specified(said.get("options") or {}, False)}
        for option, said in options.items()
    }
    if layout:  # its own few options are held by the sanity test
        documented = _documented(yaml.safe_load(docs_layout._GENERIC))
        found.update(documented)
    return found


def test_the_options_of_layout_are_those_of_its_kinds() -> None:
    assert docs_layout.FRAGMENT.read_text(encoding="utf-8") == docs_layout.text()


def test_results_are_documented_alike() -> None:
    """What every module returns is described in the same words."""
    common = ("changed", "actions", "plan_digest", "summary", "journal", "code", "hint", "errors", "errors_total")
    for key in common:
        described = []
        for name in CHANGING:
            said = texts(name).returns[key]
            if name == "layout":  # which tells the fields too
                assert said["description"] and (said.get("elements", said["type"]) != "dict" or said["contains"])
            else:
                described.append({k: v for k, v in said.items() if k != "sample"})
        assert [said for said in described if said != described[0]] == []


def test_every_code_is_explained() -> None:
    text = (ROOT / "docs" / "docsite" / "rst" / "errors.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - ``(\w+)``\n     - (.+)\n     - (.+)\n     - (.+)$", text, re.MULTILINE)
    assert [row[0] for row in rows] == sorted(errors.CODES)
    assert text.count("   * - ") == len(rows) + 1  # and the heading


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid(name: str) -> None:
    if name == "layout":
        for example in examples(name):
            assert _kinds.entries(example.options, {"allow_unstable_device": False}, set())[1] == [], example.name
        return
    options, rules = spec(name)
    for example in examples(name):
        checked = ArgumentSpecValidator(options, **rules).validate(dict(example.options))
        assert checked.error_messages == [], example.name


# -- the world -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="class")
def quiet(private_mounts: None) -> Iterator[None]:
    """One world for all that change nothing in it."""
    with host.host():
        yield


@pytest.fixture
def world(private_mounts: None) -> Iterator[None]:
    with host.host():
        yield


@pytest.mark.parametrize("name", CHANGING)
def test_examples_do_what_check_mode_says(name: str, world: None) -> None:
    prepare(name)
    for example in examples(name):
        before = host.picture()
        foreseen = module.run(name, sent(name, example.options), check=True, diff=True)
        assert host.changed(before, host.picture()) == [], example.name
        if example.needs:
            assert foreseen.result["code"] in LACKING.get(example.needs, LACKING[""]), example.name
            continue
        done = module.run(name, sent(name, example.options))
        assert _said(foreseen) == _said(done), example.name
        assert done.rc == 0 and done.result["changed"], example.name
        assert foreseen.result["actions"] == done.result["actions"], example.name
        assert foreseen.result["plan_digest"] == done.result["plan_digest"], example.name
        assert host.changed(before, host.picture()), example.name
        again = module.run(name, sent(name, example.options))
        assert (_said(again), again.result["changed"], again.result["actions"]) == ("", False, []), example.name
        before = host.picture()
        last = module.run(name, sent(name, example.options), check=True)
        assert (_said(last), last.result["changed"], last.result["actions"]) == ("", False, []), example.name
        assert host.changed(before, host.picture()) == [], example.name
        for run in (foreseen, done, again, last):
            assert "warnings" not in run.result, example.name
            documented(name, run.result, ("always", "success", "success, or when an action failed"))


def test_what_is_taken_and_dropped_is_warned_of(world: None) -> None:
    wanted = {"path": "/mnt/x", "server": "nfs1", "export": "/x", "state": "present", "options": ["intr", "noatime"]}
    done = module.run("nfs_mount", sent("nfs_mount", wanted), check=True)
    assert done.rc == 0 and "intr is dropped" in str(done.result["warnings"]) and len(done.result["warnings"]) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_info")])
def test_examples_that_only_look_change_nothing(name: str, world: None) -> None:
    prepare(name)
    for example in examples(name):
        before = host.picture()
        for check in (False, True):
            done = module.run(name, sent(name, example.options), check=check)
            if example.needs and example.needs in LACKING:
                assert done.result["code"] in LACKING[example.needs], example.name
                continue
            assert _said(done) == "" and done.result["changed"] is False, example.name
            (rows,) = (value for key, value in done.result.items() if isinstance(value, list))
            assert rows or example.needs, example.name
            documented(name, done.result, ("always", "success"))
        assert host.changed(before, host.picture()) == [], example.name


class TestRefusals:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_refusal_has_the_documented_shape(self, name: str, quiet: None) -> None:
        done = module.run(name, {"no_such_option": 1})
        assert done.rc == 1 and done.result["code"] == "invalid"
        documented(name, done.result, ("always", "failure"))

    @pytest.mark.parametrize(
        ("name", "options", "code"),
        [
            ("tmpfs", {"path": "relative", "size": "1MiB"}, "invalid"),
            ("tmpfs", {"path": "/mnt/" + "-" * 63, "size": "1MiB", "persist": "unit"}, "invalid"),
            ("tree", {"root": "/srv/t", "entries": [{"path": "../x"}]}, "invalid"),
            ("mount", {"path": "/mnt/x", "source": "/srv/images/tools.img", "fstype": "tmpfs"}, "invalid"),
            ("quota", {"path": "/srv/projects", "hard": "1GiB"}, "unsupported"),
            ("quota", {"path": "/mnt", "hard": "1GiB"}, "not_enforced"),
            ("quota", {"path": "/srv/projects/blue", "hard": "1GiB", "grace": "1d"}, "unsupported"),
            ("quota_info", {"path": "/srv/projects"}, "unsupported"),
            ("block_device", {"device": "/dev/disk/by-id/virtio-data-0001", "label": "gpt"}, "not_blank"),
            ("block_device", {"device": "/srv/images/pool.img", "label": "gpt"}, "invalid"),
            ("filesystem", {"device": "/dev/disk/by-id/virtio-data-0001", "fstype": "vfat"}, "not_blank"),
            ("filesystem", {"device": "/dev/disk/by-id/virtio-data-0001", "fstype": "xfs"}, "no_space"),
            ("filesystem", {"device": "/srv/images/noise.img", "fstype": "ext4"}, "not_blank"),
            ("filesystem", {"device": "/srv/images/pool.img", "fstype": "swap", "check": True}, "unsupported"),
            ("luks_device", {"device": "/srv/images/noise.img", "name": "x", "key_file": "/k"}, "unsupported"),
            ("luks_device", {"device": "/dev/disk/by-id/virtio-blank-0001", "name": "x", "tenant": "t"}, "unsupported"),
            (
                "luks_device",
                {"device": "/dev/disk/by-id/virtio-blank-0001", "name": "a/b", "passphrase": "p"},
                "invalid",
            ),
            ("luks_device", {"device": "/dev/disk/by-id/virtio-blank-0001", "name": "x"}, "invalid"),
            ("io_limit", {"name": "x", "path": "/srv", "write_bps": "0"}, "invalid"),
            ("io_limit", {"name": "x", "path": "/srv", "write_iops": -1}, "invalid"),
            ("io_limit", {"name": "x", "path": "/srv", "burst_iops": 100}, "unsupported"),
            ("io_limit", {"name": "x", "path": "/srv", "write_bps": "1MiB"}, "unsupported"),
            ("nfs_export", {"path": "/srv", "clients": [{"host": "192.0.2.1/24"}]}, "invalid"),
            ("nfs_export", {"path": "/srv", "clients": [{"host": "h", "options": ["read_only"]}]}, "invalid"),
            ("nfs_export", {"path": "/srv", "clients": [{"host": "192.0.2.1"}]}, "missing_tool"),
            ("iscsi_target", {"target": "disks", "luns": []}, "invalid"),
            ("iscsi_target", {"target": "iqn.2026-01.org.example:a"}, "invalid"),
            ("iscsi_target", {"target": "iqn.2026-01.org.example:a", "luns": [{"lun": 0, "file": "/x"}]}, "not_found"),
            ("iscsi_target", {"target": "iqn.2026-01.org.example:a", "luns": []}, "missing_tool"),
            ("iscsi_session", {"target": "iqn.2026-01.org.example:a"}, "invalid"),
            ("iscsi_session", {"target": "iqn.2026-01.org.example:a", "portals": ["san"]}, "invalid"),
            ("iscsi_session", {"target": "iqn.2026-01.org.example:a", "portals": ["192.0.2.1"]}, "missing_tool"),
            ("ebs_volume", {"name": "a"}, "invalid"),
            ("ebs_volume", {"name": "a", "region": "us-east-1", "volume_id": "vol-1"}, "invalid"),
            ("ebs_volume", {"name": "a", "region": "us-east-1", "profile": "nobody"}, "not_found"),
            ("ceph_pool", {"name": "a"}, "invalid"),
            ("ceph_pool", {"name": "a/b", "user": "x"}, "invalid"),
            ("ceph_pool", {"name": "a", "user": "x", "size": 2, "min_size": 3}, "invalid"),
            ("ceph_pool", {"name": "a", "user": "x", "size": 1}, "would_destroy"),
            ("ceph_pool", {"name": "a", "user": "x"}, "not_found"),
            ("ceph_pool_info", {}, "invalid"),
            ("ceph_pool_info", {"user": "x"}, "not_found"),
            ("ceph_user", {"name": "a", "user": "x"}, "invalid"),
            ("ceph_user", {"name": "a", "user": "x", "caps": {"osd": "allow rw namespace=b"}}, "invalid"),
            ("ceph_user", {"name": "client.admin", "user": "x", "caps": {"mon": "allow r"}}, "protected"),
            ("ceph_user", {"name": "a", "user": "x", "caps": {"mon": "allow r"}}, "not_found"),
            ("pool", {"name": "Fast", "backend": "loop", "config": {"path": "/srv/p"}}, "invalid"),
            ("volume", {"name": "data"}, "invalid"),
            ("volume", {"name": "data", "size": "1GiB", "pool": "none"}, "not_found"),
            ("volume", {"name": "data", "size": "64MiB", "fstype": "btrfs"}, "invalid"),
        ],
    )
    def test_refusals(self, name: str, options: dict[str, Any], code: str, quiet: None) -> None:
        """The same in check mode and in the real run, documented, and nothing has changed."""
        before = host.picture()
        for check in (True, False):
            done = module.run(name, options, check=check)
            assert (done.rc, done.result.get("code")) == (1, code), done.result.get("msg")
            assert done.result["errors"][0]["code"] == code and done.result["errors_total"] == len(
                done.result["errors"]
            )
            documented(name, done.result, ("always", "failure"))
        assert host.changed(before, host.picture()) == []


def test_a_passphrase_is_in_no_answer(world: None) -> None:
    device = {"device": "/dev/disk/by-id/virtio-blank-0001", "name": "x", "passphrase": "canary-8c1f"}
    for module_name, options in (("luks_device", device), ("layout", sent("layout", {"luks_devices": [device]}))):
        for check in (True, False):
            done = module.run(module_name, options, check=check, diff=True)
            assert done.rc == 1 and "canary" not in json.dumps(done.result), module_name


def test_drift_is_mended_only_as_far_as_the_user_said(world: None) -> None:
    tools = {"path": "/mnt/x", "source": "/srv/images/tools.img", "fstype": "ext4", "persist": "none"}
    other = {"path": "/mnt/x", "source": "/srv/data", "bind": True, "persist": "none"}
    assert module.run("mount", tools).rc == 0
    before = host.picture()
    for options in ({**tools, "read_only": True, "on_drift": "fail"}, {**other, "on_drift": "fail"}, other):
        for check in (True, False):
            assert module.run("mount", options, check=check).result.get("code") == "conflict", options
    assert module.run("mount", {**tools, "on_drift": "fail"}).result["changed"] is False
    assert host.changed(before, host.picture()) == []
    assert module.run("mount", {**other, "on_drift": "replace"}).result["changed"] is True
    assert sorted(os.listdir("/mnt/x")) == ["public"]


def test_a_volume_is_not_made_where_its_size_means_nothing(world: None) -> None:
    lax = {"name": "lax", "backend": "directory", "config": {"path": "/mnt/lax"}}
    vague = {"name": "vague", "backend": "btrfs", "config": {"path": "/mnt/vague"}}
    assert module.run("pool", vague).rc == 0
    before = host.picture()
    for check in (True, False):
        assert module.run("pool", lax, check=check).result.get("code") == "not_enforced"
        refused = module.run("volume", {"name": "data", "pool": "vague", "size": "1MiB"}, check=check)
        assert refused.result.get("code") == "not_enforced"
    assert host.changed(before, host.picture()) == []


def test_what_is_not_there_is_not_shown_as_unlimited(world: None) -> None:
    """A directory without a limit is listed without one; a directory that does not exist fails the task."""
    os.mkdir("/mnt/plain")
    bare = module.run("quota_info", {"path": "/srv/projects/blue"}).result["quotas"][0]
    assert set(bare["limits"].values()) == {None}
    for path in ("/srv/projects/green", "/srv/no/such/place", "/mnt/nothing"):
        answer = module.run("quota_info", {"path": ["/srv/projects/blue", path]})
        assert (answer.rc, answer.result.get("code")) == (1, "not_found") and path in answer.result["msg"]
    assert module.run("quota_info", {"path": "/mnt/plain"}).result["code"] == "not_enforced"


def test_a_volume_shrinks_as_foreseen(world: None) -> None:
    assert module.run("volume", {"name": "data", "size": "64MiB"}).rc == 0
    smaller = {"name": "data", "size": "32MiB"}
    assert module.run("volume", smaller).result["code"] == "would_shrink"
    foreseen = module.run("volume", {**smaller, "allow_shrink": True}, check=True)
    done = module.run("volume", {**smaller, "allow_shrink": True})
    assert (_said(done), done.result["plan_digest"]) == ("", foreseen.result["plan_digest"])
    image = "/var/lib/bulkhead/volumes/default/data.img"
    assert os.path.getsize(image) == 32 << 20
    assert subprocess.run(["e2fsck", "-fn", image], check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert module.run("volume", smaller).result["changed"] is False


def test_a_slash_too_many_means_the_same_path(world: None) -> None:
    one = module.run("tmpfs", {"path": "/srv/scratch/", "size": "1MiB", "persist": "none"})
    two = module.run("tmpfs", {"path": "/srv/scratch", "size": "1MiB", "persist": "none"})
    assert (two.result["changed"], two.result["resource"]) == (False, one.result["resource"])
    assert one.result["resource"]["size_bytes"] == 1 << 20


def test_an_action_that_fails_has_the_documented_shape(world: None) -> None:
    options = {"path": "/mnt/noise", "source": "/srv/images/noise.img", "fstype": "ext4", "persist": "none"}
    done = module.run("mount", options)
    assert done.rc == 1 and done.result["summary"]["failed"] == 1
    documented("mount", done.result, ("always", "failure", "success, or when an action failed"))


def sent(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as they reach the target: the action plugin of layout sends all lists as one text."""
    if name != "layout":
        return options
    lists = {key: value for key, value in options.items() if key in (*_kinds.LISTS, "state")}
    rest = {key: value for key, value in options.items() if key not in lists}
    return {"_declaration": json.dumps(lists), "_secrets": [], **rest}


def prepare(name: str) -> None:
    for other, options in BEFORE.get(name, []):
        done = module.run(other, options)
        assert done.rc == 0, done.result.get("msg")


def _said(done: module.Done) -> str:
    return (done.result.get("msg", "") if done.rc else "") + done.stderr


def documented(name: str, result: dict[str, Any], when: tuple[str, ...]) -> None:
    """The keys of a result are those that RETURN says come then, at every depth."""
    returns = texts(name).returns
    sometimes = {key for key, said in returns.items() if said["returned"].startswith("when ")}
    wanted = {key for key, said in returns.items() if said["returned"] in when}
    found = set(result) - NOBODYS
    assert (sorted(found - wanted - sometimes), sorted(wanted - found)) == ([], [])
    for key in found:
        _alike(returns[key], result[key], key)


def _alike(said: dict[str, Any], value: Any, where: str) -> None:
    kinds = {"str": str, "bool": bool, "int": int, "float": (float, int), "list": list, "dict": dict}
    assert value is None or said["type"] == "raw" or isinstance(value, kinds[said["type"]]), where
    for each in value if isinstance(value, list) else [value] if isinstance(value, dict) else []:
        if "contains" in said:
            assert set(each) == set(said["contains"]), where
            for key, below in said["contains"].items():
                _alike(below, each[key], "%s.%s" % (where, key))


def test_the_runner_takes_a_module_as_ansible_does() -> None:
    """No output but the result, whatever Python runs it, and a broken module is an error rather than a result."""
    assert (
        module.run("tmpfs", {"path": "/x", "state": "absent", "persist": "none"}, check=True).result["changed"] is False
    )
    with pytest.raises(ValueError, match="No module named"):
        module.run("no_such_module", {}, python=sys.executable)
