#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ebs_volume
short_description: Volumes of Amazon EBS, and the instances that have them
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Keeps a volume of Amazon EBS and the set of instances that it is attached to. With Multi-Attach several have it.
  - What is not declared stays as it is. Creation defaults are told with each option.
  - A volume is known by its tag C(Name), which it bears from the call on that makes it, or by its id. Where an
    answer is lost, the next run finds what was made, and makes no second one.
  - What EC2 would refuse halfway is refused before anything is changed, in check mode too, which only describes.
  - Every change is waited for until it can be seen, each for at most O(wait_timeout).
requirements:
  - boto3 >= 1.34 where it runs
notes:
  - The sources are the EC2 API reference and the EBS user guide.
  - Runs where boto3 and credentials are, commonly delegated to the controller, without privileges. Nothing is kept
    there, so RV(journal) is empty.
  - Many volumes are one entry each in C(ebs_volumes) of M(bulkhead.storage.layout), which looks for all of them at
    once.
  - Where several instances write to one volume with ext4 or XFS, its content is lost. Only a filesystem made for it, or
    one writer at a time that is fenced, is safe.
  - Requests are tried again as botocore does in its C(standard) mode, which O(aws_config) can change. Where EC2 itself
    refused, C(errors[].details.api_code) is its own code.
  - See R(the guide, ansible_collections.bulkhead.storage.docsite.guide_ebs).
seealso:
  - module: bulkhead.storage.ebs_volume_info
  - module: bulkhead.storage.block_device
    description: What the instance makes of the disk.
options:
  name:
    description:
      - The tag C(Name). Several volumes of that name in the zone are a C(conflict), which names them.
      - With O(volume_id) it is the name that the volume gets.
      - One of O(name) and O(volume_id) is required.
    type: str
  volume_id:
    description:
      - The id of a volume that is there, otherwise C(not_found).
    type: str
    aliases: [id]
  availability_zone:
    description:
      - The zone. Required to make a volume. Volumes of one name in several zones are told apart by it.
      - One that the region does not have is C(not_found).
    type: str
    aliases: [zone]
  size:
    description:
      - The size, such as V(100GiB), rounded up to whole GiB. Required to make a volume, unless O(snapshot_id) is given.
      - A larger one grows the volume, its partitions and filesystems stay as they are. A smaller one is
        C(would_shrink).
    type: str
  volume_type:
    description:
      - The type. A new volume is V(io2) with O(multi_attach), otherwise V(gp3).
      - In GiB, V(gp3) has 1 to 65536, V(gp2) 1 to 16384, V(io2) 4 to 65536, V(io1) 4 to 16384, V(st1) and V(sc1) 125 to
        16384, V(standard) 1 to 1024.
    type: str
    choices: [gp3, gp2, io2, io1, st1, sc1, standard]
  iops:
    description:
      - Operations a second. Required to make a volume of type V(io2) (100 to 256000, at most 1000 for each GiB) or
        V(io1) (100 to 64000, at most 50 for each GiB). Of V(gp3) 3000 to 80000, at most 500 for each GiB, and 3000
        for a new one. Other types take none.
    type: int
  throughput:
    description:
      - MiB a second of a volume of type V(gp3), 125 to 2000, and 125 for a new one. Other types take none.
    type: int
  multi_attach:
    description:
      - Whether several instances can have it, at most 16 and all of them in its zone and built on the Nitro System.
        A new volume has V(false).
      - Takes the type V(io2) or V(io1). Of V(io2) it can be switched on while no instance has the volume, and off while
        at most one has it, otherwise C(in_use). Of V(io1) it stays as it was made.
    type: bool
  encrypted:
    description:
      - Whether it is encrypted. A new volume is. Another value than that of a volume that is there is a C(conflict).
    type: bool
  kms_key_id:
    description:
      - The id, the ARN or the alias of the KMS key. A new volume has the account's default key. Another key than that
        of a volume that is there is a C(conflict). An alias is not compared.
    type: str
  snapshot_id:
    description:
      - The snapshot that a new volume is made of. Another one than that of a volume that is there is a C(conflict).
    type: str
    aliases: [snapshot]
  tags:
    description:
      - Tags with their values. What begins with C(aws:) is Amazon's and is left alone.
    type: dict
    aliases: [resource_tags]
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is given. The tag C(Name) stays.
    type: bool
    default: true
  attachments:
    description:
      - The instances that shall have it. Without this option attachments stay as they are.
      - Each has to be V(running) or V(stopped), and in the zone of the volume.
    type: list
    elements: dict
    suboptions:
      instance_id:
        description:
          - The instance. One that is not there is C(not_found).
        type: str
        required: true
      device:
        description:
          - The name that EC2 shall know the disk by there, such as V(/dev/sdf). Otherwise the first free one of
            C(/dev/sdf) to C(/dev/sdz). One that another volume has is a C(conflict), that of the root device
            C(protected).
          - On the instance the disk has another name. Find it by C(by_id) of the result.
        type: str
  attachments_mode:
    description:
      - V(exact) makes O(attachments) all that have it. V(add) attaches those, V(remove) detaches those, and others
        stay.
      - A root device is C(protected) from being detached.
    type: str
    choices: [exact, add, remove]
    default: exact
  force_detach:
    description:
      - Whether to detach without the instance, which loses what it has not written yet, and may leave a filesystem that
        has to be repaired. For instances that have failed. It cannot be undone.
    type: bool
    default: false
  wait_timeout:
    description:
      - How many seconds each change is waited for, 1 to 86400, then C(timeout). The next run goes on from there.
      - A modification takes effect within minutes, and then optimizes for up to 24 hours, which nobody waits for unless
        something is to be modified again. EC2 refuses that until then, and more than a few within 24 hours
        (C(limit_exceeded)).
    type: int
    default: 300
  state:
    description:
      - V(absent) deletes the volume with its content. While an instance has it that is C(in_use), unless
        O(attachments) says to detach it, such as V([]).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - bulkhead.storage._attributes.away
  - bulkhead.storage._common
  - amazon.aws.common.modules
  - amazon.aws.region.modules
