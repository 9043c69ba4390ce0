# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options: secrets are never repeated."""

from __future__ import annotations

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options

NAMES = ["secret", "password", "pass", "passwd", "cred", "password2", "Password", " secret"]
WORDS = ["%s=%s" % (name, value) for name in NAMES for value in ("hunter2", "hunter2==", "hunter2 x")]


@pytest.mark.parametrize("word", [*WORDS, "noatime secret=hunter2", "key==hunter2"])
@pytest.mark.parametrize("fstype", ["ceph", "tmpfs"])
def test_a_secret_is_refused_and_never_repeated(fstype: str, word: str) -> None:
    with pytest.raises(StorageError) as caught:
        mount_options.parse([word], fstype)
    assert caught.value.code == "invalid"
    assert "hunter2" not in repr(caught.value.as_dict())


def test_the_file_that_holds_a_secret_may_be_named() -> None:
    assert mount_options.parse(["credentials=/root/cifs"], "cifs")[1] == ["credentials=/root/cifs"]
    assert mount_options.parse(["secretfile=/root/ceph"], "ceph")[1] == ["secretfile=/root/ceph"]
