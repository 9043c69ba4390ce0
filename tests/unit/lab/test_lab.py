# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the lab can be said without a guest."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.bulkhead.storage.tests.lab import guest, image

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----

"""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, image.FALLBACK),
        ({"debian.sources": DEB822}, "http://mirror.example/debian"),
        ({"debian.sources": DEB822 + "Enabled: no\n"}, "http://mirror.example/debian"),  # of another stanza
        ({"debian.sources": "Enabled: no\n" + DEB822.replace("# a comment\n", "")}, image.FALLBACK),
        ({"debian.sources": DEB822.replace("Types: deb deb-src", "Types: deb-src")}, image.FALLBACK),
        ({"sources.list": "deb [arch=amd64 signed-by=/k] https://m.example/d trixie main\n"}, "https://m.example/d"),
        (
            {"sources.list": "#deb http://m.example/d trixie main\ndeb-src http://m.example/d trixie main"},
            image.FALLBACK,
        ),
        ({"sources.list": "deb http://m.example/d bookworm-security main\n"}, image.FALLBACK),
        (
            {"a.list": "deb https://other.example/apt nodistro main\n", "debian.sources": DEB822},
            "http://mirror.example/debian",
        ),
    ],
)
def test_the_mirror_is_that_of_this_hosts_apt(texts: dict[str, str], expected: str) -> None:
    assert image.mirror(texts) == expected


def test_apts_way_to_its_archives_is_taken_along() -> None:
    dump = (
        'APT "";\nAcquire::http "";\nAcquire::http::Proxy "http://p.example:3128";\nAcquire::Retries "3";\nDir "/";\n'
    )
    assert image.settings(dump)[1:] == ['Acquire::http::Proxy "http://p.example:3128";', 'Acquire::Retries "3";']


def test_an_archive_for_the_kernel_is_one_for_others_too(tmp_path: Path) -> None:
    """bsdtar and cpio are rarely there: Python reads none, so the fields are read here as the kernel does."""
    data = image.cpio(["dev"], {"init": b"#!/bin/sh\n", "odd": b"abc"})
    entries, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        if name == "TRAILER!!!":
            break
        start = (at + 110 + fields[11] + 3) // 4 * 4
        entries[name] = (oct(fields[1]), data[start : start + fields[6]])
        at = (start + fields[6] + 3) // 4 * 4
    assert entries == {
        "dev": ("0o40755", b""),
        "init": ("0o100755", b"#!/bin/sh\n"),
        "odd": ("0o100755", b"abc"),
    }


def test_addresses_are_distinct() -> None:
    numbers = [one.number for one in guest.GUESTS.values()]
    assert len(set(numbers)) == len(numbers) and 0 not in numbers


def test_only_a_process_that_names_our_folder_is_ours() -> None:
    """A process that merely mentions the path, or belongs to a lab whose name begins alike, is not ended."""
    mark = "%s/alpha/pid" % guest.RUN
    rows = [["-pidfile", mark + "x"], ["-name", mark], [mark, "-pidfile"], ["-pidfile", "%sx/alpha/pid" % guest.RUN]]
    others = [subprocess.Popen(["sh", "-c", "read x", "sh", *row], stdin=-1) for row in rows]
    ours = subprocess.Popen(["sh", "-c", "read x", "sh", "-pidfile", mark], stdin=-1)
    try:
        while not all(Path("/proc/%d/cmdline" % one.pid).read_bytes() for one in [ours, *others]):
            time.sleep(0.01)  # Popen returns while the kernel still puts a new program's words into its memory
        found = set(guest.processes("alpha"))
        assert ours.pid in found and not found & {one.pid for one in others}
        assert not set(guest.processes("beta")) & {ours.pid, *(one.pid for one in others)}
        assert set(guest.processes()) & {ours.pid, others[0].pid, others[3].pid} == {ours.pid, others[0].pid}
    finally:
        for one in [ours, *others]:
            os.kill(one.pid, signal.SIGKILL)
            one.communicate()
