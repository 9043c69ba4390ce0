# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict double of EC2, for tests: moto's server with its EBS part put right (ebs.py, ebs_api.py), faults, a record.

Run as a program (``python -m ...tests.support.ec2_server``) it listens on a free port of 127.0.0.1, prints the port
and ends when its standard input ends. Clients talk to it as to EC2. Tests steer it with JSON under ``/_double/``
(``ec2.py`` has a function for each):

- ``calls``: GET the record of every API call in order of arrival, DELETE it;
- ``faults``: POST one (see ``Fault``), GET those left, DELETE all;
- ``settings``: GET, or POST some of ``ebs.Behaviour``;
- ``volumes``: GET the truth, past lag and without time going on;
- ``settle``: POST: everything under way is done and seen;
- ``instance``: POST ``{"id", "state"}``: puts an instance into a state (pending, stopping, ...) in which it stays;
- ``refusals``: GET which codes are documented, which guessed;
- ``reset``: POST: as freshly started.

Not modelled, so that no test proves anything about it:

- permissions (but for the fault), DryRun before anything but unknown ids, quotas of an account, real throttling;
- KMS: any key is taken, none is looked up; encryption by default; snapshots shared, archived or encrypted anew;
- snapshots are complete at once; fast restore; initialisation of volumes made from snapshots; CopyVolumes;
- DescribeVolumeStatus, DescribeVolumeAttribute, ModifyVolumeAttribute, EnableVolumeIO (HTTP 500 from moto);
- DescribeTags, DescribeInstances' tags and DescribeSnapshots never lag; a deleted volume is unseen once it is gone;
- instances are ``running`` (``stopped``, ``terminated``) at once unless set; root volumes of stopped instances may be
  detached but a start without one works; limits of volumes per instance other than 28 with the interfaces;
- a detach waits for no guest; ``busy`` and ``Force`` losing data; device names as the guest sees them; NVMe;
- which Nitro types reach the full limits of io2 and gp3; io1 with Multi-Attach in some regions only; Windows;
- previous generations of instances that must stop for a modification; ``standard`` volumes that cannot be modified;
- a modification to what already is: counted and gone through like any other (what EC2 does is not known);
- client tokens are kept until reset, only by CreateVolume, and answer with the first reply even after a deletion;
- sites (Outposts, local zones, wavelength zones), dedicated hosts, launch templates, volumes of RunInstances with IOPS.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Iterable
from urllib.parse import parse_qsl

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # thousands of images that no test of ours needs

from moto.core.model_instances import reset_model_data  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

from ansible_collections.bulkhead.storage.tests.support import ebs, ebs_api  # noqa: E402

SETUP = "double-setup"  # in the User-Agent: what makes a test's world is neither recorded nor hit by faults
Environ = dict[str, Any]
Start = Callable[..., Any]


