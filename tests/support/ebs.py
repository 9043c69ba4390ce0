# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of the EC2 double (ec2_server.py): what AWS documents that they may be, become and pass through.

Time is counted in Describe calls: a volume is ``creating`` for so many calls that look at it, then ``available``, so
that a test needs no clock and code that does not wait is caught each time. Only a call that shows the new state makes
it so: who attaches after one look at ``creating`` is refused, as by the real thing. The truth about each volume is in
the ``Volume`` objects; what a Describe shows may lag behind it (``Behaviour.*_lag``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from moto.core.utils import utcnow
from moto.ec2 import utils as moto_utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import elastic_block_store as moto_ebs

DAY = 24 * 3600  # the window of the modification budget


class Kind(NamedTuple):
    """What a volume type may be. Sizes in GiB, throughput in MiB/s; EBS user guide, "EBS volume types"."""

    sizes: tuple[int, int]
    iops: tuple[int, int] = (0, 0)  # (0, 0): the type takes no Iops
    iops_per_gib: int = 0
    iops_default: int = 0  # 0: Iops must be said
    throughput: tuple[int, int] = (0, 0)
    multi_attach: bool = False


KINDS = {
    "gp2": Kind((1, 16384)),
    "gp3": Kind((1, 65536), (3000, 80000), 500, 3000, (125, 2000)),
    "io1": Kind((4, 16384), (100, 64000), 50, multi_attach=True),
    "io2": Kind((4, 65536), (100, 256000), 1000, multi_attach=True),
    "st1": Kind((125, 16384)),
    "sc1": Kind((125, 16384)),
    "standard": Kind((1, 1024)),
}
MULTI_ATTACH_LIMIT = 16
NITRO_SLOTS = 28  # volumes and network interfaces together; the newest types have more
DEVICE = re.compile(r"/dev/((sd|hd)[a-z]([1-9]|1[0-5])?|xvd[a-d]?[a-z])")

# How sure a code is: documented (API reference or user guide), seen (told in public reports of the real API), or
# guessed. Modules must not branch on a guessed one: Behaviour.guessed_code replaces them all, to prove it.
DOCUMENTED, SEEN, GUESSED = "documented", "seen", "guessed"
REFUSALS = {
    "volume_unknown": ("InvalidVolume.NotFound", DOCUMENTED, "The volume '%s' does not exist."),
    "volume_malformed": ("InvalidVolumeID.Malformed", DOCUMENTED, "Invalid id: '%s'"),
    "instance_unknown": ("InvalidInstanceID.NotFound", DOCUMENTED, "The instance ID '%s' does not exist"),
    "instance_malformed": ("InvalidInstanceID.Malformed", DOCUMENTED, "Invalid id: '%s'"),
    "snapshot_unknown": ("InvalidSnapshot.NotFound", DOCUMENTED, "The snapshot '%s' does not exist."),
    "missing": ("MissingParameter", DOCUMENTED, "The request must contain the parameter %s"),
    "zone_unknown": ("InvalidZone.NotFound", DOCUMENTED, "The zone '%s' does not exist."),
    "type_unknown": ("UnknownVolumeType", DOCUMENTED, "Unsupported volume type '%s'"),
    "size": ("InvalidParameterValue", SEEN, "Volume of %sGiB is out of range for %s: %s to %s GiB"),
    "size_of_snapshot": ("InvalidParameterValue", GUESSED, "Volume of %sGiB is smaller than snapshot '%s': %sGiB"),
    "iops_refused": ("InvalidParameterCombination", SEEN, "The parameter iops is not supported for %s volumes."),
    "iops": ("InvalidParameterValue", SEEN, "Volume iops of %s is out of range for %s: %s to %s"),
    "iops_ratio": ("InvalidParameterValue", SEEN, "Iops to volume size ratio of %s is too high; maximum is %s"),
    "throughput_refused": (
        "InvalidParameterCombination",
        SEEN,
        "The parameter throughput is not supported for %s volumes.",
    ),
    "throughput": ("InvalidParameterValue", SEEN, "Volume throughput of %s is out of range for %s: %s to %s"),
    "throughput_ratio": ("InvalidParameterValue", SEEN, "Throughput (MiBps) to iops ratio of %s is too high"),
    "key_needs_encrypted": ("InvalidParameterDependency", DOCUMENTED, "KmsKeyId requires Encrypted to be set"),
    "multi_attach_type": ("InvalidParameterCombination", GUESSED, "Multi-Attach is not supported for %s volumes."),
    "token": ("IdempotentParameterMismatch", DOCUMENTED, "The client token '%s' was used with other parameters."),
    "not_available": ("IncorrectState", DOCUMENTED, "Volume '%s' is in the '%s' state."),
    "not_attached": ("IncorrectState", SEEN, "Volume '%s' is in the 'available' state."),
    "not_running": ("IncorrectState", SEEN, "Instance '%s' is not 'running'."),
    "attached": ("VolumeInUse", DOCUMENTED, "%s is already attached to an instance"),
    "delete_attached": ("VolumeInUse", DOCUMENTED, "Volume %s is currently attached to %s"),
    "zone": ("InvalidVolume.ZoneMismatch", DOCUMENTED, "The volume '%s' is not in the same zone as instance '%s'"),
    "device_invalid": ("InvalidParameterValue", SEEN, "Value (%s) for parameter device is invalid."),
    "device_taken": ("InvalidParameterValue", SEEN, "Attachment point %s is already in use"),
    "not_nitro": ("UnsupportedOperation", GUESSED, "Multi-Attach is not supported on instance type %s"),
    "multi_attach_full": ("AttachmentLimitExceeded", GUESSED, "Volume '%s' is attached to %s instances"),
    "instance_full": ("AttachmentLimitExceeded", SEEN, "Instance '%s' has no free attachment slot"),
    "multi_attach_root": ("InvalidParameterValue", GUESSED, "Multi-Attach volume '%s' cannot be a root volume"),
    "attach_modifying": ("IncorrectState", SEEN, "Cannot attach volume '%s' in modification state: MODIFYING"),
    "which_instance": ("MissingParameter", GUESSED, "InstanceId is required for Multi-Attach volume '%s'"),
    "not_there": ("InvalidAttachment.NotFound", DOCUMENTED, "Volume '%s' is not attached to '%s' as asked"),
    "root": ("OperationNotPermitted", SEEN, "Unable to detach root volume '%s' from instance '%s'"),
    "attachment_moving": ("IncorrectState", GUESSED, "The attachment of volume '%s' is in the '%s' state."),
    "nothing_asked": ("InvalidParameterCombination", GUESSED, "No modification was asked of volume '%s'"),
    "shrink": ("InvalidParameterValue", SEEN, "New size cannot be smaller than existing size"),
    "under_way": ("IncorrectModificationState", DOCUMENTED, "Volume %s cannot be modified in modification state %s"),
    "budget": ("VolumeModificationRateExceeded", DOCUMENTED, "Volume %s was modified %s times within 24 hours."),
    "modify_multi_attach": ("InvalidParameterCombination", GUESSED, "%s of Multi-Attach %s volumes cannot change"),
    "multi_attach_fixed": ("InvalidParameterCombination", GUESSED, "Multi-Attach of %s volumes is set at creation"),
    "enable_attached": ("IncorrectState", GUESSED, "Multi-Attach of attached volume '%s' cannot be enabled"),
    "disable_attached": ("IncorrectState", GUESSED, "Multi-Attach of volume '%s', attached to %s, cannot be disabled"),
    "tag_reserved": ("InvalidParameterValue", SEEN, "Tag keys starting with 'aws:' are reserved: '%s'"),
    "tag_long": ("InvalidParameterValue", SEEN, "Tag key or value of '%s' is empty or longer than %s"),
    "tag_limit": ("TagLimitExceeded", DOCUMENTED, "More than %s tags."),
    "never_modified": ("InvalidVolumeModification.NotFound", SEEN, "No modification of volume '%s' was found."),
    "filter_unknown": ("InvalidParameterValue", SEEN, "The filter '%s' is invalid"),
    "filters": ("FilterLimitExceeded", DOCUMENTED, "The maximum number of %s is %s"),
    "page": ("InvalidParameterValue", SEEN, "Value ( %s ) for parameter maxResults is invalid, at least %s"),
    "page_of_ids": ("InvalidParameterCombination", DOCUMENTED, "%s cannot be used with the parameter maxResults"),
    "token_unknown": ("InvalidPaginationToken", DOCUMENTED, "The pagination token '%s' is invalid"),
}


def refuse(name: str, *values: Any) -> EC2ClientError:
    code, sure, text = REFUSALS[name]
    if sure == GUESSED and behaviour.guessed_code:
        code = behaviour.guessed_code
    return EC2ClientError(code, text % values)


@dataclass
class Behaviour:
    """What tests set (POST /_double/settings). Counts are of Describe calls that have the volume in their scope.

    Such are DescribeVolumes and DescribeInstances; for a modification DescribeVolumesModifications too.
    """

    creating: int = 2
    attaching: int = 2
    detaching: int = 2
    deleting: int = 1
    modifying: int = 2
    optimizing: int = 2
    volume_lag: int = 0  # a new volume is unseen, by id InvalidVolume.NotFound
    attachment_lag: int = 0  # a change of attachments is unseen
    tag_lag: int = 0  # a change of tags is unseen
    fail_creations: int = 0  # the next n volumes end in `error`
    fail_modifications: int = 0  # the next n modifications end in `failed`
    modification_budget: int = 4  # modifications per volume in 24 hours
    page: int = 1000  # a reply is never longer, whatever is asked
    guessed_code: str = ""  # says every guessed refusal instead of its own code
    clock: float = 0.0  # seconds that the clock of the budget is ahead
    stuck: list[list[str]] = field(default_factory=list)  # [instance, volume]: `detaching` until Force

    def update(self, values: dict[str, Any]) -> None:
        known = {f.name for f in fields(self)}
        if set(values) - known:
            raise ValueError("no such setting: %s" % ", ".join(sorted(set(values) - known)))
        for name, value in values.items():
            kind = type(getattr(Behaviour(), name))
            if not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError("setting %s is of type %s" % (name, kind.__name__))
            setattr(self, name, value)


behaviour = Behaviour()


class Attachment:
    """One volume at one instance; ``left`` Describe calls still show its transitional state."""

    def __init__(self, volume: Volume, instance: Any, device: str, state: str, delete_on_termination: bool) -> None:
        self.volume, self.instance, self.device, self.state = volume, instance, device, state
        self.attach_time = utcnow()
        self.delete_on_termination = delete_on_termination
        self.left = 0

    def row(self) -> dict[str, Any]:
        return {
            "VolumeId": self.volume.id,
            "InstanceId": self.instance.id,
            "Device": self.device,
            "State": self.state,
            "AttachTime": self.attach_time,
            "DeleteOnTermination": self.delete_on_termination,
        }

    def begin(self, state: str, calls: int) -> None:
        self.state, self.left = state, calls
        if calls == 0:
            self.finish()

    def step(self) -> None:
        if self.state not in ("attaching", "detaching"):
            return
        if self.state == "detaching" and [self.instance.id, self.volume.id] in behaviour.stuck:
            return
        if self.left:
            self.left -= 1
        else:
            self.finish()

    def finish(self) -> None:
        if self.state == "attaching":
            self.state = "attached"
        elif self.state == "detaching":
            self.state = "detached"
            self.volume.attached.remove(self)
            self.instance.block_device_mapping.pop(self.device, None)


class Modification:
    """The newest request to change a volume, from ``modifying`` over ``optimizing`` to ``completed``."""

    def __init__(self, volume: Volume, target: Spec) -> None:
        self.volume, self.original, self.target = volume, volume.spec, target
        self.state, self.left, self.began = "modifying", behaviour.modifying, utcnow()
        self.ended: Any = None
        self.fails = behaviour.fail_modifications > 0
        if self.fails:
            behaviour.fail_modifications -= 1

    def row(self) -> dict[str, Any]:
        row = {
            "VolumeId": self.volume.id,
            "ModificationState": self.state,
            "Progress": {"modifying": 0, "optimizing": 50, "completed": 100, "failed": 0}[self.state],
            "StartTime": self.began,
        }
        for when, spec in (("Original", self.original), ("Target", self.target)):
            row[when + "Size"], row[when + "VolumeType"] = spec.size, spec.kind
            row[when + "Iops"], row[when + "Throughput"] = spec.iops_shown(), spec.throughput or None
            row[when + "MultiAttachEnabled"] = spec.multi_attach
        if self.ended:
            row["EndTime"] = self.ended
        if self.state == "failed":
            row["StatusMessage"] = "The modification failed."
        return {name: value for name, value in row.items() if value is not None}

    def step(self) -> None:
        if self.state not in ("modifying", "optimizing"):
            return
        if self.left:
            self.left -= 1
        elif self.state == "modifying" and self.fails:
            self.state, self.ended = "failed", utcnow()
        elif self.state == "modifying":
            self.volume.spec = self.target  # the new size is there from `optimizing` on
            self.state, self.left = "optimizing", behaviour.optimizing - 1  # this look shows it already
            if self.left < 0:
                self.state, self.ended = "completed", utcnow()
        else:
            self.state, self.ended = "completed", utcnow()


class Spec(NamedTuple):
    """What may be modified of a volume: GiB, type, IOPS, MiB/s."""

    size: int
    kind: str
    iops: int
    throughput: int
    multi_attach: bool

    def iops_shown(self) -> int | None:
        return max(100, min(3 * self.size, 16000)) if self.kind == "gp2" else self.iops or None

    @classmethod
    def checked(cls, size: int, kind: str, iops: int | None, throughput: int | None, multi_attach: bool) -> Spec:
        if kind not in KINDS:
            raise refuse("type_unknown", kind)
        limits = KINDS[kind]
        if not limits.sizes[0] <= size <= limits.sizes[1]:
            raise refuse("size", size, kind, *limits.sizes)
        if iops is not None and not limits.iops[1]:
            raise refuse("iops_refused", kind)
        if limits.iops[1] and iops is None:
            iops = limits.iops_default
            if not iops:
                raise refuse("missing", "iops")
        if iops and not limits.iops[0] <= iops <= limits.iops[1]:
            raise refuse("iops", iops, kind, *limits.iops)
        if iops and iops > max(size * limits.iops_per_gib, limits.iops_default):
            raise refuse("iops_ratio", iops / size, limits.iops_per_gib)
        if throughput is not None and not limits.throughput[1]:
            raise refuse("throughput_refused", kind)
        if limits.throughput[1] and throughput is None:
            throughput = limits.throughput[0]
        if throughput and not limits.throughput[0] <= throughput <= limits.throughput[1]:
            raise refuse("throughput", throughput, kind, *limits.throughput)
        if throughput and iops and throughput * 4 > iops:
            raise refuse("throughput_ratio", throughput / iops)
        if multi_attach and not limits.multi_attach:
            raise refuse("multi_attach_type", kind)
        return cls(size, kind, iops or 0, throughput or 0, multi_attach)


class Volume(moto_ebs.Volume):
    """A volume as it is. Moto's own code sees its attributes (size, attachments, status) as before."""

    def __init__(self, backend: Any, spec: Spec, zone: Any, **more: Any) -> None:
        self.spec, self.attached = spec, []  # type: tuple[Spec, list[Attachment]]
        self.phase, self.left = "", 0  # creating, deleting, error
        self.fails = False
        self.hidden = 0  # Describe calls that do not see it yet
        self.stale: dict[str, list[Any]] = {}  # "tags", "attachments" -> [calls left, what they show]
        self.began: list[float] = []  # when modifications were accepted
        super().__init__(backend, moto_utils.random_volume_id(), spec.size, zone, **more)
        self.modifications: list[Any] = []

    # Moto assigns these in its constructor; they follow from ours.
    size = property(lambda self: self.spec.size, lambda self, value: None)
    volume_type = property(lambda self: self.spec.kind, lambda self, value: None)
    iops = property(lambda self: self.spec.iops_shown(), lambda self, value: None)
    throughput = property(lambda self: self.spec.throughput or None, lambda self, value: None)
    multi_attach_enabled = property(lambda self: self.spec.multi_attach, lambda self, value: None)

    @property
    def status(self) -> str:
        return self.phase or ("in-use" if self.attached else "available")

    def tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.ec2_backend.tags.get(self.id, {}).items()]

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "VolumeId": self.id,
            "Size": self.spec.size,
            "VolumeType": self.spec.kind,
            "Iops": self.spec.iops_shown(),
            "Throughput": self.spec.throughput or None,
            "MultiAttachEnabled": self.spec.multi_attach,
            "AvailabilityZone": self.zone.name,
            "AvailabilityZoneId": self.zone.zone_id,
            "State": self.status,
            "CreateTime": self.create_time,
            "Encrypted": self.encrypted,
            "KmsKeyId": self.kms_key_id,
            "SnapshotId": self.snapshot_id or "",
            "Attachments": [a.row() for a in self.attached],
            "Tags": self.tags(),
        }
        return {name: value for name, value in row.items() if value is not None}

    def begin(self, phase: str, calls: int) -> None:
        self.phase, self.left = phase, calls
        if calls == 0:
            self.finish()

    def finish(self) -> None:
        if self.phase == "creating":
            self.phase = "error" if self.fails else ""
        elif self.phase == "deleting":
            self.ec2_backend.forget_volume(self)

    def keep(self, aspect: str, calls: int, shown: Any) -> None:
        """The next calls show what was, until they have seen enough of it; of two changes, what was before both."""
        if calls:
            self.stale[aspect] = [calls, self.stale.get(aspect, [0, shown])[1]]

    def looked_at(self) -> dict[str, Any] | None:
        """One Describe call: what it shows (None: not this volume), after time went on by one step."""
        if self.hidden:
            self.hidden -= 1
            return None
        if self.phase in ("creating", "deleting"):
            if self.left:
                self.left -= 1
            else:
                self.finish()
                if self.phase == "deleting":
                    return None
        if "attachments" not in self.stale:
            for attachment in list(self.attached):
                attachment.step()
        if self.modifications:
            self.modifications[-1].step()
        row = self.row()
        for aspect, entry in list(self.stale.items()):
            row.update(entry[1])
            entry[0] -= 1
            if not entry[0]:
                del self.stale[aspect]
        return row

    def settle(self) -> None:
        """Everything under way is done and seen, but for what is stuck."""
        self.hidden = 0
        self.stale.clear()
        self.finish()
        for attachment in list(self.attached):
            attachment.left = 0
            attachment.step()
        for modification in self.modifications[-1:]:
            while modification.state in ("modifying", "optimizing"):
                modification.left = 0
                modification.step()


