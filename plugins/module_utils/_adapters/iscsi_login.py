# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Would a portal let us in? The first stage of a login (RFC 7143), and what a portal offers (SendTargets).

iscsid tries again and again for two minutes when there is no such target, and says ``timed out`` then. What a target
answers tells at once who is right: no session comes of it, since the login is left where the secrets are proved.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import socket
import struct
import time
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_LOGIN, _TEXT, _LOGIN_ANSWER, _TEXT_ANSWER = 0x43, 0x04, 0x23, 0x24  # login is sent for immediate delivery
_SECURITY, _OPERATIONAL, _FULL = 0, 1, 3
_TRANSIT, _MORE = 0x80, 0x40
_MOST = 1 << 20  # bytes of an answer that are believed
_ALGORITHM = "5"  # MD5 is what all of them know (RFC 7143 12.1.3)
_ROUNDS = 64
_UNAVAILABLE = (3, 1)
_STATUS = {  # RFC 7143 11.13.5: class and detail
    (2, 1): ("denied", "does not take the CHAP user and secret"),
    (2, 2): ("denied", "does not let this initiator in"),
    (2, 3): ("not_found", "has no such target"),
    (2, 4): ("not_found", "no longer has that target"),
    (2, 6): ("unsupported", "has no room for another connection"),
    _UNAVAILABLE: ("unreachable", "cannot serve now"),
    (3, 2): ("no_space", "has no room for another session"),
}


class Login:
    """A connection to a portal, up to where the secrets are proved. ``target`` None: to ask what is offered."""

    def __init__(self, portal: str, initiator: str, target: str | None, chap: dict[str, Any], seconds: float) -> None:
        self.portal, self.target, self.chap = portal, target, chap
        self.until = time.monotonic() + seconds
        self.head = b"\x80" + os.urandom(5) + b"\0\0"  # an ISID of the kind that is chosen at random
        self.command, self.seen = 1, 0
        self.said = {"InitiatorName": initiator, "SessionType": "Normal" if target else "Discovery"}
        if target:
            self.said["TargetName"] = target
        host, _colon, port = portal.rpartition(":")
        try:
            self.line = socket.create_connection((host.strip("[]"), int(port)), self._left())
        except OSError as error:
            raise self._unreachable(error) from error

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *_error: object) -> None:
        self.line.close()

    # -- what is asked ---------------------------------------------------------------------------------------------

    def prove(self) -> None:
        """The security stage. Raises ``denied``, ``not_found``, ``unreachable`` or ``timeout``."""
        if not self.chap.get("username"):
            answer = self._login({**self.said, "AuthMethod": "None,CHAP"}, _SECURITY, _OPERATIONAL)
            if answer.get("AuthMethod") == "CHAP":  # LIO says nothing to one that offers only None
                raise self._refused("denied", "wants CHAP")
            return
        answer = self._login({**self.said, "AuthMethod": "CHAP,None"}, _SECURITY, None)
        if answer.get("AuthMethod") != "CHAP":
            if self.chap.get("mutual_username"):
                raise self._refused("denied", "does not prove itself by CHAP")
            return
        answer = self._login({"CHAP_A": _ALGORITHM}, _SECURITY, None)
        number, challenge = answer.get("CHAP_I", ""), _binary(answer.get("CHAP_C", ""))
        if answer.get("CHAP_A") != _ALGORITHM or not number.isdigit() or int(number) > 255 or not challenge:
            raise self._refused("unsupported", "does not know CHAP with MD5")
        mine = os.urandom(16)
        keys = {"CHAP_N": self.chap["username"], "CHAP_R": _hex(_hash(number, self.chap["password"], challenge))}
        mutual = self.chap.get("mutual_username")
        if mutual:
            keys.update(CHAP_I=str(mine[0]), CHAP_C=_hex(mine))
        answer = self._login(keys, _SECURITY, _OPERATIONAL)
        if mutual:
            proof = _hash(str(mine[0]), self.chap["mutual_password"], mine)
            named = answer.get("CHAP_N", "") == mutual
            if not named or not hmac.compare_digest(_binary(answer.get("CHAP_R", "")), proof):
                raise self._refused("denied", "does not prove itself by the mutual user and secret")

    def offered(self) -> set[str]:
        """The names of the targets, all of them, in a session that can only ask."""
        self.prove()
        plain = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": "65536"}
        self._login(plain, _OPERATIONAL, _FULL)
        text, tag = b"SendTargets=All\0", 0xFFFFFFFF
        found: set[str] = set()
        for _round in range(_ROUNDS):
            head = struct.pack(">BBHI8sIIII16x", _TEXT, _TRANSIT, 0, len(text), b"", 2, tag, self.command, self.seen)
            self.command += 1
            self._send(head, text)
            answer, data = self._receive(_TEXT_ANSWER)
            found.update(word[11:] for word in _words(data) if word.startswith("TargetName="))
            if answer[1] & _TRANSIT:
                return found
            text, tag = b"", int.from_bytes(answer[20:24], "big")
        raise self._refused("failed", "does not come to an end with its targets")

    # -- how it is said --------------------------------------------------------------------------------------------

    def _login(self, keys: dict[str, str], stage: int, onward: int | None) -> dict[str, str]:
        """One request, and the answer to it, which may come in pieces."""
        text = b"".join(b"%s=%s\0" % (name.encode(), value.encode()) for name, value in keys.items())
        found: dict[str, str] = {}
        for _round in range(_ROUNDS):
            flags = stage << 2 | (0 if onward is None else _TRANSIT | onward)
            layout = (_LOGIN, flags, 0, len(text), self.head, 1, 0, self.command, self.seen)
            self._send(struct.pack(">BBHI8sIIII16x", *layout), text)
            answer, data = self._receive(_LOGIN_ANSWER)
            if answer[36]:
                code, words = _STATUS.get((answer[36], answer[37]), ("failed", "refuses"))
                if answer[36] == 1:  # the target is elsewhere, where iscsid will go
                    return found
                error = self._refused(code, "%s (status %02x%02x)" % (words, answer[36], answer[37]))
                error.details["status"] = (answer[36], answer[37])
                raise error
            self.seen = int.from_bytes(answer[24:28], "big") + 1
            self.head = self.head[:6] + answer[14:16]
            found.update(word.split("=", 1) for word in _words(data) if "=" in word)
            if answer[1] & _TRANSIT or (found and not answer[1] & _MORE):
                return found
            text = b""
        raise self._refused("failed", "does not come to an end with the login")

    def _send(self, head: bytes, data: bytes) -> None:
        try:
            self.line.settimeout(self._left())
            self.line.sendall(head + data + bytes(-len(data) % 4))
        except OSError as error:
            raise self._unreachable(error) from error

    def _receive(self, kind: int) -> tuple[bytes, bytes]:
        head = self._exactly(48)
        length = int.from_bytes(head[5:8], "big")
        if head[0] & 0x3F != kind or length > _MOST:
            raise self._refused("failed", "answers something else (0x%02x)" % head[0])
        self._exactly(head[4] * 4)
        return head, self._exactly(length + -length % 4)[:length]

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                self.line.settimeout(self._left())
                more = self.line.recv(length - len(data))
            except OSError as error:
                raise self._unreachable(error) from error
            if not more:
                raise self._refused("unreachable", "has closed the connection")
            data += more
        return data

    def _left(self) -> float:
        return max(self.until - time.monotonic(), 0.01)

    # -- what went wrong -------------------------------------------------------------------------------------------

    def _refused(self, code: str, words: str) -> StorageError:
        what = "for %s" % self.target if self.target else "for discovery"
        hints = {"denied": "see chap, and the initiators of the target", "not_found": "see what the portal serves"}
        return StorageError(code, "portal %s %s, %s" % (self.portal, words, what), hints.get(code, ""))

    def _unreachable(self, error: OSError) -> StorageError:
        said = "did not answer in time" if isinstance(error, socket.timeout) else error.strerror or str(error)
        return StorageError("unreachable", "portal %s: %s" % (self.portal, said), "is the target served there?")


