# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of Ceph as their modules compose them, where no Python has the bindings: ``ceph`` and ``rbd`` are run."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils import basic

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import worlds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_keyring import Keyrings
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_pool import Pools
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rbd_namespace import Namespaces
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_pool, ceph_user


def main() -> None:
    said = json.loads(basic._ANSIBLE_ARGS)["ANSIBLE_MODULE_ARGS"]  # type: ignore[attr-defined]
    kind = said.pop("kind")
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": said}).encode()  # type: ignore[attr-defined]
    clusters = Clusters(())
    auth = Auth(clusters)
    ports: dict[str, Any] = {"ceph_pool": lambda: Pools(clusters), "ceph_namespace": lambda: Namespaces(clusters)}
    ports.update(ceph_auth=lambda: auth, ceph_keyring=lambda: Keyrings(auth))
    if kind == "ceph_pool_info":
        _shell.inform(ceph_pool.FILTERS, lambda params: ceph_pool.gather(params, {"ceph_pool": Pools(clusters)}))
    _shell.run(ceph_pool if kind == "ceph_pool" else ceph_user, ports, worlds.held)
