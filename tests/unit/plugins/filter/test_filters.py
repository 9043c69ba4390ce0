# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: what they answer, and that a refusal is Ansible's failure with the collection's own words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.filter import (
    job_host_cleanup,
    job_host_layout,
    safe_join,
    size_bytes,
    size_human,
    tenant_layout,
)
from ansible_collections.bulkhead.storage.tests.support.playing import play

ALL = (job_host_cleanup, job_host_layout, safe_join, size_bytes, size_human, tenant_layout)


@pytest.mark.parametrize(
    "text, number",
    [
        ("512", 512),
        (512, 512),
        ("10KB", 10240),
        ("5MB", 5 << 20),
        ("1GB", 1 << 30),
        ("100Mi", 100 << 20),
        ("2gi", 2 << 30),
    ],
)
def test_size_bytes(text: Any, number: int) -> None:
    assert size_bytes.size_bytes(text) == number


@pytest.mark.parametrize("junk", ["", "0", "-1", "1e9", "0x10", "10%", "1.5", True, None, 1.5, [], "1 GB\n", "٣"])
def test_size_bytes_refuses(junk: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="size .* (is not a size|must be greater than zero)"):
        size_bytes.size_bytes(junk)


@pytest.mark.parametrize(
    "number, text", [(0, "0B"), (1, "1B"), (1 << 30, "1GiB"), (1610612736, "1536MiB"), ("1GB", "1GiB")]
)
def test_size_human(number: Any, text: str) -> None:
    assert size_human.size_human(number) == text
    if number:
        assert size_human.size_human(size_bytes.size_bytes(text)) == text


def test_size_human_refuses() -> None:
    for junk in (False, -1, "much"):
        with pytest.raises(AnsibleFilterError):
            size_human.size_human(junk)


def test_safe_join() -> None:
    assert safe_join.safe_join("/srv/a/", "b/c", "d") == "/srv/a/b/c/d"
    assert safe_join.safe_join("/srv", ".") == "/srv"


@pytest.mark.parametrize("part", ["../b", "/etc", "a/../../b", "a//b", "", "a\nb", "a\0b", None, 7, "./a", ".."])
def test_safe_join_refuses(part: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="path"):
        safe_join.safe_join("/srv/tenant-1", part)
    with pytest.raises(AnsibleFilterError, match="absolute"):
        safe_join.safe_join("srv", "a")


def test_maps_fail_with_the_words_of_the_collection() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        tenant_layout.tenant_layout([{"name": "../x", "tier": "free"}], {})
    assert str(caught.value).startswith("tenant_list[0]: tenant '../x' is not a valid name (1 to 63 of")
    with pytest.raises(AnsibleFilterError, match=r"job_host_pools\[0\]: name 'Ä' is not a valid name"):
        job_host_layout.job_host_layout("/srv", pools=[{"name": "Ä"}])


def test_every_filter_is_found_by_its_name_and_documented() -> None:
    names = [module.__name__.rsplit(".", 1)[1] for module in ALL]
    for module, name in zip(ALL, names):
        assert list(module.FilterModule().filters()) == [name]
    roots = [path for path in sys.path if os.path.isdir(path + "/ansible_collections/bulkhead/storage")]
    program = os.path.join(os.path.dirname(sys.executable), "ansible-doc")
    argv = [program, "--type", "filter", "--json", *("bulkhead.storage." + name for name in names)]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(roots)}
    shown = json.loads(subprocess.run(argv, env=env, stdout=subprocess.PIPE, check=True).stdout)
    assert sorted(shown) == sorted("bulkhead.storage." + name for name in names)
    assert all(entry["examples"] and entry["return"] and entry["doc"]["options"]["_input"] for entry in shown.values())


def test_in_a_play() -> None:
    task = {"ansible.builtin.debug": {"msg": "{{ '1GB' | bulkhead.storage.size_bytes | bulkhead.storage.size_human }}"}}
    wrong = {"ansible.builtin.debug": {"msg": "{{ '/srv' | bulkhead.storage.safe_join('../etc') }}"}}
    right, failed = play([task, wrong]).results
    assert right["msg"] == "1GiB"
    assert failed["failed"] and "holds an empty, '.' or '..' component" in failed["msg"]
