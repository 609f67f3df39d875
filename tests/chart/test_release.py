"""What a release of the service is made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.chart.render import (
    Document,
    RenderError,
    by_kind,
    render_chart,
    render_notes,
)
from tests.chart.values import LEAVES
from tidegate.settings import Settings, read_settings

# Each example is a run of Helm, so few; a failing one is readable as it is, so none is shrunk.
few = settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
WORKER = {"enabled": True, "args": ["python", "-m", "orders", "worker"]}
SCRATCH = {"/tmp": "emptyDir"}  # noqa: S108 - the pod's own
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")


def release(**values: object) -> dict[str, Document]:
    return by_kind(render_chart(values))


def pod_of(workload: Document) -> Document:
    template: Document = workload["spec"]["template"]
    return template


def container_of(workload: Document) -> dict[str, Any]:
    (container,) = pod_of(workload)["spec"]["containers"]
    return dict(container)


def env_of(workload: Document) -> dict[str, Any]:
    env = container_of(workload)["env"]
    plain = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in env}
    assert len(plain) == len(env), "a name stands twice"
    return plain


def annotations_of(document: Document) -> dict[str, str]:
    return dict(document["metadata"].get("annotations", {}))


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


# --- names and labels ----------------------------------------------------------------------


def test_a_release_is_called_like_the_release() -> None:
    names = {document["metadata"]["name"] for document in render_chart(release="orders")}
    assert names == {"orders", "orders-migrate", "orders-test"}


@few
@given(
    st.from_regex(r"[a-z]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", fullmatch=True)
)
@example("shop.orders")
@example("o" * 52 + "-7")
def test_every_release_name_gives_names_that_kubernetes_takes(name: str) -> None:
    for document in render_chart(release=name[:53].rstrip("-.")):
        assert DNS_LABEL.fullmatch(document["metadata"]["name"])
        for value in document["metadata"]["labels"].values():
            assert LABEL_VALUE.fullmatch(value)


def test_a_release_name_that_no_service_can_have_is_refused_with_the_way_out() -> None:
    with pytest.raises(RenderError, match='cannot be called "24orders": set fullnameOverride'):
        render_chart(release="24orders")
    assert render_chart({"fullnameOverride": "orders"}, release="24orders")


@few
@given(
    st.from_regex(r"[A-Za-z0-9_][-._A-Za-z0-9]{0,127}", fullmatch=True),
    st.booleans(),
)
@example("_1.0-", False)
@example("v" + "1." * 60, True)
def test_every_image_tag_is_run_unchanged_and_gives_a_label_that_kubernetes_takes(
    tag: str, pinned: bool
) -> None:
    digest = "sha256:" + "5f3c1d0f8a7b6e4d" * 4 if pinned else ""
    image = f"registry.example.com/shop/orders:{tag}" + (f"@{digest}" if pinned else "")
    documents = release(image={"tag": tag, "digest": digest})
    for workload in (documents["Deployment/service"], documents["Job/migration"]):
        assert container_of(workload)["image"] == image
        assert env_of(workload)["TIDEGATE_IMAGE"] == image
    for document in documents.values():
        assert LABEL_VALUE.fullmatch(document["metadata"]["labels"]["app.kubernetes.io/version"])


def test_a_newer_chart_that_changes_nothing_rolls_no_pod() -> None:
    labels = pod_of(release()["Deployment/service"])["metadata"]["labels"]
    assert "helm.sh/chart" not in labels
    assert "app.kubernetes.io/managed-by" not in labels


# --- files and proxies -------------------------------------------------------------------------


def mounted(workload: Document) -> dict[str, str]:
    """Where the volumes are, by what they are."""
    volumes = {each.pop("name"): each for each in pod_of(workload)["spec"]["volumes"]}
    mounts = container_of(workload)["volumeMounts"]
    return {each["mountPath"]: next(iter(volumes[each["name"]])) for each in mounts}


def test_files_are_kept_in_a_claim_by_the_service_and_its_worker_and_nothing_else() -> None:
    documents = release(files={"existingClaim": "orders-files"}, worker=WORKER)
    for name in ("Deployment/service", "Deployment/worker"):
        workload = documents[name]
        security = pod_of(workload)["spec"]["securityContext"]
        assert (security["fsGroup"], security["fsGroupChangePolicy"]) == (10001, "OnRootMismatch")
        assert env_of(workload)["APP_FILES_DIRECTORY"] == "/var/lib/files"
        assert container_of(workload)["securityContext"]["readOnlyRootFilesystem"] is True
        assert mounted(workload) == SCRATCH | {"/var/lib/files": "persistentVolumeClaim"}
    assert "APP_FILES_DIRECTORY" not in env_of(documents["Job/migration"])
    assert mounted(documents["Job/migration"]) == SCRATCH


def test_a_group_of_your_own_is_kept_and_without_a_claim_there_is_no_volume() -> None:
    claim = {"existingClaim": "orders-files"}
    own = release(files=claim, podSecurityContext={"fsGroup": 2000})["Deployment/service"]
    assert pod_of(own)["spec"]["securityContext"]["fsGroup"] == 2000
    without = release()["Deployment/service"]
    assert "fsGroup" not in pod_of(without)["spec"]["securityContext"]
    assert mounted(without) == SCRATCH
    assert "APP_FILES_DIRECTORY" not in env_of(without)


def test_proxies_are_believed_by_the_service_where_they_are_named() -> None:
    documents = release(trustedProxies=["10.42.0.0/16", "fd00::/8"], worker=WORKER)
    assert env_of(documents["Deployment/service"])["FORWARDED_ALLOW_IPS"] == "10.42.0.0/16,fd00::/8"
    assert "FORWARDED_ALLOW_IPS" not in env_of(documents["Deployment/worker"])
    assert "FORWARDED_ALLOW_IPS" not in env_of(release()["Deployment/service"])


# --- the migration ---------------------------------------------------------------------------


def test_the_migration_pod_is_selected_by_no_service_budget_or_deployment() -> None:
    documents = release()
    selectors = {
        "Service": documents["Service/service"]["spec"]["selector"],
        "PodDisruptionBudget": documents["PodDisruptionBudget/service"]["spec"]["selector"][
            "matchLabels"
        ],
        # The autoscaler counts the pods that its Deployment selects.
        "Deployment": documents["Deployment/service"]["spec"]["selector"]["matchLabels"],
    }
    serving = pod_of(documents["Deployment/service"])["metadata"]["labels"]
    migrating = pod_of(documents["Job/migration"])["metadata"]["labels"]
    for kind, selector in selectors.items():
        assert matches(selector, serving), kind
        assert not matches(selector, migrating), kind


def test_the_migration_runs_before_install_upgrade_and_rollback_and_stays_readable() -> None:
    job = release()["Job/migration"]
    assert annotations_of(job) == {
        "helm.sh/hook": "pre-install,pre-upgrade,pre-rollback",
        "helm.sh/hook-weight": "0",
        "helm.sh/hook-delete-policy": "before-hook-creation",
        "helm.sh/hook-output-log-policy": "hook-failed",
    }
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_the_migration_has_an_account_of_its_own_which_is_there_before_it() -> None:
    documents = release()
    account, job = documents["ServiceAccount/migration"], documents["Job/migration"]
    name = pod_of(job)["spec"]["serviceAccountName"]
    assert account["metadata"]["name"] == name
    assert annotations_of(account)["helm.sh/hook"] == annotations_of(job)["helm.sh/hook"]
    weights = [int(annotations_of(each)["helm.sh/hook-weight"]) for each in (account, job)]
    assert weights[0] < weights[1]


def test_the_service_account_of_the_deployment_is_no_hook() -> None:
    documents = release()
    account = documents["ServiceAccount/service"]
    deployment = pod_of(documents["Deployment/service"])["spec"]
    assert deployment["serviceAccountName"] == account["metadata"]["name"]
    assert (
        deployment["serviceAccountName"]
        != documents["ServiceAccount/migration"]["metadata"]["name"]
    )
    assert not [key for key in annotations_of(account) if key.startswith("helm.sh/hook")]


def test_a_hook_needs_nothing_that_comes_after_it() -> None:
    documents = release(envFrom=[{"configMapRef": {"name": "orders-settings"}}])
    spec = pod_of(documents["Job/migration"])["spec"]
    needed = {spec["serviceAccountName"]}
    hooks = {
        document["metadata"]["name"]
        for document in documents.values()
        if "helm.sh/hook" in annotations_of(document)
    }
    later = {document["metadata"]["name"] for document in documents.values()} - hooks
    assert needed <= hooks
    assert not needed & later


def test_helm_hears_of_a_failed_migration_before_its_own_patience_ends() -> None:
    spec = release()["Job/migration"]["spec"]
    assert spec["activeDeadlineSeconds"] < 300  # Helm's default --timeout is 5m0s


def test_a_migration_out_of_time_is_told_to_stop_before_its_pod_would_be_deleted() -> None:
    """At the Job's deadline its pod goes, with report and log; at its own deadline it stays."""
    for deadline in (256, 270, 3500):
        spec = release(migrations={"activeDeadlineSeconds": deadline})["Job/migration"]["spec"]
        assert spec["activeDeadlineSeconds"] == deadline
        assert spec["template"]["spec"]["activeDeadlineSeconds"] == deadline - 15
        # Tried again, it would be deleted after all.
        assert 143 in spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]