def modified(
    volume: Volume, size: int | None, kind: str | None, iops: int | None, throughput: int | None, multi: bool | None
) -> Spec:
    """What the volume is to become, or the refusal: API reference, ModifyVolume; user guide, Multi-Attach."""
    was = volume.spec
    kind = kind or was.kind
    size = was.size if size is None else size
    multi = was.multi_attach if multi is None else multi
    if size < was.size:
        raise refuse("shrink")
    if kind not in KINDS:
        raise refuse("type_unknown", kind)
    if was.multi_attach and kind != was.kind:
        raise refuse("modify_multi_attach", "The type", was.kind)
    if was.multi_attach and was.kind == "io1" and (size != was.size or iops not in (None, was.iops)):
        raise refuse("modify_multi_attach", "Size and IOPS", was.kind)
    if multi != was.multi_attach and KINDS[kind].multi_attach and "io1" in (kind, was.kind):
        raise refuse("multi_attach_fixed", kind)
    if iops is None and KINDS[kind].iops[1]:  # kept with the type, else 3,000
        iops = was.iops if kind == was.kind else 3000
    if throughput is None and kind == was.kind == "gp3":
        throughput = was.throughput
    spec = Spec.checked(size, kind, iops, throughput, multi)
    if multi and not was.multi_attach and volume.attached:
        raise refuse("enable_attached", volume.id)
    if was.multi_attach and not multi and len(volume.attached) > 1:
        raise refuse("disable_attached", volume.id, len(volume.attached))
    return spec


def check_tags(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if key.lower().startswith("aws:"):
            raise refuse("tag_reserved", key)
        if not 1 <= len(key) <= 127 or len(value) > 255:
            raise refuse("tag_long", key, "127, 255")
    if len(tags) > 50:
        raise refuse("tag_limit", 50)


def seen_attachments(volume: Volume) -> dict[str, Any]:
    return {"Attachments": [a.row() for a in volume.attached], "State": volume.status}
