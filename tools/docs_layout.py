# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of `layout` as documentation, from the documentation of the modules whose options its entries take.

`python3 tools/docs_layout.py` writes `plugins/doc_fragments/_layout.py`; with `--check` it only says whether the file
is what it would write. Needs PyYAML, which comes with ansible-core.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from typing import Any

import trees
import yaml

FRAGMENT = trees.ROOT / "plugins" / "doc_fragments" / "_layout.py"

_HEAD = '''\
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by tools/docs_layout.py from the documentation of the other modules. Do not edit.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
'''

_GENERIC = """\
state:
  description:
    - The state of all entries that do not say their own. V(absent) tears a whole stack down in one call, V(present) is
      what entries do anyway.
  type: str
  choices: [present, absent]
src:
  description:
    - A YAML or JSON file that holds the lists, instead of the task. It is read on the controller, and may be vaulted.
    - With O(remote_src=true) it is read on the target. YAML takes PyYAML there, otherwise C(missing_tool).
  type: path
remote_src:
  description:
    - Whether O(src) is a file on the target.
  type: bool
  default: false
purge:
  description:
    - Lists whose undeclared things are removed, as far as they are ours. A list that is purged must be given, if
      need be as an empty one.
    - Not supported yet, refused with C(unsupported).
  type: list
  elements: str
  default: []
confirm_purge:
  description:
    - Names of the lists in O(purge) that hold data, as consent to remove what is stored.
  type: list
  elements: str
  default: []
return_resources:
  description:
    - Whether to return what stands now, for every entry, in RV(resources).
  type: bool
  default: false
"""

_STATE = "Where the task says O(state=absent), V(absent) for an entry that does not say its own."
_OPTION = re.compile(r"\bO\(([a-z_]+)")


def text() -> str:
    """The whole fragment."""
    options = yaml.safe_load(_GENERIC)
    kinds = _kinds()
    for name in kinds.LISTS:
        options[name] = _list(name, kinds.resource(name))
    shown = yaml.dump({"options": options}, sort_keys=False, width=90, allow_unicode=True, Dumper=_Indented)
    return _HEAD + shown + '"""\n'


def _kinds() -> Any:
    sys.path.insert(0, str(trees.linked()))
    from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds

    return _kinds


def _list(name: str, resource: Any) -> dict[str, Any]:
    kind = resource.KIND
    documentation = _documentation(kind)
    own = documentation["options"]
    for option, spec in resource.OPTIONS.items():
        if option not in own:  # another collection documents it, and the module refers to that
            said = {"description": ["As O(bulkhead.storage.%s#module:%s)." % (kind, option)]}
            own[option] = {**said, **{key: spec[key] for key in ("type", "aliases", "default") if key in spec}}
    what = documentation["short_description"]
    about = "Entries take the options of M(bulkhead.storage.%s). %s." % (kind, what)
    suboptions = {option: _moved(said, name, set(own)) for option, said in own.items()}
    suboptions["state"]["description"].append(_STATE)
    return {"description": [about], "type": "list", "elements": "dict", "suboptions": suboptions}


def _documentation(kind: str) -> Any:
    source = (trees.ROOT / "plugins" / "modules" / (kind + ".py")).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise LookupError("%s has no DOCUMENTATION" % kind)


def _moved(said: Any, name: str, own: set[str]) -> Any:
    """References to a module's own options mean those of the same entry; everything else stays."""
    if isinstance(said, dict):
        return {key: _moved(value, name, own) for key, value in said.items()}
    if isinstance(said, list):
        return [_moved(value, name, own) for value in said]
    if isinstance(said, str):
        return _OPTION.sub(lambda m: "O(%s%s" % (name + "[]." if m.group(1) in own else "", m.group(1)), said)
    return said


class _Indented(yaml.SafeDumper):
    """Lists are indented beneath their key, and nothing is written as a reference to an earlier copy."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the documentation of the options of layout.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is out of date")
    wanted = text()
    if parser.parse_args().check:
        if FRAGMENT.exists() and FRAGMENT.read_text(encoding="utf-8") == wanted:
            return 0
        print("%s is out of date: run python3 tools/docs_layout.py" % FRAGMENT.relative_to(trees.ROOT))
        return 1
    FRAGMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
