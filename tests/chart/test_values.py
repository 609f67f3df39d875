"""The values: each is described, used and proven; a wrong one is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.render import SERVICE, RenderError, merge, nest, render_chart
from tests.chart.values import DEFAULTS, LEAVES, NODES, SCHEMA, paths_of

WORKER = {"worker": {"enabled": True, "args": ["python", "-m", "orders", "worker"]}}

# Some values have an effect only beside others.
BESIDE: dict[str, dict[str, Any]] = {
    "worker.enabled": {"worker": {"args": WORKER["worker"]["args"]}},
    "worker.args": {"worker": {"enabled": True, "args": ["work"]}},
    "worker.replicaCount": WORKER,
    "worker.drain.timeoutSeconds": WORKER,
    "worker.resources.requests": WORKER,
    "worker.resources.limits": WORKER,
    "replicaCount": {"autoscaling": {"enabled": False}},
    "files.mountPath": {"files": {"existingClaim": "orders-files"}},
    "service.nodePort": {"service": {"type": "NodePort"}},
}

# --- all three speak of the same values --------------------------------------------------------


def test_every_value_is_described_by_the_schema() -> None:
    unknown = [path for path in paths_of(DEFAULTS) if path not in NODES]
    silent = [path for path, node in NODES.items() if not node["description"].endswith(".")]
    assert not unknown
    assert not silent


def test_every_value_of_the_schema_has_a_default_and_an_example() -> None:
    assert not LEAVES.keys() - set(paths_of(DEFAULTS))
    for path, node in LEAVES.items():
        assert node["examples"], path


def test_every_value_has_a_comment_above_it_or_above_its_group() -> None:
    explained: dict[str, bool] = {}
    open_keys: list[tuple[int, str]] = []
    above = ""
    for line in (SERVICE / "values.yaml").read_text().splitlines():
        if key := re.match(r"( *)([A-Za-z]+):", line):
            indent = len(key[1])
            open_keys = [*(each for each in open_keys if each[0] < indent), (indent, key[2])]
            path = ".".join(name for _, name in open_keys)
            explained[path] = above.lstrip().startswith("#")
        above = line
    for path in LEAVES:
        assert explained[path] or explained[path.rpartition(".")[0]], path


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_is_used(path: str) -> None:
    """Set to the schema's example, it changes what is rendered; so every example is valid, too."""
    beside = BESIDE.get(path, {})
    example = merge(beside, nest(path, LEAVES[path]["examples"][0]))
    assert render_chart(example) != render_chart(beside)


def test_the_schema_is_closed_at_every_level_of_ours() -> None:
    for path, node in {"": SCHEMA, **NODES}.items():
        if "properties" in node:
            assert node["additionalProperties"] is False, path


# --- wrong values ------------------------------------------------------------------------------