"""

EXAMPLES = r"""
# needs: ec2
- name: A volume for the shards, which three instances have
  bulkhead.storage.ebs_volume:
    name: shards-1
    availability_zone: us-east-1a
    size: 100GiB
    iops: 4000
    multi_attach: true
    attachments:
      - instance_id: i-0123456789abcdef0
      - instance_id: i-0123456789abcdef1
      - instance_id: i-0123456789abcdef2
  delegate_to: localhost

# needs: ec2
- name: An instance that failed gives it up, and the others keep it
  bulkhead.storage.ebs_volume:
    name: shards-1
    attachments:
      - instance_id: i-0123456789abcdef2
    attachments_mode: remove
    force_detach: true
  delegate_to: localhost
"""

RETURN = r"""
changed:
  description: Whether anything was changed. In check mode, whether anything would be.
  returned: always
  type: bool
  sample: true
actions:
  description:
    - The first O(actions_limit) actions of the plan, in the order in which they are taken, the same list in check mode
      and in the real run. M(bulkhead.storage.layout) tells the fields of each.
  returned: success, or when an action failed
  type: list
  elements: dict
  sample:
    - kind: ebs_volume
      entry: ebs_volume (us-east-1a/shards-1)
      port: ec2_attachment
      target: us-east-1a/shards-1 i-0123456789abcdef0
      verb: create
      risk: reversible
      before: null
      after: {device: /dev/sdf}
plan_digest:
  description: SHA-256 of the whole list of actions as planned. Equal in check mode and in the real run.
  returned: success, or when an action failed
  type: str
summary:
  description: How many actions were C(planned), C(applied), C(failed), C(undone), C(kept) and C(skipped).
  returned: always
  type: dict
  sample: {planned: 2, applied: 2, failed: 0, undone: 0, kept: 0, skipped: 0}
journal:
  description:
    - The file on the target that holds the whole plan and what became of it. Empty when nothing was changed.
    - A plan that only removes goes on without where the disk is too full for it, with a warning.
  returned: success, or when an action failed
  type: str
  sample: ""
