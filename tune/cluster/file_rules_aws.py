"""Rules for a file for `ray up` on AWS, beside those for every provider."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from tune.cluster.file_reading import ClusterConfig, mapping_at, node_configs, texts_in, worker_types
from tune.cluster.file_rules import TO_FILL_IN, FileRule, Problems

MAX_IDLE_MIN = 60


def _images_are_pinned(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        image = str(node.get("ImageId", ""))
        if not re.fullmatch(r"ami-[0-9a-f]{8,17}", image) and TO_FILL_IN not in image:
            yield f"{name}: ImageId must be one image, like ami-0123456789abcdef0, but got {image or 'none'!r}"
    for key, image in mapping_at(config, "docker").items():
        if key.endswith("image") and "@sha256:" not in str(image):
            yield f"docker.{key}: pin the image by its digest, NAME@sha256:DIGEST, but got {image!r}"


def _workers_are_limited(config: ClusterConfig) -> Problems:
    limited = {"max_workers": config, **{f"{name}.max_workers": kind for name, kind in worker_types(config)}}
    for name, holder in limited.items():
        if not isinstance(holder.get("max_workers"), int):
            yield f"{name}: say how many workers there may be at most; nothing else limits what they cost"


def _idle_workers_go(config: ClusterConfig) -> Problems:
    minutes = config.get("idle_timeout_minutes")
    if not isinstance(minutes, int | float) or not 0 < minutes <= MAX_IDLE_MIN:
        yield (
            f"idle_timeout_minutes: say after how many minutes without work a worker goes, at most {MAX_IDLE_MIN}, "
            f"but got {minutes}"
        )
    for name, kind in worker_types(config):
        if kind.get("min_workers", 0) != 0:
            yield f"{name}.min_workers: {kind['min_workers']} idle workers would cost money; say 0 or leave it out"


def _spot_has_a_price(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        price = str(mapping_at(node, "InstanceMarketOptions", "SpotOptions").get("MaxPrice", ""))
        if "InstanceMarketOptions" in node and not re.fullmatch(r"\d+(\.\d+)?|FILL IN.*", price):
            yield (
                f"{name}: say in InstanceMarketOptions.SpotOptions.MaxPrice what an hour may cost at most, in dollars, "
                f"like '0.50', but got {price or 'nothing'}"
            )


def _head_is_not_spot(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        if name == config.get("head_node_type") and "InstanceMarketOptions" in node:
            yield f"{name}: AWS takes spot machines away, and the driver with this one; leave the option out"


def _nothing_is_left_to_pay(config: ClusterConfig) -> Problems:
    if mapping_at(config, "provider").get("cache_stopped_nodes") is not False:
        yield "provider: `ray down` would keep stopped machines, and their disks cost; say `cache_stopped_nodes: false`"
    for name, disk in _disks(config):
        if disk.get("DeleteOnTermination") is not True:
            yield f"{name}: its disk would stay when it is gone, and cost money; say `DeleteOnTermination: true`"


def _disks_are_encrypted(config: ClusterConfig) -> Problems:
    for name, disk in _disks(config):
        if disk.get("Encrypted") is not True:
            yield f"{name}: its disk is not encrypted; say `Encrypted: true` in BlockDeviceMappings"


def _nodes_are_in_a_group(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        if not node.get("SecurityGroupIds"):
            yield f"{name}: without SecurityGroupIds Ray makes a group that lets SSH in from everywhere; name one"


def _one_address_may_log_in(config: ClusterConfig) -> Problems:
    if mapping_at(config, "provider", "security_group"):
        yield "provider.security_group: Ray adds SSH from everywhere to it; leave it out and name SecurityGroupIds"
    for where, text in texts_in(config):
        if where.rpartition(".")[2] in ("CidrIp", "CidrIpv6") and _addresses(text) != 1:
            yield f"{where}: lets in {text}; say one address, like 203.0.113.7/32"


def _roles_are_least(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        role = _role(node)
        if not role:
            yield f"{name}: without IamInstanceProfile Ray gives the head all of EC2 and S3; name the stack's profile"
        elif re.search(r"ray-autoscaler|admin|full", role, re.IGNORECASE):
            yield f"{name}: IamInstanceProfile {role} may do far more than a node needs; name the stack's profile"


def _workers_start_no_machines(config: ClusterConfig) -> Problems:
    roles = {name: _role(node) for name, node in node_configs(config)}
    head = roles.pop(str(config.get("head_node_type")), "")
    for name, role in roles.items():
        if role and role == head:
            yield f"{name}: has the head's profile {role}, which may start machines; name one that may not"


def _metadata_needs_a_session(config: ClusterConfig) -> Problems:
    for name, node in node_configs(config):
        if mapping_at(node, "MetadataOptions").get("HttpTokens") != "required":
            yield f"{name}: IMDSv1 gives its role's keys to anybody; say `MetadataOptions: {{HttpTokens: required}}`"


def _disks(config: ClusterConfig) -> Iterator[tuple[str, ClusterConfig]]:
    """Every disk, with its node type. A type that names no disk counts as one disk without settings."""
    for name, node in node_configs(config):
        mapped = node.get("BlockDeviceMappings")
        for disk in mapped if isinstance(mapped, list) and mapped else [{}]:
            yield name, mapping_at({"disk": disk}, "disk", "Ebs")


def _role(node: ClusterConfig) -> str:
    """The instance profile of a node; empty if it names none."""
    profile = mapping_at(node, "IamInstanceProfile")
    return str(profile.get("Name") or profile.get("Arn") or "")


def _addresses(text: str) -> int:
    """How many IP addresses a CIDR range holds; 0 if it is none."""
    try:
        return ipaddress.ip_network(text, strict=False).num_addresses
    except ValueError:
        return 0


AWS_RULES: dict[str, FileRule] = {
    "Images are pinned": _images_are_pinned,
    "The number of workers is limited": _workers_are_limited,
    "Idle workers go": _idle_workers_go,
    "A spot worker has a highest price": _spot_has_a_price,
    "The head is not a spot machine": _head_is_not_spot,
    "Nothing is left to pay for after `ray down`": _nothing_is_left_to_pay,
    "Disks are encrypted": _disks_are_encrypted,
    "Every node is in a security group of yours": _nodes_are_in_a_group,
    "One address at most may log in": _one_address_may_log_in,
    "Roles are not Ray's, and not an administrator's": _roles_are_least,
    "Workers can't start machines": _workers_start_no_machines,
    "IMDSv2 is required": _metadata_needs_a_session,
}
