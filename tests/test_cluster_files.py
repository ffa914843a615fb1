"""The files of cluster/: they parse, agree with constraints.txt and each other, and expose nothing."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml
from jsonschema import Draft7Validator
from ray.autoscaler._private.util import prepare_config, validate_config

from lgsid_ray.config import load

PROJECT = Path(__file__).parents[1]
CLUSTER = PROJECT / "cluster"
RAY_VERSION = re.search(r"^ray==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE).group(1)


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def groups(spec):
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def gpu_nodes():
    """Node types of ray-up.yaml that run the GPU image."""
    kinds = read("ray-up.yaml")["available_node_types"]
    return {name: kind for name, kind in kinds.items() if "worker_image" in kind.get("docker", {})}


@pytest.fixture
def spec():
    return read("kuberay/raycluster.yaml")["spec"]


def test_versions_agree(spec):
    assert spec["rayVersion"] == RAY_VERSION == ray.__version__
    images = [c["image"] for group in groups(spec) for c in group["template"]["spec"]["containers"]]
    images.append(read("ray-up.yaml")["docker"]["image"])
    images += [kind["docker"]["worker_image"].removesuffix("-gpu") for kind in gpu_nodes().values()]
    assert {image.rpartition(":")[2] for image in images} == {RAY_VERSION}
    assert f"lgsid_ray:{RAY_VERSION}" in (CLUSTER / "Dockerfile").read_text()


def test_pods_are_guaranteed_their_memory_and_unprivileged(spec):
    for group in groups(spec):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_head_runs_no_tasks_and_workers_scale(spec):
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(spec):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_job_runs_on_the_same_cluster_and_ends():
    job = read("kuberay/rayjob.yaml")["spec"]
    assert job["rayClusterSpec"] == read("kuberay/raycluster.yaml")["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > 0
    script, config = re.findall(r"/opt/lgsid_ray/(\S+)", job["entrypoint"])
    assert (PROJECT / script).is_file()
    assert (PROJECT / config).is_file()
    assert "--out s3://" in job["entrypoint"]
    given = yaml.safe_load(job["runtimeEnvYAML"])["env_vars"]
    assert set(re.findall(r"\$\{(\w+)\}", (PROJECT / config).read_text())) == set(given)


def test_the_clusters_can_grow_to_what_the_production_configuration_asks_for(spec, monkeypatch):
    monkeypatch.setenv("LGSID_ITEMS", "s3://bucket/items")
    monkeypatch.setenv("LGSID_LOG", "s3://bucket/log")
    config = load(str(PROJECT / "configs/production.yaml"))
    trainers = [section.trainer for section in (config.reward, config.align, config.rank, config.generate)]
    asked = [trainer.workers * trainer.gpus_per_worker for trainer in trainers]
    asked.append(config.encoder.actors * config.encoder.gpus_per_actor)
    (pods,) = [group["maxReplicas"] for group in spec["workerGroupSpecs"] if group["groupName"] == "gpu"]
    (machines,) = [kind["max_workers"] for kind in gpu_nodes().values()]
    assert 0 < max(asked) <= min(pods, machines)


def test_a_token_is_asked_for_everywhere(spec):
    assert spec["authOptions"] == {"mode": "token"}
    launcher = read("ray-up.yaml")
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    assert any(target.endswith(".ray/auth_token") for target in launcher["file_mounts"])
    starts = [
        command
        for commands in (launcher["head_start_ray_commands"], launcher["worker_start_ray_commands"])
        for command in commands
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "Dockerfile").read_text()


def test_no_dashboard_is_exposed(spec):
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    policy = read("kuberay/networkpolicy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert "ipBlock" not in json.dumps(policy)
    head = " ".join(read("ray-up.yaml")["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert "--num-cpus=0" in head


def test_launcher_file_fits_the_schema_of_the_wheel():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    errors = list(Draft7Validator(schema).iter_errors(read("ray-up.yaml")))
    assert not errors, errors
    broken = {**read("ray-up.yaml"), "max_worker": 3}
    assert list(Draft7Validator(schema).iter_errors(broken))


def test_launcher_keeps_our_commands_over_the_providers_defaults():
    launcher = read("ray-up.yaml")
    whole = prepare_config(copy.deepcopy(launcher))
    validate_config(whole)
    commands = [name for name in whole if name.endswith("_commands")]
    assert len(commands) == 6
    for name in commands:
        assert whole[name] == launcher[name], name


def kubernetes_validate(folder, manifest):
    file = folder / f"{manifest['kind']}.yaml"
    file.write_text(yaml.safe_dump(manifest))
    return subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_pods_and_policy_fit_the_kubernetes_schema(spec, tmp_path):
    for group in groups(spec):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        done = kubernetes_validate(tmp_path, pod)
        assert done.returncode == 0, done.stdout + done.stderr
    done = kubernetes_validate(tmp_path, read("kuberay/networkpolicy.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_image_has_what_the_probes_need_and_pins_torch():
    text = (CLUSTER / "Dockerfile").read_text()
    assert re.search(r"apt-get install .*\bwget\b", text)
    assert "s/^torch==//p" in text
    assert "--constraint constraints.txt" in text
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (PROJECT / source).exists(), source
    assert text.index("USER ray") < text.index("CMD")


def test_metrics_are_scraped_where_ray_offers_them(spec):
    ports = {p["name"]: p["containerPort"] for p in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]}
    monitor = read("kuberay/podmonitor.yaml")["spec"]
    assert monitor["podMetricsEndpoints"][0]["portNumber"] == ports["metrics"] == 8080
    assert "--metrics-export-port=8080" in " ".join(read("ray-up.yaml")["head_start_ray_commands"])
    allowed = read("kuberay/networkpolicy.yaml")["spec"]["ingress"][1]["ports"]
    assert allowed == [{"port": 8080, "protocol": "TCP"}]
    dashboards = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    assert {"data_grafana_dashboard_base.json", "train_grafana_dashboard_base.json"} <= {
        file.name for file in dashboards.iterdir()
    }
