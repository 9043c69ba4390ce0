# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each guard of the adapters that overwrite devices has a row in the lab that notices when it is gone, or a reason."""

from __future__ import annotations

import re

import pytest

from ansible_collections.bulkhead.storage.tests.lab.inside.alpha import test_destroying as rows
from ansible_collections.bulkhead.storage.tests.support import guards


@pytest.mark.parametrize("file", guards.FILES)
def test_each_guard_has_its_row_or_a_reason(file: str) -> None:
    found = list(guards.removed(file))
    reasons = [rows.first_of(rows.ACCEPTED.items(), guard) for guard in found]
    lost = [
        guard.key
        for guard, why in zip(found, reasons)
        if not why and rows.first_of(rows.NOTICES, guard) not in rows.ROWS
    ]
    assert found and lost == [], "add it to NOTICES in test_destroying.py, with a row that fails without it"
    for guard in found:
        guards.without(guard)  # is still a program


def test_no_reason_is_stale() -> None:
    every = [guard.key for file in guards.FILES for guard in guards.removed(file)]
    assert [pattern for pattern in rows.ACCEPTED if not any(re.search(pattern, key) for key in every)] == []
