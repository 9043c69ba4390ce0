# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options: other names of one thing, secrets that are never repeated, lines of fstab that keep what they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options

SPELLED = [
    ("btrfs", "subvol=sv", {"o:subvol": "/sv"}),
    ("btrfs", "subvol=/a/b/", {"o:subvol": "/a/b"}),
    ("btrfs", "compress", {"o:compress": "zlib"}),
    ("btrfs", "compress=none", {"o:compress": "no"}),
    ("btrfs", "compress-force=zstd:7", {"o:compress-force": "zstd:7"}),
    ("ext4", "async", {"o:sync": False}),
    ("ext4", "sync", {"o:sync": True}),
    ("ext4", "nodiscard", {"o:discard": False}),
    ("ext4", "barrier=1", {"o:barrier": True}),
    ("ext4", "quota", {"o:quota": True}),
    ("xfs", "quota", {"o:usrquota": True}),
    ("xfs", "uquota", {"o:usrquota": True}),
    ("xfs", "gquota", {"o:grpquota": True}),
    ("xfs", "pquota", {"o:prjquota": True}),
    ("xfs", "allocsize=1m", {"o:allocsize": "1024k"}),
    ("xfs", "logbsize=262144", {"o:logbsize": "256k"}),
    ("vfat", "umask=22", {"o:fmask": "0022", "o:dmask": "0022"}),
    ("vfat", "fmask=0133", {"o:fmask": "0133"}),
    ("hfsplus", "umask=022", {"o:umask": "022"}),
]


@pytest.mark.parametrize("fstype, word, fields", SPELLED, ids=str)
def test_a_word_becomes_what_the_kernel_shows_and_stays_as_written_in_fstab(
    fstype: str, word: str, fields: dict[str, Any]
) -> None:
    assert mount_options.parse([word], fstype) == (fields, [word])


def test_a_narrower_mask_comes_after_a_wider_one() -> None:
    assert mount_options.parse(["umask=022", "fmask=133"], "vfat")[0] == {"o:fmask": "0133", "o:dmask": "0022"}


UNSAFE = [
    ("barrier=0", {"o:nobarrier": True}), ("nobarrier", {"o:nobarrier": True}), ("nobh", {}),
    ("data=writeback", {"o:data": "writeback"}),
]  # fmt: skip


@pytest.mark.parametrize("word, fields", UNSAFE, ids=str)
def test_what_loses_data_takes_its_own_name(word: str, fields: dict[str, Any]) -> None:
    """Each by itself: to accept one is not to accept another."""
    for accepted in ((), [other for other, _fields in UNSAFE if other != word]):
        with pytest.raises(StorageError) as caught:
            mount_options.parse([word], "ext4", accepted=accepted)
        assert caught.value.code == "invalid" and "allow_unsafe_options" in caught.value.hint
    assert mount_options.parse([word], "ext4", accepted=[word]) == (fields, [word])


@pytest.mark.parametrize("words", [["sync", "async"], ["nodiscard", "discard"], ["ro", "rw"], ["subvol=a", "subvol=b"]])
def test_words_that_contradict_each_other(words: list[str]) -> None:
    with pytest.raises(StorageError) as caught:
        mount_options.parse(words, "btrfs")
    assert caught.value.code == "invalid" and "contradicts" in caught.value.message


NAMES = ["secret", "password", "pass", "passwd", "cred", "password2", "Password", " secret"]
WORDS = ["%s=%s" % (name, value) for name in NAMES for value in ("hunter2", "hunter2==", "hunter2 x")]


@pytest.mark.parametrize("word", [*WORDS, "noatime secret=hunter2", "key==hunter2"])
@pytest.mark.parametrize("fstype", ["ceph", "tmpfs"])
def test_a_secret_is_refused_and_never_repeated(fstype: str, word: str) -> None:
    with pytest.raises(StorageError) as caught:
        mount_options.parse([word], fstype)
    assert caught.value.code == "invalid"
    assert "hunter2" not in repr(caught.value.as_dict())


def test_the_file_that_holds_a_secret_may_be_named() -> None:
    assert mount_options.parse(["credentials=/root/cifs"], "cifs")[1] == ["credentials=/root/cifs"]
    assert mount_options.parse(["secretfile=/root/ceph"], "ceph")[1] == ["secretfile=/root/ceph"]


HEAD, TAIL = (("r?bind", None),), (("ro|rw", None), ("nofail", None))
LINE = st.lists(st.sampled_from("ro rw nofail bind noatime nodev x-a=1 defaults".split()), max_size=6).map(",".join)


@given(LINE)
def test_what_nothing_is_declared_of_stays_byte_for_byte(before: str) -> None:
    assert mount_options.line(before, None, HEAD, TAIL) == (before or "defaults")


@given(LINE, st.sampled_from(["", "nofail"]), st.lists(st.sampled_from(["noatime", "exec"]), unique=True))
def test_what_is_declared_holds_and_once_more_changes_nothing(before: str, nofail: str, given: list[str]) -> None:
    tail = (("ro|rw", "ro"), ("nofail", nofail))
    after = mount_options.line(before, given, HEAD, tail)
    words = set(after.split(",")) - {"defaults"}
    assert words - {"bind"} == {"ro", *given} | ({nofail} - {""})
    assert ("bind" in words) is ("bind" in before.split(","))
    assert mount_options.line(after, given, HEAD, tail) == after
