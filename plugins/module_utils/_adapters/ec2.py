# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of Amazon EBS and who has them, as DescribeVolumes of the EC2 API tells it.

However many volumes are declared, one paged request shows them all. What is changed is in ec2change.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, Callable, Iterable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    UNKNOWN,
    Secret,
    merged,
    met,
    state_of,
)

GIB = 1 << 30
PAGE, VALUES = 500, 200  # of DescribeVolumes: rows of a page; values of a filter
LIVE = ("creating", "available", "in-use", "error")  # a volume that is being deleted is none any more
# Where an option is not given: the variables that amazon.aws reads, in its order.
ENVIRON = {
    "access_key": ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"),
    "secret_key": ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"),
    "session_token": ("AWS_SESSION_TOKEN",),
    "profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint_url": ("AWS_URL",),
    "aws_ca_bundle": ("AWS_CA_BUNDLE",),
    "debug_botocore_endpoint_logs": ("ANSIBLE_DEBUG_BOTOCORE_LOGS",),
}
KEYS = ("access_key", "secret_key", "session_token")
_DENIED: tuple[str, ...] = (
    "UnauthorizedOperation",
    "AuthFailure",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "OptInRequired",
)
_DENIED += ("ExpiredToken", "RequestExpired", "AccessDenied", "Blocked", "PendingVerification")
_LIMITS = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "VolumeModificationRateExceeded")
_CODES = {
    **dict.fromkeys(_DENIED, "denied"),
    **dict.fromkeys(_LIMITS, "limit_exceeded"),
    "VolumeInUse": "in_use",
    "InvalidVolume.NotFound": "not_found",
    "InvalidInstanceID.NotFound": "not_found",
    "InvalidSnapshot.NotFound": "not_found",
    "InvalidVolume.ZoneMismatch": "conflict",
    "InsufficientVolumeCapacity": "no_space",
}


class Link:
    """A client of one region and one account; what it calls."""

    def __init__(self, to: dict[str, Any], wait: int) -> None:
        self.calls: set[str] = set()
        self.lock = threading.Lock()
        self.client = _client(to, wait)
        self.client.meta.events.register("before-call.ec2", self._count)
        self.debug = bool(to.get("debug_botocore_endpoint_logs") or _environ("debug_botocore_endpoint_logs"))

    def _count(self, model: Any, **_more: Any) -> None:
        with self.lock:
            self.calls.add("ec2:%s" % model.name)

    def __call__(self, operation: str, **arguments: Any) -> Any:
        """One request, with botocore's own retries. Raises ``StorageError``, whose details hold the API's own code."""
        try:
            return getattr(self.client, operation)(**arguments)
        except Exception as error:  # botocore has no one class for all of its own
            raise problem(error, operation) from None  # a traceback could show what was sent

    def pages(self, operation: str, field: str, **arguments: Any) -> Iterator[Any]:
        token: dict[str, Any] = {}
        while True:
            page = self(operation, MaxResults=PAGE, **arguments, **token)
            yield from page[field]
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}


def _environ(option: str) -> str | None:
    return next((os.environ[name] for name in ENVIRON.get(option, ()) if os.environ.get(name)), None)


def _client(to: dict[str, Any], wait: int) -> Any:
    """A region has to be named by somebody: by an option, a variable, or the profile."""
    try:
        import boto3
        import botocore.config
    except ImportError:
        hint = "install boto3 where this task runs: on the controller, or in the execution environment"
        raise StorageError("missing_tool", "this Python has no boto3", hint) from None
    said: dict[str, Any] = {n: value.reveal() if isinstance(value, Secret) else value for n, value in to.items()}
    said = {name: value for name, value in said.items() if value not in ("", None)}
    if "profile" in said and said.keys() & set(KEYS):
        raise StorageError("invalid", "profile and keys exclude each other", "leave one of the two out")
    if not said.keys() & {"profile", *KEYS}:  # what the task says of who it is counts, and nothing is mixed
        said.update({name: _environ(name) for name in (*KEYS, "profile")})
        if said["access_key"]:
            said["profile"] = None
    for name in ("region", "endpoint_url", "aws_ca_bundle"):
        said[name] = said.get(name) or _environ(name)
    tries = 5 if wait >= 60 else 3
    limit = max(1.0, min(20.0, wait / (2.0 * tries)))  # however often it is tried, half of the time is left
    config: dict[str, Any] = {"connect_timeout": min(limit, 5.0), "read_timeout": limit}
    config["retries"] = {"mode": "standard", "total_max_attempts": tries}
    config.update(said.get("aws_config") or {})
    try:
        session = boto3.session.Session(
            aws_access_key_id=said.get("access_key"),
            aws_secret_access_key=said.get("secret_key"),
            aws_session_token=said.get("session_token"),
            profile_name=said.get("profile"),
            region_name=said["region"],
        )
        verify = said.get("validate_certs", True)
        return session.client(
            "ec2",
            endpoint_url=said["endpoint_url"],
            verify=(said["aws_ca_bundle"] or True) if verify else False,
            config=botocore.config.Config(**config),
        )
    except Exception as error:  # as above
        raise problem(error, "connect") from None


