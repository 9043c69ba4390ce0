# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: job_host_layout
short_description: What the pools, volumes, jobs and limits of a job host mean to it
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Maps a job host to O(bulkhead.storage.layout#module:pools), O(bulkhead.storage.layout#module:volumes),
    O(bulkhead.storage.layout#module:jobs) and O(bulkhead.storage.layout#module:io_limits) of
    M(bulkhead.storage.layout). The role P(bulkhead.storage.job_host#role) is this filter and one task.
  - A pool that does not say where it lies is put below the base directory.
positional: _input
options:
  _input:
    description: The base directory.
    type: str
    required: true
  pools:
    description: Pools, each with the options of M(bulkhead.storage.pool).
    type: list
    elements: dict
  volumes:
    description: Volumes, each with the options of M(bulkhead.storage.volume).
    type: list
    elements: dict
  jobs:
    description:
      - Jobs, each with the options of M(bulkhead.storage.job).
      - A C(command) that is text is given to C(sh -c). C(volumes) that are text are C(name[:path[:ro]]), with commas
        between them, the name with its namespace as C(namespace/name).
    type: list
    elements: dict
  io_limits:
    description: Limits, each with the options of M(bulkhead.storage.io_limit).
    type: list
    elements: dict
  state:
    description:
      - With V(absent) everything declared goes. A pool still needs its C(confirm), and a volume in use its C(force).
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A host with one volume for jobs
  vars:
    wanted: "{{ '/var/lib/bulkhead' | bulkhead.storage.job_host_layout(volumes=[{'name': 'data', 'size': '1GiB'}]) }}"
  bulkhead.storage.layout:
    pools: "{{ wanted.pools }}"
    volumes: "{{ wanted.volumes }}"
    jobs: "{{ wanted.jobs }}"
    io_limits: "{{ wanted.io_limits }}"
"""

RETURN = r"""
_value:
  description: The lists C(pools), C(volumes), C(jobs) and C(io_limits).
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import job_host


def job_host_layout(base: Any, **options: Any) -> dict[str, Any]:
    try:
        return job_host.layout(base, **options)
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"job_host_layout": job_host_layout}
