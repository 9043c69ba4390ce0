# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is private to the collection: it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    # Modules that change a host.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - The plan is the very object that the real run applies. RV(plan_digest) is the same in both.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
    details:
      - Linux 5.14 or later, x86_64 and aarch64, as root.
  action_group:
    description: Use C(group/bulkhead.storage.storage) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bulkhead.storage.storage
"""

    # Modules that only look.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - This action does not modify state, so there is never a difference.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: full
    details:
      - This action does not modify state.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
    details:
      - Linux 5.14 or later, x86_64 and aarch64, as root.
  action_group:
    description: Use C(group/bulkhead.storage.storage) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bulkhead.storage.storage
"""

    # Modules that change what is not on the host where they run.
    AWAY = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - The plan is the very object that the real run applies. RV(plan_digest) is the same in both.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
    details:
      - Wherever Ansible runs modules, without privileges. What it is about is elsewhere.
  action_group:
    description: Use C(group/bulkhead.storage.storage) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bulkhead.storage.storage
"""

    # Those that only look at it.
    AWAY_INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - This action does not modify state, so there is never a difference.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: full
    details:
      - This action does not modify state.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
    details:
      - Wherever Ansible runs modules, without privileges. What it is about is elsewhere.
  action_group:
    description: Use C(group/bulkhead.storage.storage) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bulkhead.storage.storage
"""