def refusal(values: dict[str, Any], *, bare: bool = False) -> str:
    with pytest.raises(RenderError) as refused:
        render_chart(values, bare=bare)
    return str(refused.value)


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ({"replicas": 3}, "at '':", "'replicas' not allowed"),
        ({"image": {"version": "1"}}, "at '/image'", "'version' not allowed"),
        ({"image": {"tag": 1.1}}, "at '/image/tag'", "got number, want string"),
        ({"image": {"repository": "orders:1"}}, "at '/image/repository'", "does not match pattern"),
        ({"replicaCount": "three"}, "at '/replicaCount'", "got string, want integer"),
        ({"resources": {"limit": {}}}, "at '/resources'", "'limit' not allowed"),
        ({"drain": {"delaySeconds": -1}}, "at '/drain/delaySeconds'", "want 0"),
        ({"env": [{"name": "A", "value": 1}]}, "at '/env/0/value'", "got number, want string"),
        ({"env": {"A": "1"}}, "at '/env'", "got object, want array"),
        (
            {"trustedProxies": ["ingress.example.org"]},
            "at '/trustedProxies/0'",
            "does not match pattern",
        ),
        ({"files": {"mountPath": "files"}}, "at '/files/mountPath'", "does not match pattern"),
        (
            {"migrations": {"strategy": "job"}},
            "at '/migrations/strategy'",
            "value must be one of 'hook', 'none'",
        ),
        (
            {"migrations": {"strategy": "operator"}},
            "at '/migrations/strategy'",
            "value must be one of 'hook', 'none'",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": "half"}},
            "at '/podDisruptionBudget/maxUnavailable'",
            "does not match pattern",
        ),
    ],
    ids=str,
)
def test_the_schema_refuses_a_wrong_value_by_name(
    values: dict[str, Any], named: str, said: str
) -> None:
    (line,) = (line for line in refusal(values).splitlines() if named in line)
    assert said in line


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"database": {"secretName": ""}}, "database.secretName is empty"),
        ({"image": {"repository": ""}}, "image.repository is empty"),
        ({"image": {"tag": ""}}, "image.tag and image.digest are both empty"),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            "env sets A twice",
        ),
        (
            {"env": [{"name": "TIDEGATE_DRAIN_DELAY", "value": "1"}]},
            "env sets TIDEGATE_DRAIN_DELAY, which this chart writes itself: "
            "use drain.delaySeconds instead",
        ),
        (
            {"env": [{"name": "APP_FILES_DIRECTORY", "value": "/srv/files"}]},
            "env sets APP_FILES_DIRECTORY, which this chart writes itself: "
            "use files.existingClaim and files.mountPath instead",
        ),
        (
            {"env": [{"name": "FORWARDED_ALLOW_IPS", "value": "*"}]},
            "env sets FORWARDED_ALLOW_IPS, which this chart writes itself: use trustedProxies",
        ),
        ({"podLabels": {"app.kubernetes.io/component": "x"}}, "podLabels sets app.kubernetes.io/"),
        ({"admin": {"port": 8000}}, "admin.port is 8000, where the service itself listens"),
        (
            {"service": {"nodePort": 30080}},
            "service.nodePort is set, but service.type is ClusterIP",
        ),
        ({"serviceAccount": {"name": "orders-migrate"}}, "serviceAccount.name is orders-migrate"),
        (
            {"autoscaling": {"maxReplicas": 1}},
            "autoscaling.maxReplicas (1) is below autoscaling.minReplicas (2)",
        ),
        ({"worker": {"enabled": True}}, "worker.enabled needs worker.args"),
        (
            {"resources": {"requests": {"cpu": None}, "limits": {"cpu": None}}},
            "autoscaling.enabled needs resources.requests.cpu",
        ),
        (
            {"migrations": {"activeDeadlineSeconds": 255}},
            "migrations.activeDeadlineSeconds (255) is not above migrations.lockTimeoutSeconds + "
            "migrations.connectTimeoutSeconds + migrations.deadlineSeconds + 15 (255)",
        ),
    ],
    ids=str,
)
def test_values_that_make_no_release_are_refused_by_name(
    values: dict[str, Any], problem: str
) -> None:
    said = refusal(values)
    assert f"\n  - {problem}" in said
    assert said.count("\n  - ") == 1


def test_a_missing_secret_is_answered_with_the_line_to_type() -> None:
    said = refusal({"database": {"secretName": "", "urlKey": "uri"}})
    assert (
        "\n      kubectl create secret generic orders-database --namespace shop "
        "--from-literal=uri='postgresql://USER:PASSWORD@HOST:5432/DATABASE'\n"
    ) in said
    assert "--set database.secretName=orders-database" in said


def test_all_problems_are_told_at_once() -> None:
    said = refusal({}, bare=True)
    for name in ("image.repository", "image.tag", "database.secretName"):
        assert f"\n  - {name} " in said


@pytest.mark.parametrize("workload", ["deployment", "worker-deployment", "migration-job"])
def test_the_user_may_set_no_name_that_the_chart_writes(workload: str) -> None:
    (document,) = render_chart(
        {"database": {"directUrlKey": "DIRECT_URL"}, **WORKER}, [f"templates/{workload}.yaml"]
    )
    (container,) = document["spec"]["template"]["spec"]["containers"]
    # The worker's name is made of the user's.
    names = [entry["name"] for entry in container["env"] if entry["name"] != "OTEL_SERVICE_NAME"]
    said = refusal({"env": [{"name": name, "value": "x"} for name in names]})
    for name in names:
        assert f"env sets {name}, which this chart writes itself" in said


def test_an_umbrella_chart_may_hand_down_its_globals() -> None:
    assert render_chart({"global": {"region": "eu"}}) == render_chart()
