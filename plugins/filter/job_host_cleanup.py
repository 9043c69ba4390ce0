# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: job_host_cleanup
short_description: A timer that cleans up after the jobs of a host
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - One of three files. A program that needs no Ansible on the host, a service of systemd that runs it from
    C(/usr/local/lib/bulkhead-cleanup.py), and a timer that starts C(bulkhead-cleanup.service).
  - The program detaches volumes of jobs that have ended, with M(bulkhead.storage.job) or by a boot, and removes memory
    volumes that nobody has had attached for a while. It plans, locks and writes its journal as every module does.
  - The role P(bulkhead.storage.job_host#role) puts all three in their places, and enables the timer.
positional: _input, part
options:
  _input:
    description:
      - A dictionary. C(interval) is the time from the end of one cleanup to the next, C(memory_volume_timeout) the time
        after which a memory volume that is attached to nobody is removed. Each is a number of seconds, or a number with
        C(s), C(m), C(h), C(d) or C(w). Without the second none is removed.
    type: dict
    required: true
  part:
    description: Which of the three.
    type: str
    choices: [program, service, timer]
    required: true
  python:
    description: The Python of the host that runs the program, 3.7 or newer.
    type: path
    default: /usr/bin/python3
"""

EXAMPLES = r"""
- name: The timer
  vars:
    times: {interval: 1m, memory_volume_timeout: 24h}
  ansible.builtin.copy:
    dest: /etc/systemd/system/bulkhead-cleanup.timer
    content: "{{ times | bulkhead.storage.job_host_cleanup('timer') }}"
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The text of the file, without a line break at its end.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.module_utils import _shipped
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import job_host


def job_host_cleanup(given: Any, part: str, python: str = "/usr/bin/python3") -> str:
    try:
        return job_host.cleanup(given, part, python, lambda: _shipped.program("_cleanup"))
    except StorageError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"job_host_cleanup": job_host_cleanup}
