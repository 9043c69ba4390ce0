#!/usr/bin/python
# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ebs_volume_info
short_description: What volumes of Amazon EBS there are
version_added: 0.1.0
author:
  - bulkhead.storage contributors (@bulkhead-storage)
description:
  - Tells of all volumes that match every option that is given, with the instances that have them and their last
    modification. Without any, of all volumes of the region.
requirements:
  - boto3 >= 1.34 where it runs
notes:
  - Runs where boto3 and credentials are, commonly delegated to the controller, without privileges.
seealso:
  - module: bulkhead.storage.ebs_volume
options:
  name:
    description:
      - The tag C(Name).
    type: str
  volume_id:
    description:
      - The id of a volume.
    type: str
    aliases: [id]
  availability_zone:
    description:
      - The zone.
    type: str
    aliases: [zone]
  instance_id:
    description:
      - An instance that has the volumes.
    type: str
  tags:
    description:
      - Tags with their values, all of which a volume must have.
    type: dict
    aliases: [resource_tags]
extends_documentation_fragment:
  - bulkhead.storage._attributes.away_info
  - amazon.aws.common.modules
  - amazon.aws.region.modules
"""

EXAMPLES = r"""
# needs: ec2
- name: Which disks an instance has
  bulkhead.storage.ebs_volume_info:
    instance_id: i-0123456789abcdef0
  delegate_to: localhost
"""

RETURN = r"""
changed:
  description: Always false.
  returned: always
  type: bool
  sample: false
volumes:
  description: The volumes, in the order of their ids.
  returned: success
  type: list
  elements: dict
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
            - The name that EC2 knows it by there. On the instance it is another one, so find it by RV(volumes[].by_id).
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
      description: The last modification. Null when there was none.
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
  description: The error in one line, with its hint.
  returned: failure
  type: str
  sample: "no credentials for AWS: Unable to locate credentials"
code:
  description: The stable code of the error. The collection's guide on errors explains each.
  returned: failure
  type: str
  sample: denied
hint:
  description: What to do about it.
  returned: failure
  type: str
  sample: see access_key and profile
errors:
  description: The error, with C(entry), C(code), C(message), C(hint) and C(details).
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
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import Volumes
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ebs_volume


def main() -> None:
    _shell.inform(ebs_volume.FILTERS, lambda params: ebs_volume.gather(params, Ports({"ec2_volume": Volumes})))


if __name__ == "__main__":
    main()