resource:
  description: The volume as it stands now. In check mode, as it would stand.
  returned: success
  type: dict
  contains:
    volume_id:
      description: The id that EC2 chose. Null when there is no volume, as in check mode before it is made.
      type: str
      returned: always
      sample: vol-0123456789abcdef0
    name:
      description: The tag C(Name).
      type: str
      returned: always
      sample: shards-1
    state:
      description: C(creating), C(available), C(in-use), C(error), or C(absent) when there is none.
      type: str
      returned: always
      sample: in-use
    availability_zone:
      description: The zone that it lies in.
      type: str
      returned: always
      sample: eu-central-1a
    size_bytes:
      description: Its size, a whole number of GiB.
      type: int
      returned: always
      sample: 107374182400
    volume_type:
      description: Its type.
      type: str
      returned: always
      sample: io2
    iops:
      description: Operations a second that it is provisioned with, where its type has any.
      type: int
      returned: always
      sample: 4000
    throughput:
      description: MiB a second that it is provisioned with, where its type has any.
      type: int
      returned: always
      sample: null
    multi_attach:
      description: Whether several instances can have it.
      type: bool
      returned: always
      sample: true
    encrypted:
      description: Whether it is encrypted.
      type: bool
      returned: always
      sample: true
    kms_key_id:
      description: The ARN of the key that it is encrypted with.
      type: str
      returned: always
      sample: arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef
    snapshot_id:
      description: The snapshot that it was made of.
      type: str
      returned: always
      sample: null
    tags:
      description: All tags but those of Amazon.
      type: dict
      returned: always
      sample: {Name: shards-1, purpose: shards}
    attachments:
      description: The instances that have it, in the order of their ids.
      type: list
      elements: dict
      returned: always
      contains:
        instance_id:
          description: The instance.
          type: str
          returned: always
          sample: i-0123456789abcdef0
        device:
          description:
            - The name that EC2 knows it by there. On the instance it is another one, so find it by RV(resource.by_id).
          type: str
          returned: always
          sample: /dev/sdf
        state:
          description: C(attaching), C(attached), C(busy) or C(detaching).
          type: str
          returned: always
          sample: attached
    nvme_serial:
      description: The serial number that the disk has on an instance built on the Nitro System.
      type: str
      returned: always
      sample: vol0123456789abcdef0
    by_id:
      description: The path that udev gives the disk on such an instance, the same on all of them.
      type: str
      returned: always
      sample: /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0
    modification:
      description:
        - The last modification, where this run asked for one or waited for it, otherwise null. It takes a request of
          its own. M(bulkhead.storage.ebs_volume_info) always tells.
      type: dict
      returned: always
      sample: {state: optimizing, progress: 37, started: "2026-01-02 03:04:05+00:00"}
    resource_actions:
      description: The calls of the API that were made, with O(debug_botocore_endpoint_logs).
      type: list
      elements: str
      returned: when O(debug_botocore_endpoint_logs=true)
      sample: ["ec2:DescribeVolumes"]
msg:
  description: The first error in one line, with its hint.
  returned: failure
  type: str
  sample: "ebs_volume (us-east-1a/shards-1): vol-0123456789abcdef0 has 100 GiB, and no volume of EBS gets smaller"
code:
  description: The stable code of the first error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: would_shrink
hint:
  description: What to do about the first error.
  returned: failure
  type: str
  sample: copy what it holds to a new one
errors:
  description:
    - Every refusal or failure, all at once, each with C(entry), C(code), C(message), C(hint) and C(details).
  returned: failure
  type: list
  elements: dict
errors_total:
  description: How many errors there are, should RV(errors) have been cut to fit into a result.
  returned: failure
  type: int
  sample: 1
"""

from ansible_collections.bulkhead.storage.plugins.module_utils import _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2, worlds
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ebs_volume


def main() -> None:
    volumes = ec2.Volumes()
    ports = {"ec2_volume": lambda: volumes, "ec2_attachment": lambda: ec2.Attachments(volumes)}
    _shell.run(ebs_volume, ports, worlds.held)


if __name__ == "__main__":
    main()
