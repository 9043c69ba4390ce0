# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every port against its contract, on the guest's kernel; those too that only this kernel can have."""

from __future__ import annotations

from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.unit.ports import quotactl
from ansible_collections.bulkhead.storage.tests.unit.ports import test_port_contract as contract
from ansible_collections.bulkhead.storage.tests.unit.ports.test_port_contract import *  # noqa: F403  # pylint: disable=wildcard-import,unused-wildcard-import

CASES = {**contract.CASES, **contract.found("guest_case_")}


@pytest.fixture(scope="module", autouse=True)
def filesystems() -> Iterator[None]:
    with quotactl.filesystems():
        yield


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Iterator[contract.Case]:
    with request.param() as made:
        yield contract.Case(*made)


def test_quota_takes_part_on_both_filesystems() -> None:
    kinds = {"project", "user", "group"}
    assert {"quotactl %s_%s" % (fs, kind) for fs in ("xfs", "ext4") for kind in kinds} <= set(CASES)
