# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EC2 double (ec2_server.py) for the time of a block, and what tests ask of it.

    with ec2.double() as cloud:
        a, b = cloud.instances(2, zone="us-east-1a")
        cloud.settings(attaching=3)
        cloud.fault("AttachVolume", "lost")
        ...
        assert cloud.count("AttachVolume") == 2

``EC2`` is also where a module or a play is pointed at: ``cloud.url`` and ``cloud.environment()``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import subprocess
import sys
from typing import Any, Iterator

import boto3
import botocore.config

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "testing-access-key", "aws_secret_access_key": "testing-secret-xyz"}


class EC2:
    """A running double: its address, clients of it, and its control side."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = "http://127.0.0.1:%d" % port
        self._session = boto3.session.Session(region_name=REGION, **KEYS)
        self._clients: dict[Any, Any] = {}  # making one takes longer than most calls

    def environment(self) -> dict[str, str]:
        """The variables that lead any program that uses an AWS library here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(
        self, service: str = "ec2", region: str = REGION, retries: int = 0, timeout: float = 30, setup: bool = False
    ) -> Any:
        """A boto3 client, good for many threads; ``retries`` of its own, none by default: a test sees each answer.

        ``setup``: its calls are neither recorded nor hit by faults.
        """
        asked = (service, region, retries, timeout, setup)
        if asked in self._clients:
            return self._clients[asked]
        config = botocore.config.Config(
            retries={"total_max_attempts": retries + 1, "mode": "standard"},
            read_timeout=timeout,
            user_agent_extra="double-setup" if setup else None,
            max_pool_connections=50,
            proxies={"http": None, "https": None},
        )
        made = self._session.client(service, region_name=region, endpoint_url=self.url, config=config)
        return self._clients.setdefault(asked, made)

    def ask(self, method: str, what: str, **told: Any) -> Any:
        """One request to the control side; its refusal is raised."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, "/_double/" + what, json.dumps(told) if told else None)
            response = connection.getresponse()
            reply = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(reply["error"])
        return reply

    def instances(
        self, count: int = 1, zone: str = REGION + "a", kind: str = "m5.large", state: str = "running"
    ) -> list[str]:
        """New instances with a root volume each; their ids. Neither recorded nor hit by faults."""
        run = self.client(region=zone[:-1], setup=True).run_instances(
            ImageId="ami-12345678",
            InstanceType=kind,
            MinCount=count,
            MaxCount=count,
            Placement={"AvailabilityZone": zone},
        )
        ids = [instance["InstanceId"] for instance in run["Instances"]]
        for instance_id in ids if state != "running" else []:
            self.instance_state(instance_id, state)
        return ids

    def instance_state(self, instance_id: str, state: str) -> None:
        """pending, running, shutting-down, terminated, stopping or stopped; terminated so, it keeps its volumes."""
        self.ask("POST", "instance", id=instance_id, state=state)

    def calls(self, action: str = "") -> list[dict[str, Any]]:
        """The record, in order: action, parameters (flat, as in the query), time, service, region,

        outcome (``ok``, an error code, ``dropped``) and answered (false: the client saw nothing of it).
        """
        return [call for call in self.ask("GET", "calls") if action in ("", call["action"])]

    def count(self, action: str = "") -> int:
        return len(self.calls(action))

    def clear(self) -> None:
        """Empties the record of calls."""
        self.ask("DELETE", "calls")

    def fault(self, action: str, kind: str, **more: Any) -> None:
        """``kind`` as of ``ec2_server.Fault``, or ``throttle`` or ``unauthorized``; ``times=None`` for ever."""
        if kind == "throttle":
            said = {"code": "RequestLimitExceeded", "status": 503, "message": "Request limit exceeded."}
            more, kind = {**said, **more}, "error"
        elif kind == "unauthorized":
            text = "You are not authorized to perform this operation."
            more, kind = {"code": "UnauthorizedOperation", "status": 403, "message": text, **more}, "error"
        self.ask("POST", "faults", action=action, kind=kind, **more)

    def faults(self) -> list[dict[str, Any]]:
        """Those that have calls left to strike."""
        return list(self.ask("GET", "faults"))

    def no_faults(self) -> None:
        self.ask("DELETE", "faults")

    def settings(self, **some: Any) -> dict[str, Any]:
        """Changes some of ``ebs.Behaviour``; returns all."""
        if some:
            self.ask("POST", "settings", **some)
        return dict(self.ask("GET", "settings"))

    def stick(self, instance_id: str, volume_id: str) -> None:
        """This volume stays ``detaching`` from this instance until Force."""
        self.settings(stuck=[*self.settings()["stuck"], [instance_id, volume_id]])

    def pass_time(self, seconds: float) -> None:
        """For the budget of modifications."""
        self.settings(clock=self.settings()["clock"] + seconds)

    def volumes(self) -> dict[str, dict[str, Any]]:
        """The truth, in the words of DescribeVolumes and by id: no lag, no time goes on, no call in the record."""
        return dict(self.ask("GET", "volumes"))

    def attached(self, volume_id: str) -> dict[str, str]:
        """The truth about one volume: instance -> state of the attachment."""
        return {a["InstanceId"]: a["State"] for a in self.volumes()[volume_id]["Attachments"]}

    def settle(self) -> None:
        """Everything under way is done and seen (but for what is stuck)."""
        self.ask("POST", "settle")

    def reset(self) -> None:
        """As freshly started; takes milliseconds, so that one double serves many tests."""
        self.ask("POST", "reset")


@contextlib.contextmanager
def double(start_within: float = 60) -> Iterator[EC2]:
    """A double of its own, as a child process that is gone after the block, also when this process is killed."""
    roots = [path for path in sys.path if os.path.isdir(path + "/ansible_collections/bulkhead/storage")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", __name__.rpartition(".")[0] + ".ec2_server"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd="/")
    try:
        yield EC2(_port(child, start_within))
    finally:
        child.kill()
        child.communicate()


def _port(child: subprocess.Popen[bytes], within: float) -> int:
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        line = child.stdout.readline() if selector.select(within) else b""
    if not line.strip():
        raise RuntimeError("the EC2 double did not start: exit code %s" % child.poll())
    return int(line)