def problem(error: Exception, operation: str) -> StorageError:
    """What an exception of botocore means."""
    name, answer = type(error).__name__, getattr(error, "response", None)
    if isinstance(error, StorageError):
        return error
    if isinstance(answer, dict):
        said = answer.get("Error", {})
        api = str(said.get("Code", ""))
        text = "%s: %s: %s" % (operation, api, said.get("Message", ""))
        hint = "who this task is at AWS may not do it" if api in _DENIED else ""
        if api in ("RequestLimitExceeded", "Throttling", "ThrottlingException"):
            hint = "EC2 takes fewer requests just now: run it again, later or with fewer workers"
        return StorageError(_CODES.get(api, "failed"), text[:600], hint, api_code=api)
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ProxyConnectionError"):
        return StorageError("unreachable", "%s: %s" % (operation, error), "run it again once EC2 is reached")
    if name in ("ReadTimeoutError", "SSLError"):
        code = "timeout" if name == "ReadTimeoutError" else "unreachable"
        return StorageError(code, "%s: %s" % (operation, error), "run it again: it goes on from what is there then")
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return StorageError("denied", "no credentials for AWS: %s" % error, "see access_key and profile")
    if name == "NoRegionError":
        return StorageError("invalid", "no region is given", "declare region, or set AWS_REGION", option="region")
    if name == "ProfileNotFound":
        return StorageError("not_found", str(error), "see profile", option="profile")
    if name in ("InvalidConfigError", "TypeError", "ValueError", "InvalidRetryConfigurationError"):
        return StorageError("invalid", "%s: %s" % (operation, error), "see aws_config and endpoint_url")
    return StorageError("failed", "%s: %s: %s" % (operation, name, error))


