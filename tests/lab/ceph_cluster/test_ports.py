# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of Ceph against their contract, on a real cluster: by librados, and namespaces by ``rbd`` too."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_cli import Program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_keyring import Keyrings
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rbd_namespace import Namespaces
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.afar import Afar
from ansible_collections.bulkhead.storage.tests.lab import ceph, ceph_packages
from ansible_collections.bulkhead.storage.tests.lab.ceph_cluster import calls
from ansible_collections.bulkhead.storage.tests.unit.ports import test_port_contract as contract
from ansible_collections.bulkhead.storage.tests.unit.ports.test_port_contract import *  # noqa: F403  # pylint: disable=wildcard-import,unused-wildcard-import

NUMBERS = itertools.count()
FIRST = {"pg_num": 1, "autoscale": "off", "size": 3, "quota_bytes": 4096, "application": ("rbd",), "ready": True}
SECOND = {"quota_bytes": None, "application": ("own",), "compression_mode": "force", "nodelete": False}
KINDS = ("pool", "namespace", "namespace by cli", "user", "keyring")
KEPT = {"current": True, "mode": 0o600, "own": True}


class ByCli(Clusters):
    """The programs are not in our own /usr."""

    def __init__(self, packages: Path) -> None:
        super().__init__(())
        self.packages = packages

    def _connect(self, access: Any, until: float) -> Any:
        return Program(access, lambda argv, *given: program.execute(ceph_packages.shown(self.packages, argv), *given))


@pytest.fixture(scope="module")
def way(started: ceph.Cluster) -> Iterator[dict[str, Any]]:
    """Names of each test are its own, and all go at the end."""
    started.ceph("osd", "pool", "create", "spaces", "1")
    started.user("client.known", mon="allow r")
    said = calls.access(started)
    with calls.entered(started):
        yield {"cluster": "ceph", "conf": said["conf"], "user": "client.bulkhead", "timeout": 20}
    started.reset()


@pytest.fixture(params=KINDS)
def case(
    request: pytest.FixtureRequest, started: ceph.Cluster, way: dict[str, Any], tmp_path: Path
) -> Iterator[contract.Case]:
    clusters = ByCli(started.packages) if "cli" in request.param else Clusters((ceph.PYTHON,))
    yield made(request.param, clusters, way, tmp_path)
    for connection in clusters.known.values():
        connection.close()


def made(kind: str, clusters: Clusters, way: dict[str, Any], folder: Path) -> contract.Case:
    name = "n%d" % next(NUMBERS)
    if kind == "pool":
        return contract.Case(Pools(clusters), Afar("ceph/" + name, way), FIRST, SECOND)
    if kind.startswith("namespace"):
        return contract.Case(Namespaces(clusters), Afar("ceph/spaces/" + name, way), {}, None)
    if kind == "user":
        first, second = {"mon": "allow r", "osd": "allow r, allow rw pool=a"}, {"mgr": "allow r", "mon": "allow r"}
        return contract.Case(Auth(clusters), Afar("ceph/client." + name, way), {"caps": first}, {"caps": second})
    user = Afar("ceph/client.known", way)
    return contract.Case(Keyrings(Auth(clusters)), Afar(str(folder / "keyring"), {"of": user}), KEPT, None)


def test_all_adapters_with_a_factory_are_here() -> None:
    """Those of the suite are run with it."""
    assert not set(contract.CASES) & set(KINDS)
