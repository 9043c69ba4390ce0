# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import subprocess

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.project_tag import ProjectTag
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextlib.contextmanager
def case_project_tag():
    with namespace.place() as base:
        namespace.image(base + "/img", 512 << 20, "xfs")
        os.makedirs(base + "/m")
        subprocess.check_call(["mount", "-o", "loop", base + "/img", base + "/m"])
        os.mkdir(base + "/m/d")
        yield ProjectTag(), base + "/m/d", {"id": 1000, "inherit": True}, {"id": 1001, "inherit": True}