class Volumes:
    """Port ``ec2_volume``. Target: an ``Afar``, by id or by the tag Name, in a zone where one is said.

    Row: size (bytes), type, iops, throughput (MiB/s), multi_attach, encrypted, kms_key_id, snapshot_id, zone, tags.
    """

    name, behind, slow = "ec2_volume", False, True

    def __init__(self, connect: Callable[..., Any] = Link) -> None:
        self.connect = connect
        self.links: dict[str, Any] = {}
        self.declared: dict[str, Any] = {}
        self.made: dict[str, str] = {}  # ids of what this run made: seen by them where the name is not found yet
        self.modified: dict[str, Any] = {}  # what this run has heard of modifications, by the id
        self.tried: set[str] = set()  # what this run was to make, whatever became of it
        self.rows: dict[str, Any] = {}
        self.unread: set[str] = set()  # volumes that were looked at, but not yet for their attachments
        self.guard = threading.Lock()

    def resolve(self, target: Any, declared: Any) -> Any:
        self.declared[target] = declared
        return declared

    def link(self, target: Any) -> Any:
        to = target.access["to"]
        hidden = {name: value.reveal() if isinstance(value, Secret) else value for name, value in to.items()}
        key = json.dumps(hidden, sort_keys=True, default=str)
        with self.guard:
            if key not in self.links:
                self.links[key] = self.connect(to, target.access["wait"])
            return self.links[key]

    def scan(self, targets: Iterable[Any]) -> dict[Any, Any]:
        by_link: dict[int, tuple[Any, list[Any]]] = {}
        found: dict[Any, Any] = {}
        for target in targets:
            link = self.link(target)
            by_link.setdefault(id(link), (link, []))[1].append(target)
        for link, mine in by_link.values():
            for target, rows in self._look(link, mine):
                if len(rows) > 1:
                    found[target] = _several(target, rows)
                elif rows:
                    found[target] = rows[0]
                    rows[0]["_modification"] = self.modified.get(rows[0]["_id"])
                self.rows[target] = rows[0] if len(rows) == 1 else None
                self.unread.add(target)
        return found

    def _look(self, link: Any, targets: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
        """All that bear each name, or have the id."""
        ids = [target.access.get("volume_id") or self.made.get(target) for target in targets]
        names = [t.access["name"] for t in targets if "name" in t.access and t not in self.made]
        by_id = {row["_id"]: row for row in ask(link, "volume-id", [each for each in ids if each])}
        by_name: dict[str, list[Any]] = {}
        for row in ask(link, "tag:Name", names):
            by_name.setdefault(row["tags"].get("Name", ""), []).append(row)
        for target, known in zip(targets, ids):
            if known:
                yield target, [by_id[known]] if known in by_id else []
            else:
                zone = target.access["zone"]
                yield target, [row for row in by_name.get(target.access["name"], ()) if zone in (None, row["zone"])]

    def listed(self, p: dict[str, Any], to: dict[str, Any]) -> list[Any]:
        """Of those that match, with their last modification."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2change

        return ec2change.listed(self.connect(to, 300), p)

    def merge(self, target: Any, row: Any, declared: Any) -> Any:
        """A new type chooses its own figures."""
        made = merged(row, declared)
        if row and made["type"] != row["type"]:
            made.update((name, UNKNOWN) for name in ("iops", "throughput") if declared[name] is UNKNOWN)
        return made

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        """A modification cannot be taken back for hours."""
        if before is None:
            return REVERSIBLE
        if after is None:
            return DESTROYS
        plain, wanted = dict(state_of(before)), dict(state_of(after))
        del plain["tags"], wanted["tags"]
        return REVERSIBLE if met(plain, wanted) else FORWARD

    def consent(self, target: Any, before: Any, after: Any) -> tuple[str, str]:
        return "absent", str(target)

    def refuse(self, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2preflight

        return ec2preflight.volume(self, target, before, after, gone)

    def put(self, target: Any, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2change

        self.unread.discard(target)
        ec2change.Change(self, target).volume(before, after)


class Attachments:
    """Port ``ec2_attachment``. Target: the volume and the id of an instance; row: ``device``."""

    name, behind, slow = "ec2_attachment", False, True

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes
        self.wanted: dict[Any, Any] = {}
        self.named: set[str] = set()  # instances of all targets
        self.asked: set[str] = set()  # those that were looked for
        self.instances: dict[str, Any] = {}  # and found
        self.given: set[tuple[str, str]] = set()  # devices that this run chose

    def resolve(self, target: Any, declared: Any) -> Any:
        self.wanted[target] = declared
        return declared

    def scan(self, targets: Iterable[Any]) -> dict[Any, Any]:
        targets = list(targets)
        self.named.update(instance for _spot, instance in targets)
        spots = dict.fromkeys(spot for spot, _instance in targets)
        stale = [spot for spot in spots if spot not in self.volumes.unread]
        failed = {spot: row for spot, row in self.volumes.scan(stale).items() if isinstance(row, StorageError)}
        self.volumes.unread.difference_update(spots)
        found: dict[Any, Any] = {}
        for target in targets:
            row = failed.get(target[0]) or self.volumes.rows.get(target[0])
            if isinstance(row, StorageError):
                found[target] = row
            elif row and target[1] in row["_attachments"]:
                found[target] = row["_attachments"][target[1]]
        return found

    def same(self, target: Any, row: Any, declared: Any) -> bool:
        """On its way in, or out, is not there."""
        return met(row, declared) and row.get("_state", "attached") == "attached"

    def merge(self, target: Any, row: Any, declared: Any) -> Any:
        return {"device": row["device"]} if row and declared["device"] is UNKNOWN else declared

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        """What is torn from an instance that still writes is not made whole by giving it back."""
        return FORWARD if after is None and target[0].access["force"] else REVERSIBLE

    def refuse(self, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2preflight

        return ec2preflight.attachment(self, target, before, after, gone)

    def put(self, target: Any, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2change

        self.volumes.unread.discard(target[0])
        ec2change.Change(self.volumes, target[0]).attachment(self, target[1], before, after)


def ask(link: Any, by: str, values: list[str]) -> Iterator[Any]:
    """Volumes by the values of a filter."""
    values = list(dict.fromkeys(values))
    for start in range(0, len(values), VALUES):
        filters = [{"Name": by, "Values": [escaped(each) for each in values[start : start + VALUES]]}]
        for volume in link.pages("describe_volumes", "Volumes", Filters=filters):
            if volume["State"] in LIVE:
                yield row_of(volume, link)


def escaped(text: str) -> str:
    """Filters know wildcards."""
    return "".join("\\" + each if each in "*?\\" else each for each in text)


def row_of(volume: dict[str, Any], link: Any) -> dict[str, Any]:
    tags = {each["Key"]: each["Value"] for each in volume.get("Tags") or () if each["Key"][:4].lower() != "aws:"}
    attached = {
        each["InstanceId"]: {"device": each["Device"], "_state": each["State"]}
        for each in volume.get("Attachments") or ()
        if each.get("InstanceId") and each["State"] != "detached"
    }
    row = {
        "size": volume["Size"] * GIB,
        "type": volume["VolumeType"],
        "iops": volume.get("Iops"),
        "throughput": volume.get("Throughput"),
        "multi_attach": bool(volume.get("MultiAttachEnabled")),
        "encrypted": bool(volume.get("Encrypted")),
        "kms_key_id": volume.get("KmsKeyId"),
        "snapshot_id": volume.get("SnapshotId") or None,
        "zone": volume["AvailabilityZone"],
        "tags": tags,
        "_id": volume["VolumeId"],
        "_state": volume["State"],
        "_born": str(volume.get("CreateTime", "")),
        "_attachments": attached,
    }
    if link.debug:
        row["_calls"] = sorted(link.calls)
    return row


def _several(target: Any, rows: list[Any]) -> StorageError:
    there = ", ".join("%s in %s" % (row["_id"], row["zone"]) for row in rows[:10])
    text = "%d volumes have the name %s: %s" % (len(rows), target.access["name"], there)
    hint = "declare volume_id" if target.access["zone"] else "declare availability_zone, or volume_id"
    return StorageError("conflict", text, hint, volume_ids=[row["_id"] for row in rows])
