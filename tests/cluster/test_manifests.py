"""The files that make clusters: valid by the parsers and schemas of those who read them, closed to strangers, and fit for the actors."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from ray._private.authentication.authentication_token_setup import _get_default_token_path
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.kuberay.utils import parse_quantity
from ray.autoscaler._private.util import prepare_config, validate_config

from actors.base import Resources
from actors.foundation.sam3d import Sam3dReconstruct
from pipelines.cli import app
from pipelines.stages.registry import LABELLING
from sc3d.config_file import load_config
from sc3d.web_hosts import NOT_PUBLIC

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
SCHEMA = json.loads(gzip.decompress((Path(__file__).parent / "data" / "kuberay-v1.7.0.json.gz").read_bytes()))["rayjob"]
# What else there is to ask for, beside what actors ask for: where the job's entrypoint runs.
DRIVER = "driver"
LABEL = {"sc3d.image": "sam3d"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


CLUSTER_SPEC: dict[str, Any] = documents("raycluster.yaml")[0]["spec"]
JOB: dict[str, Any] = documents("rayjob.yaml")[0]
GROUPS: dict[str, dict[str, Any]] = {group["groupName"]: group for group in CLUSTER_SPEC["workerGroupSpecs"]}
PODS: dict[str, dict[str, Any]] = {
    name: group["template"]["spec"] for name, group in {"head": CLUSTER_SPEC["headGroupSpec"], **GROUPS}.items()
}
AWS: dict[str, Any] = yaml.safe_load((CLUSTER / "aws" / "cluster.yaml").read_text())


def kuberay_nodes() -> dict[str, dict[str, Any]]:
    """What Ray's autoscaler makes of the RayCluster: node type -> resources, labels, limits."""
    made = {"metadata": {"name": "sc3d", "namespace": "sc3d"}, "spec": CLUSTER_SPEC}
    config = _derive_autoscaling_config_from_ray_cr(made)
    head: str = config["head_node_type"]
    return {("head" if name == head else name): node for name, node in config["available_node_types"].items()}


NODES: dict[str, dict[str, dict[str, Any]]] = {"kuberay": kuberay_nodes(), "aws": AWS["available_node_types"]}


def needs_of_actors() -> dict[str, Resources]:
    """Each actor of the configuration that comes with KubeRay, with a GPU wherever there may be one, and what it asks for."""
    config = load_config(
        KUBERAY / "run.yaml", ["match.device=cuda", "pairs.strategy=nearest", "orient.estimator=orient_anything_v1"]
    )
    return {actor.__name__: actor.needs(config) for stage in LABELLING for actor in stage(config).actors()}


def fits(needs: Resources, offered: Mapping[str, float]) -> bool:
    wanted = {"CPU": needs.num_cpus, "GPU": needs.num_gpus, **needs.custom}
    return all(offered.get(name, 0) >= amount for name, amount in wanted.items())


# KubeRay


def test_kuberay_s_own_schema_accepts_the_job() -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(JOB)


def test_the_schema_knows_what_is_wrong() -> None:
    wrong = json.loads(json.dumps(JOB))
    wrong["spec"]["rayClusterSpec"]["authOptions"]["name"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="name"):
        jsonschema.Draft7Validator(SCHEMA).validate(wrong)


def test_cluster_and_job_have_the_same_cluster() -> None:
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER_SPEC


