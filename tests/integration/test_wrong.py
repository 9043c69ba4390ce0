# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every wrong size, name and path of ``tests/data``: ``invalid``, for a module alone and, all at once, for layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module, reconciling

DATA = Path(__file__).resolve().parents[1] / "data"


def wrong(what: str) -> list[Any]:
    """As a declaration can hold them: texts for names and paths (an option of type str makes one of a number)."""
    listed = yaml.safe_load((DATA / ("wrong_%s.yml" % what)).read_text(encoding="utf-8"))["wrong"]
    listed = [v["repeat"][0] * v["repeat"][1] if isinstance(v, dict) and "repeat" in v else v for v in listed]
    listed = [
        v["escaped"].encode().decode("unicode_escape") if isinstance(v, dict) and "escaped" in v else v for v in listed
    ]
    return [v for v in listed if isinstance(v, str) or (what == "sizes" and isinstance(v, (int, float, list, dict)))]


WRONG = {what: wrong(what) for what in ("sizes", "names", "paths")}


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def test_layout_reports_all_of_them_at_once_in_check_mode_too_and_makes_nothing(host: None) -> None:
    document: dict[str, list[dict[str, Any]]] = {"tmpfs": [], "volumes": [], "pools": []}
    for index, size in enumerate(WRONG["sizes"]):
        document["tmpfs"].append({"path": "/mnt/size-%d" % index, "size": size})
        document["volumes"].append({"name": "size-%d" % index, "size": size})
    for path in (path for path in WRONG["paths"] if path[:1] != "~"):  # that is a home, here as in a module
        document["tmpfs"].append({"path": path, "size": "1MiB"})
    for name in WRONG["names"]:
        document["volumes"].append({"name": name, "size": "1GiB"})
        document["volumes"].append({"name": "good", "namespace": name, "size": "1GiB"})
        document["pools"].append({"name": name, "backend": "loop", "config": {"path": "/srv/pool"}})
    expected = {"%s[%d]" % (kind, index) for kind, entries in document.items() for index in range(len(entries))}
    assert reconciling.run({"volumes": [{"name": "a", "type": "memory", "size": "1MiB"}]})["errors"] == []
    before = reconciling.snapshot(times=True)  # with a catalogue, which is asked for names
    for check in (True, False):
        refused = reconciling.run(document, check=check)["refused"]
        assert {error["code"] for error in refused} == {"invalid"}, [e for e in refused if e["code"] != "invalid"]
        assert {error["entry"].split(" ")[0] for error in refused} == expected
    assert reconciling.snapshot(times=True) == before
    print("%d wrong entries refused at once" % len(expected))
    assert len(expected) >= 300


# Texts only: Ansible itself turns a number into text before a single module sees it, and takes no lone surrogates.
SINGLE = [("tmpfs", {"path": "/mnt/x", "size": v}) for v in WRONG["sizes"] if isinstance(v, str) and v.isprintable()]
SINGLE += [("volume", {"name": v, "size": "1GiB"}) for v in WRONG["names"] if v.isprintable()]


@pytest.mark.parametrize("check", [True, False])
def test_single_modules_refuse_a_sample_of_them(host: None, check: bool) -> None:
    before = reconciling.snapshot(times=True)
    for name, options in SINGLE[:: 6 if check else 5]:
        answer = module.run(name, options, check=check).result
        assert answer["failed"] and answer["code"] == "invalid", (options, answer)
        assert not answer["changed"] and answer["errors"][0]["code"] == "invalid"
    assert reconciling.snapshot(times=True) == before
