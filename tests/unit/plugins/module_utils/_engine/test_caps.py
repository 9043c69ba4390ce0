# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities: what grants the same is the same text, and what is none is not read as one."""

from __future__ import annotations

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import caps

SAME = [
    (" allow   r ", "allow r"),
    ("allow r,allow rw pool=a", "allow r, allow rw pool=a"),
    ("allow rw pool=a; allow r", "allow r, allow rw pool=a"),
    ("allow rw pool = a namespace=b", "allow rw pool=a namespace=b"),
    ("allow rw pool a namespace b", "allow rw pool=a namespace=b"),
    ("allow rw pool='a' namespace=\"b\"", "allow rw pool=a namespace=b"),
    ("allow rw pool='a b'", 'allow rw pool="a b"'),
    ("allow r, allow r,", "allow r"),
    ("allow class-read object_prefix rbd_children", "allow class-read object_prefix=rbd_children"),
    ('allow command "osd pool ls" with x=y', 'allow command "osd pool ls" with x=y'),
    ("allow rw path=/a uid=10 gids=1, 2,3, allow r", "allow r, allow rw path=/a uid=10 gids=1,2,3"),
    ("allow rw tag cephfs *=*", "allow rw tag cephfs *=*"),
    ('allow rw pool=a namespace=""', 'allow rw pool=a namespace=""'),
    ("profile rbd pool=a, profile rbd-read-only pool=b", "profile rbd pool=a, profile rbd-read-only pool=b"),
    ("", ""),
]
NONE = ["allow r =", "= r", "allow pool=", "allow pool=,", "allow 'r", 'allow "r', "allow r=="]


@pytest.mark.parametrize(("text", "plain"), SAME)
def test_one_spelling(text: str, plain: str) -> None:
    assert caps.canonical(text) == plain == caps.canonical(plain)


def test_another_order_of_words_is_not_taken_for_the_same() -> None:
    assert caps.canonical("allow rw namespace=b pool=a") != caps.canonical("allow rw pool=a namespace=b")
    assert caps.canonical("allow rwx pool=a") != caps.canonical("allow rw pool=a")


@pytest.mark.parametrize("text", NONE)
def test_what_cannot_be_read_stays_as_it_is(text: str) -> None:
    assert caps.clauses(text) is None
    assert caps.canonical("  %s  " % text) == text


def test_the_value_of_a_word() -> None:
    (clause,) = caps.clauses("allow rw pool=a namespace b") or ()
    assert [caps.named(clause, word) for word in ("pool", "namespace", "path")] == ["a", "b", None]
