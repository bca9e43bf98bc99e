"""Run Ray's own bootstrap and node provider on cluster.yaml and cluster.stack.yaml, against a mocked AWS."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import node_provider
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_LAUNCH_CONFIG, TAG_RAY_NODE_KIND, TAG_RAY_NODE_STATUS, TAG_RAY_USER_NODE_TYPE

from tune.cluster_file import rules_broken

ROOT = Path(__file__).parent.parent.parent
REGION = "eu-central-1"
ADDRESS = "203.0.113.7/32"


class Account:
    """A mocked account that contains the stack, and the cluster file, filled in from the stack's outputs."""

    def __init__(self) -> None:
        self.ec2 = boto3.client("ec2", REGION)
        self.iam = boto3.client("iam", REGION)
        self.outputs = self._deploy()
        text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
        text = re.sub(r'"FILL IN: output (\w+) [^"]*"', lambda found: f'"{self.outputs[found[1]]}"', text)
        self.file = yaml.safe_load(re.sub(r'"FILL IN: the most [^"]*"', '"0.50"', text))

    def _deploy(self) -> dict[str, str]:
        template = (ROOT / "cluster.stack.yaml").read_text(encoding="utf-8")
        template = template.replace(" /aws/service/", " /images/")  # only AWS may create names in /aws
        for path in re.findall(r" (/images/\S+)", template):
            image = self.ec2.register_image(Name=path)["ImageId"]
            boto3.client("ssm", REGION).put_parameter(Name=path, Value=image, Type="String")
        stacks = boto3.client("cloudformation", REGION)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tried to parse AWS::S3::BucketPolicy")  # moto leaves out only these
            stacks.create_stack(
                StackName="finetune-search",
                TemplateBody=template,
                Parameters=[{"ParameterKey": "SshFrom", "ParameterValue": ADDRESS}],
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
        (stack,) = stacks.describe_stacks(StackName="finetune-search")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def rights(self, role: str) -> list[dict[str, Any]]:
        """The statements of all policies of a role."""
        assert self.iam.list_role_policies(RoleName=role)["PolicyNames"] == []
        statements = []
        for policy in self.iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            version = self.iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
            found = self.iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]
            statements += found["Document"]["Statement"]
        return statements


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes the key pair to ~/.ssh
        yield Account()


@pytest.fixture(scope="module")
def launched(account: Account) -> dict[str, Any]:
    """The launch request that Ray makes for each node type; under "calls", what its autoscaler asks AWS for."""
    config = prepare_config(account.file)
    wanted = sorted({kind["node_config"]["InstanceType"] for kind in config["available_node_types"].values()})
    with pytest.MonkeyPatch.context() as patch:  # for all types it would take seconds
        known = account.ec2.describe_instance_types(InstanceTypes=wanted)["InstanceTypes"]
        patch.setattr(node_provider, "list_ec2_instances", lambda *arguments: known)
        config = AWSNodeProvider.fillout_available_node_types_resources(config)
    validate_config(config)
    config = bootstrap_aws(config)
    seen: dict[str, Any] = {"config": config, "calls": set()}
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for ec2 in (provider.ec2, provider.ec2_fail_fast):
        events = ec2.meta.client.meta.events
        events.register("provide-client-params.ec2.*", lambda params, model, **_: note(model.name, params))

    def note(operation: str, params: dict[str, Any]) -> None:
        seen["calls"].add(f"ec2:{operation}")
        if operation == "RunInstances":
            seen["request"] = params

    for name, kind in config["available_node_types"].items():
        head = name == config["head_node_type"]
        tags = {TAG_RAY_NODE_KIND: "head" if head else "worker", TAG_RAY_USER_NODE_TYPE: name}
        created = provider.create_node(kind["node_config"], {**tags, TAG_RAY_LAUNCH_CONFIG: "x"}, 1)
        seen[name] = seen.pop("request")
        (seen[f"{name} instance"],) = created.values()
        (node,) = provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: name})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node_provider, "TAG_BATCH_DELAY", 0)
            provider.set_node_tags(node, {TAG_RAY_NODE_STATUS: "up-to-date"})
        provider.terminate_node(node)
    return seen


TYPES = ["head", "spot", "on_demand"]


