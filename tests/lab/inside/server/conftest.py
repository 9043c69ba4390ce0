# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of servers share."""

from __future__ import annotations

import os
from typing import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def among_the_mounts_of_servers(request: pytest.FixtureRequest) -> Iterator[None]:
    """NFS: in the mounts of systemd and its services, for other tests may have gone to some of their own."""
    if not request.path.name.startswith("test_nfs"):
        yield
        return
    folder, mine = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    with open("/proc/1/ns/mnt", "rb") as theirs:
        os.setns(theirs.fileno(), os.CLONE_NEWNS)  # type: ignore[attr-defined, unused-ignore]
    os.chdir(folder)
    try:
        yield
    finally:
        os.setns(mine, os.CLONE_NEWNS)  # type: ignore[attr-defined, unused-ignore]
        os.close(mine)
        os.chdir(folder)
