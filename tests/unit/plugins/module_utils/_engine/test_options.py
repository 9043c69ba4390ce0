# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry of ``layout`` and the options of its module mean the same: ours is held against Ansible's own reading."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

PATHS = ["~/x", "$HOME/x", "${HOME}/x/$BULKHEAD", "~root/x", "~nosuchuser/x", "/a/~/$NOSUCH", "/a//b/", "", "a", 5, "$"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("BULKHEAD", "wall")


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_read_as_ansible_reads_it(path: Any) -> None:
    spec = {"path": {"type": "path"}, "paths": {"type": "list", "elements": "path"}}
    given = {"path": path, "paths": [path, "/b"]}
    theirs = ArgumentSpecValidator(spec).validate(given)
    assert not theirs.error_messages
    assert options.check(spec, {}, given, set()) == theirs.validated_parameters


@pytest.mark.parametrize("path", ["~\0/x", "~\ud800/x", True, 1.5, ["/a"], {}])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(StorageError) as caught:
        options.check({"path": {"type": "path"}}, {}, {"path": path}, set())
    assert caught.value.code == "invalid" and "is not a path" in caught.value.message


def test_every_kind_with_a_path_at_home() -> None:
    document = {"tmpfs": [{"path": "~/s", "size": "1MiB"}], "trees": [{"root": "$HOME/t", "entries": [{"path": "a"}]}]}
    document["mounts"] = [{"path": "~/m", "source": "/srv", "bind": True}]
    entries, errors = _kinds.entries(document, {"allow_unstable_device": False}, set())
    found = {entry.params.get("path") or entry.params["root"] for entry in entries}
    assert errors == [] and found == {"/home/somebody/s", "/home/somebody/t", "/home/somebody/m"}


WORDS: list[Any] = [None, True, False, 0, 5, -1, "", "a", "5", "yes", "absent", "present", "/a/b", "~/x", "$HOME", 1.5]
WORDS += ["directory", "tmpfs", "loop", "filesystem", "none", "fstab", "1MiB", {}, {"path": "/x"}, [], ["a"], ["a", 5]]
WORDS += [["~/x"], [{}], [{"path": "a"}], [{"path": "a", "mode": "0750", "acl": ["u:1:r"]}], [{"path": 5}], [None]]


def test_what_passes_quickly_is_what_the_closer_look_makes_of_it() -> None:
    """Of every kind, with values that fit and values that do not."""
    choice, quick = random.Random(7), 0
    specs = [_kinds.resource(name) for name in _kinds.LISTS]
    for _round in range(12000):
        kind = choice.choice(specs)
        names = [name for name, option in kind.OPTIONS.items() if option.get("required")]
        names += choice.sample([*kind.OPTIONS, "unheard_of"], choice.randrange(4))
        pools = {name: choice.choice((WORDS, _fitting(kind.OPTIONS.get(name, {})))) for name in names}
        given = {name: copy.deepcopy(choice.choice(pool)) for name, pool in pools.items()}
        before = copy.deepcopy(given)
        params = options._quick(kind.OPTIONS, kind.RULES, given)
        assert given == before
        problems: list[str] = []
        secrets: set[str] = set()
        closer = options._dict(kind.OPTIONS, kind.RULES, given, "", problems, secrets)
        if params is not None:
            quick += 1
            assert (problems, secrets) == ([], set()), given
            assert repr(params) == repr(closer) and list(params) == list(closer), given
    assert quick > 800, quick


def _fitting(option: dict[str, Any]) -> list[Any]:
    kind = option.get("type", "str")
    if "choices" in option:
        return list(option["choices"])
    if kind == "list":
        return [[{"path": "a", "mode": "0750", "acl": ["u:1:r"]}]] if "options" in option else [["a", "b"], []]
    return {"bool": [True, False], "int": [1, 0], "dict": [{}]}.get(kind, ["/a/b", "5", "x"])


@pytest.mark.parametrize("word", [True, False, "on", "off", "warn", "maybe", "yes", 1])
def test_the_words_on_and_off_are_what_yaml_makes_of_them(word: Any) -> None:
    spec = {"autoscale": {"type": "str", "choices": ["on", "off", "warn"]}}
    theirs = ArgumentSpecValidator(spec).validate({"autoscale": word})
    if theirs.error_messages:
        with pytest.raises(StorageError):
            options.check(spec, {}, {"autoscale": word}, set())
    else:
        assert options.check(spec, {}, {"autoscale": word}, set()) == theirs.validated_parameters
