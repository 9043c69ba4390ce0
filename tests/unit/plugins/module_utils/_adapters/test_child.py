# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may wait for ever, done by a process of its own: whatever it does, it ends and is told."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.child import Child
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nfs import NetworkMounts
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

LIVE = {"source": "nfs1:/srv/b", "fstype": "nfs4", "nosuid": True, "nodev": True, "stale": False, "o:vers": "4.2"}


def children() -> str:
    return Path("/proc/self/task/%d/children" % os.getpid()).read_text(encoding="ascii").strip()


def fails(error: BaseException) -> Any:
    def work() -> None:
        raise error

    return work


def test_what_is_done_is_told() -> None:
    assert Child(lambda: None, 20).answer() is None
    assert Child(lambda: True, 20).answer() is None, "no descriptor"
    assert children() == ""


def test_a_descriptor_is_handed_over(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("of the child")
    fd = Child(lambda: os.open(tmp_path / "x", os.O_RDONLY), 20).answer()
    assert fd is not None and not os.get_inheritable(fd)
    with os.fdopen(fd) as stream:
        assert stream.read() == "of the child"


def test_an_error_keeps_its_number_and_its_words() -> None:
    with pytest.raises(OSError) as caught:
        Child(fails(OSError(errno.ESTALE, "gone")), 20).answer()
    assert (caught.value.errno, caught.value.strerror) == (errno.ESTALE, "gone")
    with pytest.raises(StorageError) as refused:
        Child(fails(StorageError("denied", "no", "ask", errno=13)), 20).answer()
    assert refused.value.as_dict() == {**StorageError("denied", "no", "ask", errno=13).as_dict()}
    assert children() == ""


def test_one_that_takes_too_long_is_killed() -> None:
    start = time.monotonic()
    with pytest.raises(OSError) as caught:
        Child(lambda: time.sleep(60), 0.2).answer()
    assert caught.value.errno == errno.ETIMEDOUT and "stuck" not in str(caught.value)
    assert 0.2 <= time.monotonic() - start < 20 and children() == ""


def test_one_that_is_killed_by_others_has_no_answer() -> None:
    with pytest.raises(OSError) as caught:
        Child(lambda: os.kill(os.getpid(), signal.SIGKILL), 20).answer()
    assert caught.value.errno == errno.EINTR and children() == ""


def test_it_does_not_end_as_its_parent_would(tmp_path: Path) -> None:
    """No handler, no buffer of the parent's is run or written twice."""
    with open(tmp_path / "x", "w", encoding="ascii") as stream:
        stream.write("once")
        with pytest.raises(OSError):
            Child(fails(OSError(errno.EIO, "x")), 20).answer()
    assert (tmp_path / "x").read_text() == "once"


def test_several_are_asked_at_the_same_time() -> None:
    start = time.monotonic()
    asked = [Child(lambda: time.sleep(0.5), 20) for _each in range(6)]
    assert [each.answer() for each in asked] == [None] * 6
    assert time.monotonic() - start < 2.5, "six times half a second, one after the other, would be three"


def test_an_answer_is_kept_of_a_mount_for_a_while() -> None:
    error = foreign.told(Child(fails(OSError(errno.ETIMEDOUT, "late")), 20), -7, "/mnt/x")
    assert error is not None and (error.code, error.message) == (
        "unreachable",
        "the server of /mnt/x does not answer: late",
    )
    assert foreign.answered[-7][1] is error and -7 not in foreign.stale
    assert foreign.told(Child(fails(OSError(errno.ESTALE, "gone")), 20), -7, "/mnt/x") is None
    assert foreign.answered[-7][1] is None and -7 in foreign.stale
    assert foreign.told(Child(lambda: None, 20), -7, "/mnt/x") is None and -7 not in foreign.stale
    del foreign.answered[-7]


def test_what_a_server_made_smaller_is_as_declared() -> None:
    port = NetworkMounts()
    now = {**LIVE, "bind": False, "o:rsize": "131072", "o:wsize": "4096"}
    assert port.same("/m", now, {**LIVE, "_rsize": 1 << 20, "_wsize": 4096})
    assert not port.same("/m", now, {**LIVE, "_rsize": 65536})
    assert port.merge("/m", {**now, "read_only": False}, {**LIVE, "_rsize": 65536})["o:rsize"] == "65536"


def test_options_of_nfs_take_a_fresh_mount() -> None:
    port = NetworkMounts()
    now = {**LIVE, "bind": False, "read_only": False}
    assert not port.replaces("/m", now, {**now, "read_only": True})
    assert port.replaces("/m", now, {**now, "o:vers": "4.1"})
    assert port.replaces("/m", {**now, "stale": True}, now)
    assert port.replaces("/m", now, {**now, "o:soft": True}) and not port.replaces("/m", now, {**now, "o:soft": False})
    local = {**now, "fstype": "ext4", "source": "/dev/x"}
    assert not port.replaces("/m", local, {**local, "o:commit": "7"}), "what is no network's changes in place"


def test_who_mounts_it_at_boot_must_be_there() -> None:
    """Debian's and others' place for it; this asks the real host, so it holds whichever it is."""
    refused = NetworkMounts().refuse("/m", None, {**LIVE, "_boot": True}, set())
    there = any(os.access(folder + "/mount.nfs4", os.X_OK) for folder in ("/sbin", "/usr/sbin"))
    assert (refused is None) if there else (refused is not None and refused.code == "missing_tool")
    assert NetworkMounts().refuse("/m", None, {**LIVE, "_boot": False}, set()) is None
