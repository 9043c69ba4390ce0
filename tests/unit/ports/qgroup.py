# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import subprocess

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota, QuotaEnabled
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextlib.contextmanager
def case_quota():
    with namespace.place() as base, namespace.loop_device(namespace.image(base + "/img", 256 << 20, "btrfs")) as device:
        os.mkdir(base + "/m")
        subprocess.check_call(["mount", device, base + "/m"])
        subprocess.check_call(["btrfs", "-q", "subvolume", "create", base + "/m/t"])
        QuotaEnabled().put(base + "/m", None, {"on": True})
        port, target = Quota(), ("project", base + "/m/t")
        first = port.merge(target, None, {"hard": 16 << 20})
        try:
            yield port, target, first, port.merge(target, first, {"hard": 32 << 20})
        finally:
            namespace.take_down(base + "/m")
