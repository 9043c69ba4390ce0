# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of SELinux against their contract, with a policy loaded."""

from __future__ import annotations

from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.unit.ports import test_port_contract as contract
from ansible_collections.bulkhead.storage.tests.unit.ports.test_port_contract import *  # noqa: F403  # pylint: disable=wildcard-import,unused-wildcard-import

CASES = contract.found("selinux_case_")


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Iterator[contract.Case]:
    with request.param() as made:
        yield contract.Case(*made)


def test_all_adapters_with_a_factory_are_here() -> None:
    assert list(CASES) == ["selinux fcontext", "selinux label"]