def test_only_failures_that_time_can_mend_are_tried_again() -> None:
    spec = release()["Job/migration"]["spec"]
    disruption, hopeless = spec["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert hopeless["action"] == "FailJob"
    # 1 migration-error, 2 settings, 4 incompatible, 6 lint, 143 terminated; 3 lock-timeout
    # and 5 unreachable may pass.
    assert hopeless["onExitCodes"]["values"] == [1, 2, 4, 6, 143]
    assert hopeless["onExitCodes"]["containerName"] == container_of({"spec": spec})["name"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == 2


@pytest.mark.parametrize("workload", ["Job/migration", "Deployment/service", "Deployment/worker"])
def test_who_locks_or_listens_is_told_the_way_past_the_pooler(workload: str) -> None:
    direct = {"secretKeyRef": {"name": "orders-database", "key": "DIRECT_URL"}}
    told = release(database={"directUrlKey": "DIRECT_URL"}, worker=WORKER)[workload]
    assert env_of(told)["DIRECT_URL"] == direct
    assert "DIRECT_URL" not in env_of(release(worker=WORKER)[workload])


def test_the_migration_runs_on_the_nodes_of_the_service_but_ignores_where_its_pods_are() -> None:
    node: dict[str, Any] = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
    }
    away: dict[str, Any] = {"preferredDuringSchedulingIgnoredDuringExecution": []}
    documents = release(
        nodeSelector={"kubernetes.io/arch": "arm64"},
        tolerations=[{"key": "dedicated", "operator": "Exists"}],
        affinity={"nodeAffinity": node, "podAntiAffinity": away},
    )
    service = pod_of(documents["Deployment/service"])["spec"]
    migration = pod_of(documents["Job/migration"])["spec"]
    assert migration["nodeSelector"] == service["nodeSelector"]
    assert migration["tolerations"] == service["tolerations"]
    assert service["affinity"] == {"nodeAffinity": node, "podAntiAffinity": away}
    assert migration["affinity"] == {"nodeAffinity": node}


def test_without_a_strategy_there_is_no_trace_of_a_migration() -> None:
    documents = release(migrations={"strategy": "none"})
    assert not [key for key in documents if key.endswith("/migration")]
    assert "migrate" not in render_notes({"migrations": {"strategy": "none"}})


def test_the_gate_watches_the_deployment_and_finds_its_migrations() -> None:
    documents = release()
    gate, job = documents["SchemaGate/service"], documents["Job/migration"]
    assert gate["spec"] == {"deploymentName": documents["Deployment/service"]["metadata"]["name"]}
    for labelled in (job, pod_of(job)):
        label = labelled["metadata"]["labels"]["tidegate.dev/schemagate"]
        assert label == gate["metadata"]["name"]


# --- the service -----------------------------------------------------------------------------


@few
@given(st.integers(0, 3600), st.integers(1, 86400))
def test_the_grace_period_and_the_drain_come_from_the_same_numbers(delay: int, wait: int) -> None:
    deployment = release(drain={"delaySeconds": delay, "timeoutSeconds": wait})[
        "Deployment/service"
    ]
    env = env_of(deployment)
    assert (env["TIDEGATE_DRAIN_DELAY"], env["TIDEGATE_DRAIN_TIMEOUT"]) == (str(delay), str(wait))
    assert pod_of(deployment)["spec"]["terminationGracePeriodSeconds"] == delay + wait + 10


def test_replicas_are_absent_beside_an_autoscaler() -> None:
    documents = release()
    assert "replicas" not in documents["Deployment/service"]["spec"]
    target = documents["HorizontalPodAutoscaler/service"]["spec"]["scaleTargetRef"]
    assert target["name"] == documents["Deployment/service"]["metadata"]["name"]


def test_replicas_are_fixed_without_an_autoscaler() -> None:
    documents = release(autoscaling={"enabled": False}, replicaCount=3)
    assert documents["Deployment/service"]["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler/service" not in documents


def test_a_rollout_never_has_less_capacity_than_before() -> None:
    assert release()["Deployment/service"]["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }


@pytest.mark.parametrize(
    ("probe", "path", "period", "failures"),
    [
        ("livenessProbe", "/health/live", 10, 3),
        ("readinessProbe", "/health/ready", 5, 3),
        ("startupProbe", "/health/startup", 5, 30),
    ],
)
def test_probes_ask_the_admin_port(probe: str, path: str, period: int, failures: int) -> None:
    container = container_of(release(admin={"port": 9100})["Deployment/service"])
    assert container[probe]["httpGet"] == {"path": path, "port": "admin"}
    assert container[probe]["periodSeconds"] == period
    assert container[probe]["failureThreshold"] == failures
    assert {"name": "admin", "containerPort": 9100} in container["ports"]


def test_the_admin_port_is_in_no_service() -> None:
    (port,) = release()["Service/service"]["spec"]["ports"]
    assert port == {"name": "http", "port": 80, "targetPort": "http"}


def test_the_ports_that_the_process_opens_are_those_that_kubernetes_knows() -> None:
    deployment = release(admin={"port": 9100})["Deployment/service"]
    ports = {port["name"]: port["containerPort"] for port in container_of(deployment)["ports"]}
    env = env_of(deployment)
    assert ports == {"http": int(env["TIDEGATE_PORT"]), "admin": int(env["TIDEGATE_ADMIN_PORT"])}


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_the_library_understands_whatever_the_schema_allows(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ("admin.port", "drain.delaySeconds", "drain.timeoutSeconds")
    admin_port, delay, timeout = (LEAVES[path][bound] for path in paths)
    deployment = release(
        admin={"port": admin_port}, drain={"delaySeconds": delay, "timeoutSeconds": timeout}
    )["Deployment/service"]
    for name, value in env_of(deployment).items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    settings = read_settings(Settings)
    assert (settings.port, settings.admin_port) == (8000, admin_port)
    assert (settings.drain_delay, settings.drain_timeout) == (delay, timeout)


def test_readiness_waits_longer_than_the_check_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_CHECK_TIMEOUT", raising=False)
    container = container_of(release()["Deployment/service"])
    for probe in ("readinessProbe", "startupProbe"):
        assert container[probe]["timeoutSeconds"] > read_settings(Settings).check_timeout


@pytest.mark.parametrize("workload", ["Deployment/service", "Job/migration"])
def test_no_pod_holds_a_token_or_the_addresses_of_other_services(workload: str) -> None:
    spec = pod_of(release()[workload])["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("workload", ["Deployment/service", "Deployment/worker", "Job/migration"])
def test_the_environment_of_the_user_comes_after_the_charts(workload: str) -> None:
    mine = {"name": "APP_REPLICA_URL", "value": "$(DATABASE_URL)?target_session_attrs=standby"}
    env = container_of(release(env=[mine], worker=WORKER)[workload])["env"]
    names = [entry["name"] for entry in env]
    assert env[-1] == mine
    assert names.index("DATABASE_URL") < len(names) - 1


def test_pods_of_one_rollout_spread_over_zones_and_nodes() -> None:
    deployment = release()["Deployment/service"]
    selector = deployment["spec"]["selector"]
    constraints = pod_of(deployment)["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for constraint in constraints:
        assert constraint["labelSelector"] == selector
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_a_selector_of_the_users_own_is_left_alone() -> None:
    mine = {
        "maxSkew": 2,
        "topologyKey": "rack",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"team": "shop"}},
    }
    deployment = release(topologySpreadConstraints=[mine])["Deployment/service"]
    assert pod_of(deployment)["spec"]["topologySpreadConstraints"] == [mine]


# --- the worker ------------------------------------------------------------------------------


def test_there_is_no_worker_unless_one_is_asked_for() -> None:
    assert not [key for key in release() if key.endswith("/worker")]


def test_the_worker_is_the_services_image_with_a_command_of_its_own() -> None:
    mine = {"name": "APP_PAYMENTS_URL", "value": "https://pay.example.org"}
    secrets = {"secretRef": {"name": "orders-secrets"}}
    documents = release(worker=WORKER, env=[mine], envFrom=[secrets])
    service, worker = documents["Deployment/service"], documents["Deployment/worker"]
    assert container_of(worker)["args"] == WORKER["args"]
    assert container_of(worker)["image"] == container_of(service)["image"]
    assert container_of(worker)["envFrom"] == [secrets]
    assert env_of(worker)["APP_PAYMENTS_URL"] == mine["value"]
    assert worker["spec"]["replicas"] == 1
    assert worker["spec"]["strategy"] == service["spec"]["strategy"]
    for key in ("securityContext", "automountServiceAccountToken", "serviceAccountName", "volumes"):
        assert pod_of(worker)["spec"][key] == pod_of(service)["spec"][key]


def test_the_worker_is_asked_how_it_is_and_nothing_else() -> None:
    documents = release(worker=WORKER, admin={"port": 9100})
    service, worker = documents["Deployment/service"], documents["Deployment/worker"]
    assert container_of(worker)["ports"] == [{"name": "admin", "containerPort": 9100}]
    assert env_of(worker)["TIDEGATE_ADMIN_PORT"] == "9100"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert container_of(worker)[probe] == container_of(service)[probe]


def test_workers_are_counted_by_themselves_and_serve_nobody() -> None:
    documents = release(worker=WORKER)
    working = pod_of(documents["Deployment/worker"])["metadata"]["labels"]
    budget = documents["PodDisruptionBudget/worker"]["spec"]["selector"]["matchLabels"]
    own = documents["Deployment/worker"]["spec"]["selector"]["matchLabels"]
    assert matches(budget, working)
    assert matches(own, working)
    others = [
        documents["Service/service"]["spec"]["selector"],
        documents["PodDisruptionBudget/service"]["spec"]["selector"]["matchLabels"],
        documents["Deployment/service"]["spec"]["selector"]["matchLabels"],
    ]
    assert not any(matches(selector, working) for selector in others)
    assert "HorizontalPodAutoscaler/worker" not in documents
    for constraint in pod_of(documents["Deployment/worker"])["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == own


def test_traces_tell_the_worker_from_the_service() -> None:
    assert env_of(release(worker=WORKER)["Deployment/worker"])["OTEL_SERVICE_NAME"] == (
        "orders-worker"
    )
    named = release(worker=WORKER, env=[{"name": "OTEL_SERVICE_NAME", "value": "shop"}])
    assert env_of(named["Deployment/service"])["OTEL_SERVICE_NAME"] == "shop"
    assert env_of(named["Deployment/worker"])["OTEL_SERVICE_NAME"] == "shop-worker"


@few
@given(st.integers(1, 86400))
def test_a_worker_has_its_drain_and_ten_seconds_before_it_is_killed(wait: int) -> None:
    worker = release(worker={**WORKER, "drain": {"timeoutSeconds": wait}})["Deployment/worker"]
    env = env_of(worker)
    assert env["TIDEGATE_DRAIN_TIMEOUT"] == str(wait)
    assert "TIDEGATE_DRAIN_DELAY" not in env  # no load balancer has to hear of it
    assert pod_of(worker)["spec"]["terminationGracePeriodSeconds"] == wait + 10


# --- what a person sees -----------------------------------------------------------------------


def test_the_notes_say_how_to_reach_the_service_its_metrics_and_its_gate() -> None:
    notes = render_notes({"service": {"port": 8080}, "admin": {"port": 9100}})
    assert "port-forward service/orders 8000:8080" in notes
    assert "port-forward deployment/orders 9100" in notes
    assert "http://127.0.0.1:9100/metrics" in notes
    assert "get schemagate orders" in notes
    assert "logs job/orders-migrate" in notes
    assert len(notes.splitlines()) < 20


@pytest.fixture(params=[200, 404, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Run a web server that gives one status to everything; yield the status and the port."""
    status: int = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield status, server.server_port
        server.shutdown()
        thread.join()


def test_helm_test_passes_if_the_service_answers_and_fails_if_not(
    answering: tuple[int, int],
) -> None:
    status, port = answering
    (container,) = release()["Pod/test"]["spec"]["containers"]
    assert container["args"] == ["orders", "80"]
    command = [sys.executable, *container["command"][1:], "127.0.0.1", str(port)]
    command[2] = command[2].replace("time.sleep(1)", "time.sleep(0)")
    ended = subprocess.run(
        command, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ended.returncode == (0 if status < 500 else 1), ended.stderr
    assert f"answers {status}" in ended.stdout