def test_cloudformation_takes_the_stack() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([linter, "--regions", REGION, "--template", ROOT / "cluster.stack.yaml"], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_filled_in_file_breaks_no_rule(account: Account) -> None:
    assert rules_broken(account.file) == {}


@pytest.mark.parametrize("name", TYPES)
def test_every_node_is_launched_as_the_file_says(name: str, account: Account, launched: dict[str, Any]) -> None:
    request = launched[name]
    assert request["SecurityGroupIds"] == [account.outputs["SecurityGroup"]]
    assert request["IamInstanceProfile"] == {"Name": f"finetune-search-{'head' if name == 'head' else 'worker'}"}
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert request["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    disks = [disk["Ebs"] for disk in request["BlockDeviceMappings"]]
    assert [(disk["Encrypted"], disk["DeleteOnTermination"]) for disk in disks] == [(True, True)]
    assert request["ImageId"] == account.outputs["HeadImage" if name == "head" else "WorkerImage"]
    assert request["KeyName"] == "finetune-search"
    assert (request["MinCount"], request["MaxCount"]) == (1, 1)
    market = request.get("InstanceMarketOptions")
    if name == "spot":
        assert market == {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "MaxPrice": "0.50"},
        }
    else:
        assert market is None
    instance = launched[f"{name} instance"]
    assert instance.metadata_options["HttpTokens"] == "required"
    assert [group["GroupId"] for group in instance.security_groups] == [account.outputs["SecurityGroup"]]


def test_ray_made_nothing_of_its_own_but_the_key(account: Account, launched: dict[str, Any]) -> None:
    groups = {group["GroupName"] for group in account.ec2.describe_security_groups()["SecurityGroups"]}
    assert groups == {"default", "finetune-search"}
    roles = {role["RoleName"] for role in account.iam.list_roles()["Roles"]}
    assert roles == {"finetune-search-head", "finetune-search-worker"}
    key = Path(launched["config"]["auth"]["ssh_private_key"])
    assert key.name == "finetune-search.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_workers_come_first_as_spot_machines_and_offer_their_gpu(launched: dict[str, Any]) -> None:
    types = launched["config"]["available_node_types"]
    assert types["head"]["resources"]["CPU"] == types["head"]["resources"]["GPU"] == 0
    for name in ("spot", "on_demand"):
        assert types[name]["resources"]["GPU"] == 1
        assert types[name]["min_workers"] == 0
    assert types["spot"]["priority"] > types["on_demand"].get("priority", 0)
    machines = {kind["node_config"]["InstanceType"] for name, kind in types.items() if name != "head"}
    assert machines == {
        yaml.safe_load((ROOT / "cluster.stack.yaml").read_text())["Parameters"]["WorkerType"]["Default"]
    }


def test_ssh_comes_from_one_address_and_the_rest_from_the_group(account: Account) -> None:
    group_id = account.outputs["SecurityGroup"]
    (group,) = account.ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    allowed = {
        (
            rule["IpProtocol"],
            rule.get("FromPort"),
            rule.get("ToPort"),
            *(found["CidrIp"] for found in rule["IpRanges"]),
            *(found["CidrIpv6"] for found in rule["Ipv6Ranges"]),
            *(found["GroupId"] for found in rule["UserIdGroupPairs"]),
        )
        for rule in group["IpPermissions"]
    }
    assert allowed == {("tcp", 22, 22, ADDRESS), ("-1", None, None, group_id)}


@pytest.mark.parametrize("address", ["0.0.0.0/0", "0.0.0.0/32", "203.0.113.0/24", "203.0.113.7", "any"])
def test_the_stack_takes_one_address_only(address: str) -> None:
    pattern = yaml.safe_load((ROOT / "cluster.stack.yaml").read_text())["Parameters"]["SshFrom"]["AllowedPattern"]
    assert re.fullmatch(pattern, ADDRESS)
    assert not re.fullmatch(pattern, address)


def test_roles_have_the_least_rights(account: Account) -> None:
    bucket = f"arn:aws:s3:::{account.outputs['Bucket']}"
    for statement in account.rights("finetune-search-worker"):
        assert all(action.startswith("s3:") for action in actions(statement))
        assert statement["Resource"] in (bucket, f"{bucket}/*")
    for role in ("finetune-search-head", "finetune-search-worker"):
        for statement in account.rights(role):
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in actions(statement))
            assert statement["Resource"] != "*" or actions(statement) == {"ec2:DescribeInstances"}


def test_the_head_may_do_what_its_autoscaler_does_and_no_more(account: Account, launched: dict[str, Any]) -> None:
    allowed = set().union(*(actions(statement) for statement in account.rights("finetune-search-head")))
    assert {action for action in allowed if action.startswith("ec2:")} == launched["calls"]
    assert {action for action in allowed if not action.startswith(("ec2:", "s3:"))} == {"iam:PassRole"}


def test_the_documented_policy_is_the_heads(account: Account) -> None:
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    number = account.outputs["Bucket"].split("-")[2]
    block = block.replace("REGION", REGION).replace("ACCOUNT", number).replace("BUCKET", account.outputs["Bucket"])
    block = block.replace("GROUP", account.outputs["SecurityGroup"])
    written, given = json.loads(block)["Statement"], account.rights("finetune-search-head")
    assert sorted(written, key=lambda one: one["Sid"]) == sorted(given, key=lambda one: one["Sid"])


def test_the_bucket_is_encrypted_and_private() -> None:
    resources = yaml.safe_load((ROOT / "cluster.stack.yaml").read_text())["Resources"]
    bucket = resources["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = resources["OnlyEncrypted"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def actions(statement: dict[str, Any]) -> set[str]:
    """What a policy's statement applies to."""
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)