def admitted(portal: str, initiator: str, target: str, chap: dict[str, Any], seconds: float) -> None:
    """Raises what a login would end with."""
    try:
        with Login(portal, initiator, target, chap, seconds) as login:
            login.prove()
    except StorageError as error:
        if error.details.get("status") == _UNAVAILABLE and not _offers(portal, initiator, target, seconds):
            hint = "see what the portal serves"  # LIO says the same of what it does not have
            raise StorageError("not_found", "portal %s does not offer %s" % (portal, target), hint) from error
        raise


def _offers(portal: str, initiator: str, target: str, seconds: float) -> bool:
    """True also where nobody may ask."""
    try:
        return target in targets(portal, initiator, {}, seconds)
    except StorageError:
        return True


def targets(portal: str, initiator: str, chap: dict[str, Any], seconds: float) -> set[str]:
    with Login(portal, initiator, None, chap, seconds) as login:
        return login.offered()


def _words(data: bytes) -> list[str]:
    return [word.decode("utf-8", "replace") for word in data.split(b"\0") if word]


def _hash(number: str, secret: Any, challenge: bytes) -> bytes:
    make: Callable[..., Any] = hashlib.md5  # what RFC 1994 says
    try:
        found = make(usedforsecurity=False)
    except TypeError:  # Python 3.8
        found = make()
    found.update(bytes([int(number)]) + secret.reveal().encode() + challenge)
    return bytes(found.digest())


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _binary(text: str) -> bytes:
    """RFC 7143 6.1: a large number in base 16 or base 64."""
    if re.fullmatch(r"0[xX]([0-9a-fA-F]{2})+", text):
        return bytes.fromhex(text[2:])
    if re.fullmatch(r"0[bB][A-Za-z0-9+/]+=*", text):
        import base64

        return base64.b64decode(text[2:])
    return b""
