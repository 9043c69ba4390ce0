# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugin of layout packs, the module unpacks."""

from __future__ import annotations

import json

import pytest

from ansible_collections.bulkhead.storage.plugins.action import layout as action
from ansible_collections.bulkhead.storage.plugins.module_utils import _layout


@pytest.mark.parametrize("count", [0, 1, 100, 3000])
def test_a_declaration_arrives_as_it_was_sent(count: int) -> None:
    document = {"trees": [{"root": "/srv/t%d" % i, "entries": [{"path": "\u00e9\u2028"}]} for i in range(count)]}
    text = json.dumps(document)
    packed = action._packed(text)
    assert json.loads(_layout._unpacked(packed)) == document
    assert packed == text if len(text) < 4096 else len(packed) < len(text) / 4