def test_the_job_comes_back_and_cleans_up() -> None:
    spec = JOB["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1
    # KubeRay refuses retries in these two.
    assert spec["submissionMode"] not in ("InteractiveMode", "SidecarMode")


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_privileged(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"


LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def below(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from below(part)


@pytest.mark.parametrize("path", sorted(KUBERAY.glob("*.yaml")), ids=lambda path: path.name)
def test_every_container_writes_to_its_own_volumes_alone(path: Path) -> None:
    """The autoscaler, which KubeRay makes from options, too."""
    found = [one for document in yaml.safe_load_all(path.read_text()) for one in below(document)]
    containers = [c for one in found for key in ("containers", "initContainers", "ephemeralContainers") for c in one.get(key, ())]
    containers += [one["autoscalerOptions"] for one in found if "autoscalerOptions" in one]
    assert len(containers) == (5 if path.name in ("raycluster.yaml", "rayjob.yaml") else 0)
    for container in containers:
        assert container["securityContext"] == LOCKED
        assert {"/tmp", "/home/ray"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    for pod in (one for one in found if "containers" in one):
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert not [volume for volume in volumes.values() if "hostPath" in volume]
        for mount in (mount for container in pod["containers"] for mount in container["volumeMounts"]):
            # What can be written goes with the pod.
            assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]], mount


def test_the_home_of_the_images_is_the_one_that_is_mounted() -> None:
    for file in sorted((CLUSTER / "images").glob("*.Dockerfile")):
        assert "ENV HOME=/home/ray" in file.read_text()


def test_nothing_is_the_latest() -> None:
    """Images, bases and downloads have a version or a digest."""
    version = re.compile(r"[\w./-]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?")
    for file in sorted((CLUSTER / "images").glob("*.Dockerfile")):
        (base,) = re.findall(r"^ARG BASE=(.*)$", file.read_text(), re.M)
        assert re.findall(r"^FROM (.*)$", file.read_text(), re.M) == ["${BASE}"]
        assert version.fullmatch(base), base
    images = [one["image"] for one in below(AWS) if isinstance(one.get("image"), str)]
    images += [one["worker_image"] for one in below(AWS) if "worker_image" in one]
    assert len(images) == 2
    assert all(version.fullmatch(image) for image in images)
    for image in documents("kustomization.yaml")[0]["images"]:
        assert re.fullmatch(r"\d[\w.]*|sha256:[0-9a-f]{64}", str(image.get("digest") or image["newTag"]))
    for file in (path for path in CLUSTER.rglob("*") if path.suffix in (".yaml", ".yml", ".sh", ".sbatch", ".Dockerfile")):
        for line in file.read_text().splitlines():
            # The newest machine image of AWS is looked up by a person, in a comment.
            assert ":latest" not in line
            assert "/latest" not in line or line.lstrip().startswith("#"), line
    assert "@sha256:..." in GUIDE


def test_source_of_others_is_that_of_a_commit() -> None:
    script = (CLUSTER / "environments" / "sam3d.sh").read_text()
    cloned = re.findall(r'git clone \S+ "(\S+)"', script)
    pinned = re.findall(r'git -C "(\S+)" checkout --quiet [0-9a-f]{40}$', script, re.M)
    assert len(cloned) == 2
    assert sorted(cloned) == sorted(pinned)


def test_what_aws_nodes_download_is_installed_if_its_signature_holds() -> None:
    commands = [command for command in AWS["initialization_commands"] if ".deb" in command]
    urls = [part for command in commands for part in shlex.split(command) if part.startswith("https://")]
    (package,) = (url for url in urls if url.endswith(".deb"))
    assert f"{package}.asc" in urls
    (install,) = (command for command in commands if "apt-get install" in command)
    assert re.search(r"gpg .*--verify mount-s3\.asc mount-s3\.deb \| grep .*VALIDSIG.*[0-9A-F]{40}.* && sudo apt-get", install)


@pytest.mark.parametrize("name", PODS)
def test_pods_are_limited_and_the_object_store_fits_shared_memory(name: str) -> None:
    pod = PODS[name]
    group = CLUSTER_SPEC["headGroupSpec"] if name == "head" else GROUPS[name]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    (shm,) = (volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm")
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert shm["medium"] == "Memory"
    store, size = int(group["rayStartParams"]["object-store-memory"]), parse_quantity(shm["sizeLimit"])
    assert store < size <= parse_quantity(container["resources"]["limits"]["memory"]) / 2


@pytest.mark.parametrize("name", PODS)
def test_what_is_mounted_is_there(name: str) -> None:
    pod = PODS[name]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("name", PODS)
def test_the_token_is_asked_for_everywhere_and_comes_from_a_secret(name: str) -> None:
    assert CLUSTER_SPEC["authOptions"] == {"mode": "token", "secretName": "sc3d-ray-token"}
    (container,) = PODS[name]["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "sc3d-ray-token", "key": "auth_token"}
    assert "create secret generic sc3d-ray-token --from-literal=auth_token=" in GUIDE


def test_credentials_of_s3_come_with_the_workers_account_and_the_head_has_none() -> None:
    account, policy, _ = documents("access.yaml")
    assert account["kind"] == "ServiceAccount"
    assert "eks.amazonaws.com/role-arn" in account["metadata"]["annotations"]
    assert {PODS[name].get("serviceAccountName") for name in GROUPS} == {account["metadata"]["name"]}
    assert "serviceAccountName" not in PODS["head"]
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


POLICIES = [document["spec"] for document in documents("access.yaml") if document["kind"] == "NetworkPolicy"]


def may_reach(labels: Mapping[str, str], address: str, port: int) -> bool:
    """Whether the policies of egress let a pod with these labels reach an address that is of no pod, over TCP."""
    chosen = [
        spec
        for spec in POLICIES
        if spec["podSelector"]["matchLabels"].items() <= labels.items() and "Egress" in spec["policyTypes"]
    ]
    assert chosen, "a pod that no policy chooses reaches everything"
    for rule in (rule for spec in chosen for rule in spec["egress"]):
        ports = {one["port"] for one in rule.get("ports", ()) if one["protocol"] == "TCP"}
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            inside = [ip_network(one) for one in (block["cidr"], *block.get("except", ()))]
            if ip_address(address) in inside[0] and not any(ip_address(address) in one for one in inside[1:]) and port in ports:
                return True
    return False


WORKER, HEAD = ({"ray.io/is-ray-node": "yes", "ray.io/node-type": kind} for kind in ("worker", "head"))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.170.23", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "::1"]
)
@pytest.mark.parametrize("labels", [WORKER, HEAD])
def test_no_pod_reaches_a_metadata_service(labels: Mapping[str, str], address: str) -> None:
    assert not any(may_reach(labels, address, port) for port in (80, 443, 8080))


def test_pods_reach_the_public_web_and_no_private_network() -> None:
    for network in NOT_PUBLIC:
        for address in (network[0], network[-1]):
            assert not any(may_reach(WORKER, str(address), port) for port in (22, 80, 443, 6443)), address
    for address in ("8.8.8.8", "52.218.0.1", "2600:1f00::1"):
        assert may_reach(WORKER, address, 443)
        assert may_reach(WORKER, address, 80)
        assert not may_reach(WORKER, address, 22)


def test_only_the_head_reaches_the_api_of_kubernetes() -> None:
    assert may_reach(HEAD, "10.100.0.1", 443)
    assert not may_reach(HEAD, "10.100.0.1", 80)


def test_policies_are_ones_that_kubernetes_takes() -> None:
    for policy in documents("access.yaml")[1:]:
        assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
        assert set(policy["spec"]) <= {"podSelector", "policyTypes", "ingress", "egress"}
        for rule in policy["spec"]["egress"]:
            assert set(rule) <= {"to", "ports"}
            assert rule["to"], "an empty list is everybody"
            for peer in rule["to"]:
                assert ("ipBlock" in peer) != ("podSelector" in peer), "an address or pods"
                block = peer.get("ipBlock", {"cidr": "0.0.0.0/0"})
                whole = ip_network(block["cidr"])
                assert all(ip_network(one).subnet_of(whole) for one in block.get("except", ())), "it refuses others"  # type: ignore[arg-type]


def test_probes_ask_ray_s_agent() -> None:
    for pod in PODS.values():
        (container,) = pod["containers"]
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


def test_kustomize_sets_every_image() -> None:
    (kustomization,) = documents("kustomization.yaml")
    images = {image["name"]: image["newTag"] for image in kustomization["images"]}
    assert {container["image"] for pod in PODS.values() for container in pod["containers"]} == set(images)
    assert PODS["sam3d"]["containers"][0]["image"] == "sc3d-sam3d"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", tag) for tag in images.values()), "pinned"
    for name in [*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"]]:
        assert (KUBERAY / name).is_file()
    assert {"name": "run", "configMap": {"name": kustomization["configMapGenerator"][0]["name"]}} in PODS["cpu"]["volumes"]


def test_ray_s_version_is_the_images() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"ray=={CLUSTER_SPEC['rayVersion']}\n" in constraints


def test_prometheus_finds_the_port() -> None:
    (monitor,) = documents("podmonitor.yaml")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for pod in PODS.values():
        assert {"name": endpoint["port"], "containerPort": 8080} in pod["containers"][0]["ports"]


# AWS


def test_ray_s_own_parser_accepts_the_aws_cluster() -> None:
    validate_config(prepare_config(AWS))


def test_aws_nodes_have_roles_and_no_keys() -> None:
    for name, node in AWS["available_node_types"].items():
        config = node["node_config"]
        assert config["IamInstanceProfile"]["Arn"].endswith("sc3d-head" if name == "head" else "sc3d-worker")
        assert "KeyName" not in config
        # A request that only reads, as one for a photo does, gets nothing there; nor does one that comes from a network of containers.
        assert config["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        # Whoever the run ends with must not be taken away.
        assert ("InstanceMarketOptions" in config) == (name not in ("head", "driver"))
    assert "ssh_private_key" not in AWS["auth"]


def test_the_aws_dashboard_is_not_on_the_network() -> None:
    (start,) = (command for command in AWS["head_start_ray_commands"] if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.slow
def test_ray_opens_no_port_of_aws_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray's launcher makes before it starts instances, on an EC2 that is not there."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws

    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": AWS["provider"]["region"]}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / ".ssh").mkdir()
    with mock_aws():
        ec2 = boto3.client("ec2")
        (network,) = ec2.describe_vpcs()["Vpcs"]
        group = ec2.create_security_group(GroupName="sc3d-ray", Description="x", VpcId=network["VpcId"])["GroupId"]
        before = ec2.describe_security_groups()["SecurityGroups"]
        config = prepare_config(
            yaml.safe_load((CLUSTER / "aws" / "cluster.yaml").read_text().replace("sg-00000000000000000", group))
        )
        made = bootstrap_aws(config)
        assert ec2.describe_security_groups()["SecurityGroups"] == before
    for name, node in made["available_node_types"].items():
        assert node["node_config"]["SecurityGroupIds"] == [group]
        assert node["node_config"]["SubnetIds"]
        assert node["resources"] == AWS["available_node_types"][name]["resources"]


def test_aws_nodes_have_the_token() -> None:
    assert "--env RAY_AUTH_MODE=token" in AWS["docker"]["run_options"]
    assert AWS["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert _get_default_token_path() == Path.home() / ".ray" / "auth_token"
    assert "ray get-auth-token --generate" in GUIDE
    for name in ("main", "sam3d"):
        dockerfile = (CLUSTER / "images" / f"{name}.Dockerfile").read_text()
        # Or the launcher mounts the token where this user does not look.
        assert "ENV HOME=/home/ray" in dockerfile
        assert re.search(r"install --yes .*\brsync\b", dockerfile)


# All of them


@pytest.mark.parametrize("where", NODES)
def test_the_head_does_no_work(where: str) -> None:
    assert NODES[where]["head"]["resources"]["CPU"] == 0
    assert not NODES[where]["head"]["resources"].get("GPU")


@pytest.mark.parametrize("where", NODES)
def test_every_actor_finds_a_node(where: str) -> None:
    for name, needs in needs_of_actors().items():
        homes = [kind for kind, node in NODES[where].items() if fits(needs, node["resources"])]
        assert homes, f"{name} asks for {needs}"
        assert ("sam3d" in needs.custom) == (homes == ["sam3d"]), name


@pytest.mark.parametrize("where", NODES)
def test_custom_resources_are_those_that_are_asked_for(where: str) -> None:
    asked = {name for needs in needs_of_actors().values() for name in needs.custom} | {DRIVER}
    offered = {name for node in NODES[where].values() for name in node["resources"]} - {"CPU", "GPU", "memory"}
    assert offered == asked


@pytest.mark.parametrize("where", NODES)
def test_the_nodes_of_sam3d_hold_one_actor_and_are_known_by_their_label(where: str) -> None:
    needs = needs_of_actors()["Sam3dReconstruct"]
    assert needs == Sam3dReconstruct.resources
    for name, node in NODES[where].items():
        assert (node.get("labels") or {}) == (LABEL if name == "sam3d" else {})
    offered = NODES[where]["sam3d"]["resources"]
    # Nothing is left that a task or another actor could take.
    assert offered["CPU"] == needs.num_cpus
    assert offered["sam3d"] == needs.custom["sam3d"]


@pytest.mark.parametrize("where", NODES)
def test_workers_come_and_go(where: str) -> None:
    for name, node in NODES[where].items():
        if name not in ("head", "driver"):
            assert node["min_workers"] < node["max_workers"]


def test_the_entrypoint_runs_off_the_head_on_a_node_that_stays() -> None:
    spec = JOB["spec"]
    entry = Resources(spec["entrypointNumCpus"], 0, json.loads(spec["entrypointResources"]))
    for nodes, home in ((NODES["kuberay"], "cpu"), (NODES["aws"], "driver")):
        assert [name for name, node in nodes.items() if fits(entry, node["resources"])] == [home]
        assert nodes[home]["min_workers"] >= 1
    # In the guide, for clusters that stay.
    submissions = re.findall(r"^ray job submit .*$", GUIDE.replace("\\\n", " "), re.MULTILINE)
    assert submissions
    for submission in submissions:
        assert f"--entrypoint-num-cpus {spec['entrypointNumCpus']}" in submission


def command_lines() -> Iterator[tuple[str, str]]:
    """Where it stands, and what follows ``python -m pipelines.cli``, of each command in the manifests and the guide."""
    texts = {path.name: path.read_text() for path in sorted(CLUSTER.rglob("*")) if path.suffix in (".yaml", ".sbatch")}
    for name, text in {**texts, "cluster.md": GUIDE}.items():
        for match in re.finditer(r'(?:python|"\$python") -m pipelines\.cli ([^`\n]+)', text.replace("\\\n", " ")):
            yield name, match[1]
    for match in re.finditer(r"^sc3d ([^#\n]+)", GUIDE, re.MULTILINE):
        yield "cluster.md", match[1]


@pytest.mark.parametrize(("where", "line"), list(command_lines()))
def test_the_command_line_knows_the_commands(where: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert name in commands, (where, line)
    options = {option for parameter in commands[name].params for option in parameter.opts}
    assert {argument.partition("=")[0] for argument in arguments if argument.startswith("--")} <= options, (where, line)


def test_commands_were_found() -> None:
    lines = list(command_lines())
    assert ("rayjob.yaml", "label --config /etc/sc3d/run.yaml") in lines
    assert {where for where, _ in lines} >= {"rayjob.yaml", "label.sbatch", "cluster.md"}


def test_the_job_s_configuration_is_valid() -> None:
    config = load_config(KUBERAY / "run.yaml")
    assert config.run.startswith("s3://")
    assert config.profile == "foundation"
    assert shlex.split(JOB["spec"]["entrypoint"])[-1] == "/etc/sc3d/run.yaml"
    mounts = {mount["mountPath"] for mount in PODS["cpu"]["containers"][0]["volumeMounts"]}
    assert {"/etc/sc3d", config.dataset.root, config.models.cache} <= mounts
    for name in GROUPS:
        mounts = {mount["mountPath"] for mount in PODS[name]["containers"][0]["volumeMounts"]}
        assert {config.dataset.root, config.models.cache} <= mounts


SECRETS = {
    "key of AWS": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "secret of AWS": r"(?i)aws_?(secret_?access_?key|session_?token)\W{1,3}\S",
    "access key in a variable": r"(?i)aws_access_key_id",
    "private key": r"BEGIN [A-Z ]*PRIVATE KEY",
    "hub token": r"\bhf_[A-Za-z0-9]{20,}|\bHF_TOKEN\b",
    "token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    "password": r"(?i)\bpassword\s*[:=]\s*['\"]?\w",
    "user in a URI": r"s3://[^/\s]+:[^/\s]+@",
    "token as text": r"(?i)auth_token['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9]{8,}",
    "Kubernetes secret with content": r"(?m)^kind: Secret\b",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_file_holds_credentials(kind: str) -> None:
    folders = ("aws", "environments", "grafana", "images", "kuberay", "slurm")
    texts = {path: path.read_text() for folder in folders for path in (CLUSTER / folder).rglob("*") if path.is_file()}
    texts[ROOT / "docs" / "cluster.md"] = GUIDE
    for path, text in texts.items():
        assert not re.search(SECRETS[kind], text), path


def test_the_build_context_is_what_the_images_copy() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {line[1:] for line in rules if line.startswith("!")}
    copied: set[str] = set()
    for path in (CLUSTER / "images").glob("*.Dockerfile"):
        text = path.read_text()
        copied |= {source.split("/")[0] for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for source in line.split()}
        user = [line for line in text.splitlines() if line.startswith(("USER", "CMD"))]
        assert user[0] == "USER 1000", "a number, so that Kubernetes can check that it is not root"
    assert kept == copied


def test_the_images_install_extras_that_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (section,) = re.findall(r"^\[project\.optional-dependencies\]$(.*?)^\[", project, re.MULTILINE | re.DOTALL)
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    (wanted,) = re.findall(r'"/opt/sc3d\[([\w,]+)\]"', (CLUSTER / "images" / "main.Dockerfile").read_text())
    assert set(wanted.split(",")) <= extras
    assert {"s3", "foundation"} <= set(wanted.split(","))
