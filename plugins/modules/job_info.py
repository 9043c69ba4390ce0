#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: job_info
short_description: Jobs of this host, and what they said
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Lists the jobs that are known on this host, those that run and those that have ended.
  - No job that matches is an empty list.
notes:
  - A module that looks takes no lock, and may see a change half done.
seealso:
  - module: bulkhead.storage.job
options:
  id:
    description:
      - Only this job.
    type: str
extends_documentation_fragment:
  - bulkhead.storage._attributes.info
"""

EXAMPLES = r"""
# needs: systemd
- name: All jobs
  bulkhead.storage.job_info:

# needs: systemd
- name: What a job said
  bulkhead.storage.job_info:
    id: build-1138
"""

RETURN = r"""
changed:
  description: Always false, because this module only looks.
  returned: always
  type: bool
  sample: false
jobs:
  description: The jobs, sorted by their ids.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The job.
      type: str
      returned: always
    state:
      description:
        - V(prepared), V(started), V(finished), V(absent), or V(lost), when the host went down while it ran. V(part) is
          what a run leaves that was killed; the next one goes on from there.
      type: str
      returned: always
    command:
      description: The program and its arguments.
      type: list
      elements: str
      returned: always
    volumes:
      description: The volumes that it was given, each C(<namespace>/<name>).
      type: list
      elements: str
      returned: always
    rc:
      description:
        - What the program returned, 128 and the number of the signal that ended it, or 203 when it could not be
          executed. Null until it has ended.
      type: int
      returned: always
    result:
      description: What systemd calls it. V(success), V(exit-code), V(signal), V(timeout), V(oom-kill) and others.
      type: str
      returned: always
    stdout:
      description:
        - What it wrote on its standard output, as much as O(bulkhead.storage.job#module:output_max) keeps.
        - Null until it has ended.
      type: str
      returned: always
    stderr:
      description: What it wrote on its standard error, likewise.
      type: str
      returned: always
    truncated:
      description:
        - Whether it wrote more than is told here, of which all jobs together have 60 KiB. What was kept of it is on the
          target, in C(stdout) and C(stderr) in C(/var/lib/bulkhead/jobs/<id>).
      type: bool
      returned: always
    started_at:
      description: When it was started, in UTC.
      type: str
      returned: always
    finished_at:
      description: When it had ended, in UTC.
      type: str
      returned: always
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "/var/lib/bulkhead/catalogue.sqlite: it is not a catalogue of bulkhead.storage"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: unreadable
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "restore it from a backup, or move it away: it is never made anew over what is there"
errors:
  description: Every refusal or failure, all at once.
  returned: failure
  type: list
  elements: dict
  contains:
    entry:
      description: The entry that the error is about. Empty when it is about the task.
      type: str
      returned: always
    code:
      description: A stable code.
      type: str
      returned: always
    message:
      description: What is wrong.
      type: str
      returned: always
    hint:
      description: What to do about it.
      type: str
      returned: always
    details:
      description:
        - What a program may want to know, such as a consent to repeat, users of a device or the option at fault.
      type: dict
      returned: always
errors_total:
  description: How many errors there are, should RV(errors) have been cut to fit into a result.
  returned: failure
  type: int
  sample: 1
"""

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import Job
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job


def main() -> None:
    ports = Ports({"record": Record, "job": lambda: Job(execute)})
    _shell.inform(job.FILTERS, lambda params: job.gather(params, ports))


if __name__ == "__main__":
    main()
