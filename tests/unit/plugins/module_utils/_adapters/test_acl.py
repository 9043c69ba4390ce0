# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  (a fixture is imported, and named again as an argument)
"""The ACL codec against the kernel and against setfacl(1) and getfacl(1)."""

from __future__ import annotations

import os
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

IDS = st.one_of(st.integers(0, 70000), st.integers(2**31 - 2, 2**32 - 2))
PERMS = st.sampled_from(["".join(c if n & b else "-" for c, b in zip("rwx", (4, 2, 1))) for n in range(8)])
NAMED = st.dictionaries(st.tuples(st.sampled_from("ug"), IDS), PERMS, max_size=12).map(
    lambda found: tuple(sorted("%s:%d:%s" % (kind, number, perm) for (kind, number), perm in found.items()))
)
HEAD = struct.pack("<I", 2)


def raw(*entries: tuple[int, int, int]) -> bytes:
    return HEAD + b"".join(struct.pack("<HHI", *entry) for entry in entries)


BASE = [(1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (32, 0, 2**32 - 1)]


def getfacl(path: str) -> set[str]:
    out = subprocess.run(["getfacl", "-n", "-p", "-E", path], check=True, stdout=subprocess.PIPE).stdout.decode()
    return {line for line in out.split("\n") if line and not line.startswith("#")}


def code(exc: pytest.ExceptionInfo[StorageError]) -> str:
    return exc.value.code


@given(st.integers(0, 0o777), NAMED)
def test_what_is_encoded_is_decoded(mode: int, named: tuple[str, ...]) -> None:
    found = acl.decode(acl.encode(mode, named))
    assert found.named == named
    assert found.group == mode >> 3 & 7


@given(NAMED, st.randoms())
def test_order_and_repetition_of_entries_do_not_matter(named: tuple[str, ...], random) -> None:  # type: ignore[no-untyped-def]
    packed = acl.encode(0o750, named)[4:]
    entries = [packed[i : i + 8] for i in range(0, len(packed), 8)]
    entries += random.sample(entries, min(3, len(entries)))
    random.shuffle(entries)
    assert acl.decode(HEAD + b"".join(entries)).named == named


def test_the_kernel_keeps_what_we_write_and_getfacl_reads_the_same(arena: str) -> None:
    named = ("g:5:r-x", "g:70000:--x", "u:0:rw-", "u:1001:rwx", "u:4294967294:---")
    os.setxattr(arena, acl.ACCESS, acl.encode(0o710, named))
    assert getfacl(arena) == {
        "user::rwx",
        "user:0:rw-",
        "user:1001:rwx",
        "user:4294967294:---",
        "group::--x",
        "group:5:r-x",
        "group:70000:--x",
        "mask::rwx",
        "other::---",
    }
    assert acl.decode(os.getxattr(arena, acl.ACCESS)) == (1, named)
    assert os.stat(arena).st_mode & 0o777 == acl.masked(0o710, named) == 0o770


def test_without_named_entries_the_kernel_drops_the_attribute(arena: str) -> None:
    os.setxattr(arena, acl.ACCESS, acl.encode(0o700, ("u:5:rwx",)))
    os.setxattr(arena, acl.ACCESS, acl.encode(0o741, ()))
    assert os.listxattr(arena) == []
    assert os.stat(arena).st_mode & 0o777 == 0o741


def test_what_setfacl_wrote_is_read(arena: str) -> None:
    subprocess.run(["setfacl", "-m", "u:1000:rwx,g:6:rx,m::rwx,d:u:7:r", arena], check=True)
    assert acl.decode(os.getxattr(arena, acl.ACCESS)) == (5, ("g:6:r-x", "u:1000:rwx"))
    assert acl.decode(os.getxattr(arena, acl.DEFAULT)).named == ("u:7:r--",)


def test_rights_are_those_within_the_mask_since_chmod_narrows_only_that(arena: str) -> None:
    subprocess.run(["setfacl", "-m", "u:1000:rwx,g::rwx", arena], check=True)
    os.chmod(arena, 0o750)
    assert "user:1000:rwx" in getfacl(arena)
    assert acl.decode(os.getxattr(arena, acl.ACCESS)) == (5, ("u:1000:r-x",))


def test_of_two_entries_for_a_user_the_first_holds_and_the_kernel_does_keep_both(arena: str) -> None:
    both = raw(BASE[0], (2, 7, 9), (2, 4, 9), BASE[1], (16, 7, 2**32 - 1), BASE[2])
    os.setxattr(arena, acl.ACCESS, both)
    assert os.getxattr(arena, acl.ACCESS) == both
    assert acl.decode(both).named == ("u:9:rwx",)


def test_of_two_entries_for_a_group_both_count() -> None:
    assert acl.decode(raw(*BASE, (8, 4, 9), (8, 2, 9))).named == ("g:9:-w-", "g:9:r--")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\0\0",
        b"\1\0\0\0" + raw(*BASE)[4:],
        b"\3\0\0\0" + raw(*BASE)[4:],
        raw(*BASE)[:-1],
        raw(*BASE)[:-4],
        raw(*BASE, (64, 7, 1)),
        raw(BASE[0], BASE[2]),
        HEAD,
    ],
)
def test_a_broken_attribute_is_unreadable(data: bytes) -> None:
    with pytest.raises(StorageError) as exc:
        acl.decode(data)
    assert code(exc) == "unreadable"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_unreadable(data: bytes) -> None:
    for each in (data, HEAD + data):
        try:
            acl.decode(each)
        except StorageError as exc:
            assert exc.code == "unreadable"


