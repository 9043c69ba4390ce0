#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: job
short_description: A command that runs once, walled in with the volumes it was given
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Attaches volumes, runs a command as a service of systemd that sees them and nothing else of the host, tells what it
    said and how it ended, and detaches the volumes.
  - A job has a root of its own, and mounts, processes, devices, users and, unless O(network=host), a network of its
    own. Its root is read-only but for C(/work), C(/tmp) and the volumes that are not read-only. It has no privileges,
    whatever its O(user) is, no C(/sys), and of C(/proc) only its own processes.
  - A job runs once. The same O(id) with the same options returns what it said then; with other options it is refused
    with C(conflict).
  - A job that does not end well fails the task with O(state=finished), as a command does. What it said is in
    C(resource) all the same.
notes:
  - Needs systemd 257 or newer, which can give a service processes of its own. On an older one a job is refused with
    C(unsupported), never run with less.
  - An O(rootfs) that is an image is not supported yet, and refused with C(unsupported).
  - With O(state=finished) the actions are those that check mode tells, and what was done once the job had ended.
  - What a job needs of its volumes, their C(owner), C(group) and C(mode) must give it. A job runs as nobody unless it
    is told otherwise.
  - The variables C(JOB_ID), C(JOB_VOLUMES_COUNT) and C(JOB_VOLUME_0), C(JOB_VOLUME_1) and so on tell it who it is and
    which volumes it has; C(HOME) is C(/work). An attached volume is recorded as the job's until the job ends, and a
    call that sees its end detaches it.
seealso:
  - module: bulkhead.storage.job_info
  - module: bulkhead.storage.volume
  - module: bulkhead.storage.layout
  - name: systemd.exec(5)
    description: What keeps a job in.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
options:
  id:
    description:
      - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without C(..).
    type: str
    required: true
  command:
    description:
      - The program and its arguments, no shell. The program is an absolute path in the job's root, or a name that is
        found there in C(/usr/local/sbin), C(/usr/local/bin), C(/usr/sbin), C(/usr/bin), C(/sbin) and C(/bin).
      - Required for a job that is not known yet.
    type: list
    elements: str
  user:
    description:
      - Who it runs as, a name of the host or a number. C(65534), nobody, when it is not given. C(0) is root in the job
        and has no privileges outside of it.
    type: str
  group:
    description:
      - The group that it runs with. The user's own when it is not given.
    type: str
  working_dir:
    description:
      - Where it begins, in its root. C(/work) when it is not given.
    type: path
  environment:
    description:
      - Variables for it, beside those of its own. They are kept in a file that only root reads.
    type: dict
  stdin:
    description:
      - What it reads on its standard input. Nothing when it is not given.
    type: str
  volumes:
    description:
      - The volumes that it has. They must exist, or be declared beside it in M(bulkhead.storage.layout).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The volume.
        type: str
        required: true
      namespace:
        description:
          - The namespace of that name.
        type: str
        default: default
      path:
        description:
          - Where the job finds it. C(/volumes/<name>) when it is not given. Not in C(bin), C(lib), C(etc) or what else
            its root has of its own.
        type: path
      read_only:
        description:
          - Whether it can be read only.
        type: bool
        default: false
  rootfs:
    description:
      - V(minimal) is busybox under all its names; it must be installed, linked statically. Or the absolute path of a
        directory, of which the job sees everything read-only but C(/proc), C(/sys), C(/dev), C(/run), C(/tmp) and
        C(/work), which are its own.
      - Only root may be able to write to that directory and those above it. Folders in it whose names hold other than
        letters, digits and C(_ . + @ -) are refused. A job of user C(0) reads there what root reads.
      - V(minimal) when it is not given.
    type: str
  work_size:
    description:
      - How much C(/work) holds, and C(/tmp) beside it, in memory. C(1MiB) when it is not given. Each holds a file for
        every 16 KiB, at least 64.
    type: str
  io:
    description:
      - How fast it may read and write, as M(bulkhead.storage.io_limit) limits a slice. The kernel is asked once the job
        runs whether it goes by it, C(not_enforced) otherwise.
      - The disks that its volumes lie on are limited, each to the same. O(io.path) or O(io.device) names another one
        instead. A job without a volume on a disk needs one of them, otherwise C(not_enforced).
    type: dict
    suboptions:
      path:
        description:
          - A path of the host, whose disk is limited.
        type: path
      device:
        description:
          - The disk to limit, by a stable name.
        type: path
      read_bps:
        description:
          - Bytes read each second, such as V(10MiB). At least 4096.
        type: str
      write_bps:
        description:
          - Bytes written each second, such as V(10MiB). At least 4096.
        type: str
      read_iops:
        description:
          - Reads each second, in 1..4294967294.
        type: int
      write_iops:
        description:
          - Writes each second, in 1..4294967294.
        type: int
      weight:
        description:
          - The share of the disk among those who want it at the same time, in 1..10000. C(not_enforced) where neither
            BFQ nor C(io.cost.qos) shares it out.
        type: int
      min_bps:
        description:
          - Always C(unsupported), the kernel has no floor for a rate.
        type: str
      min_iops:
        description:
          - Always C(unsupported), likewise.
        type: int
      burst_bps:
        description:
          - Always C(unsupported), C(io.max) has no burst.
        type: str
      burst_iops:
        description:
          - Always C(unsupported), likewise.
        type: int
      burst_seconds:
        description:
          - Always C(unsupported), likewise.
        type: int
  memory_max:
    description:
      - How much memory it may take, with C(/work), C(/tmp) and what it says. No swap then. At least 1 MiB, without a
        limit when it is not given.
    type: str
  cpu_quota:
    description:
      - How much of one CPU it may take, such as V(50%), or V(200%) for two.
    type: str
  pids_max:
    description:
      - How many processes and threads it may have, 1 to 4194304.
    type: int
  timeout:
    description:
      - Seconds after which it is ended, C(resource.result) is V(timeout) then. At least 1, as long as it takes when it
        is not given.
    type: int
  network:
    description:
      - V(none) is a loopback device of its own. V(host) is the network of the host. V(none) when it is not given.
    type: str
    choices: [none, host]
  output_max:
    description:
      - How much is kept of its standard output and of its standard error, each. C(1MiB) when it is not given. Both
        together may be twice as long; writing more fails with C(ENOSPC), as on a full disk.
    type: str
  keep_finished:
    description:
      - Whether a job that ended is remembered. If not, O(state=finished) removes it once its end was told.
    type: bool
    default: true
  state:
    description:
      - V(prepared) has everything there but the processes. V(started) runs, or has run. V(finished) waits until it has
        ended and detaches its volumes. V(absent) ends it if it runs, and removes what it said.
      - Nothing is locked while a job is waited for.
    type: str
    choices: [prepared, started, finished, absent]
    default: started
