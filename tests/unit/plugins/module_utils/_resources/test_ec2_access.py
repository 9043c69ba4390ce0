# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who knows how ``amazon.aws`` reaches AWS knows how we do."""

from __future__ import annotations

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import aws_argument_spec

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ec2_access

KEPT = ("type", "aliases", "default", "no_log", "choices", "required")


def said(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: {"type": "str", **{k: v for k, v in option.items() if k in KEPT}} for name, option in spec.items()}


def test_the_options_are_those_of_amazon_aws() -> None:
    assert said(ec2_access.OPTIONS) == said(aws_argument_spec())


def test_so_are_the_variables_in_their_order() -> None:
    """A resource cannot name Ansible's own fallback, so that the adapter looks for them."""
    theirs = {
        name: tuple(option["fallback"][1]) for name, option in aws_argument_spec().items() if "fallback" in option
    }
    assert theirs == ec2.ENVIRON
