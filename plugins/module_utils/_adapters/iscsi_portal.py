# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One spelling of a portal, whoever wrote it."""

from __future__ import annotations

import ipaddress


def canonical(portal: str) -> str:
    """``10.0.0.1:3260``, ``[2001:db8::1]:3260``; anything else is told as it is."""
    host, _colon, port = portal.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return portal
    return ("[%s]:%s" if address.version == 6 else "%s:%s") % (address, port)
