# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``cluster``: a Ceph cluster as new for every test; it is started once, and ends with the last test of the run."""

from __future__ import annotations

import os
import shutil
from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.lab import ceph, network


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ceph.Cluster]:
    folder = tmp_path_factory.mktemp("ceph") / "a"
    space = network.made()
    try:
        with ceph.Cluster(folder, space) as cluster:
            yield cluster
    finally:
        os.close(space)
    shutil.rmtree(folder)


@pytest.fixture
def cluster(started: ceph.Cluster) -> Iterator[ceph.Cluster]:
    yield started
    started.reset()
