# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyrings: bytes in, keys out."""

from __future__ import annotations

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_keyring

KEY = "AQCCDANrbEi3BRAA4GQindZaDYI42g3MxB8qgg=="


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", {}),
        (b"\n  \n# nothing\n; either\n", {}),
        (b"[client.a]\n\tkey = " + KEY.encode() + b"\n", {"client.a": KEY}),
        (b"[client.a]\nkey=" + KEY.encode(), {"client.a": KEY}),
        (b'  [ client.a ]\r\n\tkey = x==\r\n\tcaps mon = "allow r"\r\n', {"client.a": "x=="}),
        (b"[client.a]\n[client.b]\nkey = y\n", {"client.a": "", "client.b": "y"}),
        (b"[client.a]\nkey = x\nkey = y\n", {"client.a": "y"}),
        (b"key = x\n", None),
        (b"[client.a\nkey = x\n", None),
        (b"[client.a]\nanything\n", None),
        (b"root:x:0:0\n", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_keys(data: bytes, found: object) -> None:
    assert ceph_keyring.keys(data) == found


def test_what_is_written_is_read() -> None:
    assert ceph_keyring.keys(ceph_keyring.text("client.a", KEY)) == {"client.a": KEY}