@dataclass
class Fault:
    """One thing that goes wrong with the next ``times`` calls (None: all) of an action (``*``: any).

    ``kind``: ``error`` (``code``, ``status``, ``message``), ``lost`` (takes effect, then the connection is closed
    without an answer), ``dropped`` (the connection is closed before anything takes effect), ``slow`` (takes effect,
    is answered ``seconds`` later), ``together`` (takes effect when all ``times`` of them have come, or after
    ``seconds``). ``skip``: so many calls go well first. ``matching``: only calls with these parameters, by the names of
    the query (``VolumeId.1``).
    """

    action: str
    kind: str
    times: int | None = 1
    skip: int = 0
    code: str = "InternalError"
    status: int = 500
    message: str = "An internal error has occurred"
    seconds: float = 0
    matching: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ("error", "lost", "dropped", "slow", "together"):
            raise ValueError("no such kind of fault: %s" % self.kind)
        self.met = threading.Barrier(self.times or 1)

    def strikes(self, action: str, parameters: dict[str, str]) -> bool:
        if self.times == 0 or self.action not in ("*", action) or self.matching.items() - parameters.items():
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Double:
    """The WSGI application: the control side, and moto behind the record and the faults."""

    def __init__(self) -> None:
        ebs_api.install()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.calls: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        # Moto's models know no threads, and a look at a volume moves its time on: one call at a time.
        self.one_at_a_time = threading.Lock()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        path = environ.get("PATH_INFO", "")
        if path.startswith("/_double/"):
            return self.control(environ["REQUEST_METHOD"], path[len("/_double/") :], body, start)
        return self.serve(environ, body, start)

    def serve(self, environ: Environ, body: bytes, start: Start) -> Iterable[bytes]:
        parameters = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = parameters.pop("Action", "")
        parameters.pop("Version", None)
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        service, region = (scope[3], scope[2]) if len(scope) == 5 else ("", "")
        call: dict[str, Any] = {"action": action, "parameters": parameters, "service": service, "region": region}
        call["time"] = time.time()
        hit = SETUP not in environ.get("HTTP_USER_AGENT", "")
        with self.one_at_a_time:
            together = self.struck(action, parameters, [f for f in self.faults if f.kind == "together" and hit])
        if together:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.met.wait(together.seconds)
        with self.one_at_a_time:
            slow = fault = None
            if hit:
                self.calls.append(call)
                slow = self.struck(action, parameters, [f for f in self.faults if f.kind == "slow"])
                fault = self.struck(action, parameters, [f for f in self.faults if f.kind not in ("slow", "together")])
            kind = fault.kind if fault else ""
            status, headers, content = "", [], b""
            if fault and kind == "error":
                status, headers, content = self.error(fault)
            elif kind != "dropped":
                status, headers, content = self.moto_answer(environ, body)
            call["answered"] = kind not in ("lost", "dropped")
            call["outcome"] = outcome(status, content) if status else kind
        if not call["answered"]:
            hang_up(environ)
        time.sleep(slow.seconds if slow else 0)
        start(status, headers)
        return [content]

    def struck(self, action: str, parameters: dict[str, str], candidates: list[Fault]) -> Fault | None:
        fault = next((f for f in candidates if f.strikes(action, parameters)), None)
        self.faults = [f for f in self.faults if f.times != 0]
        return fault

    def moto_answer(self, environ: Environ, body: bytes) -> tuple[str, list[Any], bytes]:
        told: list[Any] = []
        environ = {**environ, "wsgi.input": io.BytesIO(body)}
        content = b"".join(self.moto(environ, lambda status, headers, *_: told.extend((status, headers))))
        return told[0], told[1], content

    @staticmethod
    def error(fault: Fault) -> tuple[str, list[Any], bytes]:
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>%s</Code><Message>%s</Message>'
            "</Error></Errors><RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
        ) % (fault.code, fault.message)
        content = text.encode()
        return "%d Said" % fault.status, [("Content-Type", "text/xml"), ("Content-Length", str(len(content)))], content

    def control(self, method: str, what: str, body: bytes, start: Start) -> Iterable[bytes]:
        try:
            with self.one_at_a_time:
                reply = self.steered(method, what, json.loads(body) if body else {})
            status = "200 OK"
        except (LookupError, TypeError, ValueError) as error:
            reply, status = {"error": "%s: %s" % (type(error).__name__, error)}, "400 Bad Request"
        content = json.dumps(reply, default=str).encode()
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    def steered(self, method: str, what: str, told: dict[str, Any]) -> Any:
        if (method, what) == ("GET", "calls"):
            return self.calls
        if (method, what) == ("DELETE", "calls"):
            self.calls = []
        elif (method, what) == ("GET", "faults"):
            return [asdict(fault) for fault in self.faults]
        elif (method, what) == ("POST", "faults"):
            self.faults.append(Fault(**told))
        elif (method, what) == ("DELETE", "faults"):
            self.faults = []
        elif (method, what) == ("GET", "settings"):
            return asdict(ebs.behaviour)
        elif (method, what) == ("POST", "settings"):
            ebs.behaviour.update(told)
        elif (method, what) == ("GET", "volumes"):
            return {volume.id: {"Region": region, **volume.row()} for region, volume in ebs_api.every_volume()}
        elif (method, what) == ("POST", "settle"):
            for _id, volume in ebs_api.every_volume():
                volume.settle()
        elif (method, what) == ("POST", "instance"):
            put_into(told["id"], told["state"])
        elif (method, what) == ("GET", "refusals"):
            return {name: {"code": code, "sure": sure} for name, (code, sure, _why) in ebs.REFUSALS.items()}
        elif (method, what) == ("POST", "reset"):
            self.calls, self.faults = [], []
            ebs.behaviour.update(asdict(ebs.Behaviour()))
            ebs_api.pages.clear()
            ebs_api.tokens.clear()
            ec2_backends.reset()
            reset_model_data()
        else:
            raise LookupError("%s %s" % (method, what))
        return {}


STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def put_into(instance_id: str, state: str) -> None:
    for account in ec2_backends.values():
        for backend in account.values():
            instance = backend.get_instance_by_id(instance_id)
            if instance is not None:
                instance._state.name, instance._state.code = state, STATES[state]
                return
    raise LookupError(instance_id)


def outcome(status: str, content: bytes) -> str:
    """``ok``, or the code of the error."""
    if status.startswith("2"):
        return "ok"
    return content.decode("utf-8", "replace").partition("<Code>")[2].partition("</Code>")[0] or status


def hang_up(environ: Environ) -> None:
    """Closes the connection as a machine that goes down in the middle does: not one byte is answered."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("as asked")


class Handler(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        if type == "error":
            super().log(type, message, *args)


def main() -> None:
    server = make_server("127.0.0.1", 0, Double(), threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()  # ends with the parent, however that ends


if __name__ == "__main__":
    main()
