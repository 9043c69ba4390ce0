# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every port against its contract, on the guest's kernel."""

from __future__ import annotations

from ansible_collections.bulkhead.storage.tests.unit.ports.test_port_contract import *  # noqa: F403  # pylint: disable=wildcard-import,unused-wildcard-import