@pytest.mark.parametrize(
    "text, directory, canonical",
    [
        ("u:daemon:rwX", True, "u:1:rwx"),
        ("u:daemon:rwX", False, "u:1:rw-"),
        ("user:1000:r-x", True, "u:1000:r-x"),
        ("g:daemon:rwx", True, "g:1:rwx"),
        ("group:0:---", True, "g:0:---"),
        ("u:7:-", True, "u:7:---"),
        ("u:7:x", True, "u:7:--x"),
        ("u:7:5", True, "u:7:r-x"),
        ("u:7:xwr", True, "u:7:rwx"),
        ("u:4294967294:r", True, "u:4294967294:r--"),
        ("u:0007:r", True, "u:7:r--"),
    ],
)
def test_text_entries(text: str, directory: bool, canonical: str) -> None:
    assert acl.parse([text], "acl", directory) == (canonical,)


def test_the_canonical_form_is_sorted_and_each_once() -> None:
    assert acl.parse(["u:9:r", "g:1:w", "user:9:r--", "u:1:x"]) == ("g:1:-w-", "u:1:--x", "u:9:r--")
    assert acl.parse([]) == ()


@pytest.mark.parametrize(
    "entry, hint",
    [
        ("u::rwx", "mode"),
        ("user::rwx", "mode"),
        ("g::r", "mode"),
        ("group::r", "mode"),
        ("m::rwx", "mode"),
        ("mask::r", "mode"),
        ("o::r", "mode"),
        ("other::r", "mode"),
        ("d:u:1:rwx", "default_acl"),
        ("default:u:1:rwx", "default_acl"),
        ("x:1:rwx", "u:<user>"),
        ("u:1", "u:<user>"),
        ("u:1:", "u:<user>"),
        ("u:1:rwq", "u:<user>"),
        ("u:1:rr", "u:<user>"),
        ("u:1:xX", "u:<user>"),
        ("u:1:8", "u:<user>"),
        ("u:1:rwx ", "u:<user>"),
        ("u:1:rwx\n", "u:<user>"),
        ("u:1:\u0663", "u:<user>"),
        ("", "u:<user>"),
        (7, "u:<user>"),
        (None, "u:<user>"),
    ],
)
def test_junk_is_invalid_with_a_hint(entry: object, hint: str) -> None:
    with pytest.raises(StorageError) as exc:
        acl.parse([entry], "default_acl")
    assert code(exc) == "invalid"
    assert hint in exc.value.hint
    assert exc.value.details["option"] == "default_acl"


@pytest.mark.parametrize("entries", ["u:1:rwx", {"u:1:rwx"}, None, 5])
def test_entries_that_are_no_list_are_invalid(entries: object) -> None:
    with pytest.raises(StorageError) as exc:
        acl.parse(entries)
    assert code(exc) == "invalid"


def test_the_same_id_with_different_rights_is_invalid() -> None:
    with pytest.raises(StorageError) as exc:
        acl.parse(["u:daemon:r", "u:1:w"])
    assert code(exc) == "invalid" and "twice" in exc.value.message


@pytest.mark.parametrize("name", ["no-such-user", "a\0b", "\ud800", "é", "root ", "-1", "12345678901"])
def test_a_name_nobody_has_is_not_found(name: str) -> None:
    for kind in "ug":
        with pytest.raises(StorageError) as exc:
            acl.number(kind, name)
        assert code(exc) == "not_found"


@pytest.mark.parametrize("name", [-1, 2**32 - 1, "4294967295", "4294967296", True, 1.5, None, "", ["root"]])
def test_what_is_neither_name_nor_id_is_refused(name: object) -> None:
    with pytest.raises(StorageError) as exc:
        acl.number("u", name)
    assert code(exc) in ("invalid", "not_found")


def test_names_and_ids() -> None:
    out = subprocess.run(["getent", "passwd", "nobody"], check=True, stdout=subprocess.PIPE).stdout.split(b":")
    group = subprocess.run(["getent", "group", "nogroup"], check=True, stdout=subprocess.PIPE).stdout.split(b":")
    assert acl.number("u", "nobody") == acl.number("u", "nobody") == int(out[2])
    assert acl.number("g", "nogroup") == int(group[2])
    assert acl.number("u", "0") == acl.number("u", 0) == 0