extends_documentation_fragment:
  - bulkhead.storage._attributes
  - bulkhead.storage._common
"""

EXAMPLES = r"""
# needs: systemd
- name: Run a job with a volume, and wait for what it says
  bulkhead.storage.job:
    id: build-1138
    command: [sh, -c, "echo $JOB_VOLUME_0; ls /volumes/data"]
    volumes:
      - name: data
    memory_max: 512MiB
    pids_max: 64
    timeout: 600
    state: finished
  register: build

# needs: systemd
- name: Start a job and go on; with state absent it is ended and forgotten
  bulkhead.storage.job:
    id: nightly-7
    command: [/bin/sleep, "3600"]
    user: nobody
"""

RETURN = r"""
changed:
  description: Whether anything was changed. In check mode, whether anything would be.
  returned: always
  type: bool
  sample: true
actions:
  description:
    - The first O(actions_limit) actions of the plan, in the order in which they are taken, the same list in check mode
      and in the real run. M(bulkhead.storage.layout) tells the fields of each.
  returned: success, or when an action failed
  type: list
  elements: dict
  sample:
    - kind: job
      entry: job (build-1138)
      port: job
      target: build-1138
      verb: create
      risk: forward
      before: null
      after: {state: running}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions were C(planned), C(applied), C(failed), C(undone), C(kept) and C(skipped).
  returned: always
  type: dict
  sample: {planned: 1, applied: 1, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: /var/lib/bulkhead/journal/20260102T030405.678901-0a1b2c3d.jsonl
resource:
  description: The job as it stands now. In check mode, as it would stand.
  returned: success, or when the job failed
  type: dict
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
        - What it wrote on its standard output, as much as O(output_max) keeps, and a result has room for. Null until it
          has ended.
      type: str
      returned: always
    stderr:
      description: What it wrote on its standard error, likewise.
      type: str
      returned: always
    truncated:
      description:
        - Whether it wrote more than is told here. What O(output_max) kept of it is on the target, in C(stdout) and
          C(stderr) in C(/var/lib/bulkhead/jobs/<id>).
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
  sample: "job (build-1138): the job ended with 3 (exit-code)"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: failed
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: "make: *** [all] Error 3"
errors:
  description:
    - Every refusal or failure, all at once, each with C(entry), C(code), C(message), C(hint) and C(details).
  returned: failure
  type: list
  elements: dict
errors_total:
  description: How many errors there are, should RV(errors) have been cut to fit into a result.
  returned: failure
  type: int
  sample: 1
"""

from ansible_collections.bulkhead.storage.plugins.module_utils import _ports, _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import Job
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rootfs import RootFs
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job


def main() -> None:
    _shell.run(job, {**_ports.volume(), "job": lambda: Job(execute), "rootfs": lambda: RootFs(execute)})


if __name__ == "__main__":
    main()
