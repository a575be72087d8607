"""What is rendered from the function folders hangs together, and gives nobody more than was declared."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from quietpager.actions.schema import Access, Action, load_actions
from quietpager.cli.main import main
from quietpager.cli.render import render
from quietpager.incident.policy import load_policy
from quietpager.objects import table
from quietpager.render import DEFAULTS, FunctionFolder, Settings, function_folders, manifests, write_bindings
from quietpager.render.everything import _schedule
from quietpager.render.folders import PART_OF
from quietpager.render.rights import roles
from quietpager.render.senders import trigger_account
from quietpager.render.triggers import wanted as wanted_by
from quietpager.render.walls import Network
from quietpager.render.workloads import CONSOLE, DIGEST, MOUNT, STORE
from quietpager.rules.schema import load_rules
from quietpager.runtime.context import functions_folder

Json = dict[str, Any]

FUNCTIONS = functions_folder()
FOLDERS = function_folders(FUNCTIONS)
ACTIONS = load_actions(FUNCTIONS)
RENDERED = manifests(FUNCTIONS)
NAMES = [folder.name for folder in FOLDERS]
CLUSTER_WIDE = {
    "Namespace", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip
KINDS = CLUSTER_WIDE | {
    "ServiceAccount", "ConfigMap", "Deployment", "StatefulSet", "Service", "NetworkPolicy", "Broker",
    "Trigger", "ApiServerSource", "PingSource", "PodDisruptionBudget",
}  # fmt: skip
LOOKING = {"get", "list", "watch"}


def of(kind: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in RENDERED if one["kind"] == kind}


def pod_of(deployment: Json) -> Json:
    found: Json = deployment["spec"]["template"]["spec"]
    return found


def rules_of(account: str, *, write: bool = False) -> list[Json]:
    """Give the rules that a ServiceAccount has by all bindings, after `resume` those that write too."""
    bindings = [*of("ClusterRoleBinding").values(), *(write_bindings(FOLDERS, "quietpager") if write else ())]
    mine = [b for b in bindings if account in {s["name"] for s in b["subjects"]}]
    return [rule for b in mine for rule in of("ClusterRole")[b["roleRef"]["name"]]["rules"]]


def verbs_of(rules: list[Json]) -> set[str]:
    return {verb for rule in rules for verb in rule["verbs"]}


# Each object


def test_objects_are_named_once_labelled_and_in_our_namespace() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in RENDERED]
    assert len(names) == len(set(names))
    assert {kind for kind, _ in names} == KINDS
    for one in RENDERED:
        meta = one["metadata"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", meta["name"]), one
        assert len(meta["name"]) <= 63
        assert meta["labels"][PART_OF] == "quietpager"
        assert meta.get("namespace") == (None if one["kind"] in CLUSTER_WIDE else "quietpager"), one
        assert "/" in one["apiVersion"] or one["kind"] in {
            "Namespace",
            "ServiceAccount",
            "ConfigMap",
            "Service",
        }


def test_the_namespace_comes_first() -> None:
    assert RENDERED[0]["kind"] == "Namespace"


def test_rendering_is_the_same_every_time() -> None:
    assert manifests(FUNCTIONS) == RENDERED


def test_no_secret_is_rendered() -> None:
    assert "Secret" not in {one["kind"] for one in RENDERED}
    assert "password" not in str(of("ConfigMap"))


# References


def test_every_function_has_its_account_deployment_and_service() -> None:
    for kind in ("ServiceAccount", "Deployment", "Service"):
        assert set(NAMES) <= set(of(kind)), kind
    for name in NAMES:
        assert pod_of(of("Deployment")[name])["serviceAccountName"] in of("ServiceAccount")


def test_services_select_their_pods_and_reach_the_port_that_is_served() -> None:
    for name in NAMES:
        service, deployment = of("Service")[name]["spec"], of("Deployment")[name]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert service["selector"].items() <= labels.items()
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        [port] = service["ports"]
        assert (port["port"], port["targetPort"]) == (80, 8080)


def test_no_two_workloads_share_a_selector() -> None:
    workloads = [*of("Deployment").values(), *of("StatefulSet").values()]
    selectors = [str(one["spec"]["selector"]) for one in workloads]
    assert len(selectors) == len(set(selectors))


def every_filter() -> list[Json]:
    return [one for trigger in of("Trigger").values() for one in wanted_by(trigger)]


def test_a_function_has_one_trigger_at_most() -> None:
    names = [t["spec"]["subscriber"]["ref"]["name"] for t in of("Trigger").values()]
    assert sorted(names) == sorted(folder.name for folder in FOLDERS if folder.filters)


def test_every_subscription_has_a_trigger_and_every_trigger_a_service() -> None:
    wanted = [(folder.name, str(one)) for folder in FOLDERS for one in folder.filters]
    found = [
        (t["spec"]["subscriber"]["ref"]["name"], str(one))
        for t in of("Trigger").values()
        for one in wanted_by(t)
    ]
    assert sorted(found) == sorted(wanted)
    for trigger in of("Trigger").values():
        delivery = trigger["spec"]["delivery"]
        assert trigger["spec"]["broker"] in of("Broker")
        assert trigger["spec"]["subscriber"]["ref"]["name"] in of("Service")
        assert delivery["deadLetterSink"]["ref"]["name"] in of("Service")
        assert {"retry", "backoffPolicy", "backoffDelay", "timeout"} < set(delivery)


def test_no_trigger_wants_deleted_events() -> None:
    wanted = {one.get("type", "") for one in every_filter()}
    assert not any(one.endswith(".delete") for one in wanted)
    assert {one.rpartition(".")[2] for one in wanted if "apiserver" in one} == {"add", "update"}


def test_every_family_that_a_rule_routes_to_has_a_trigger() -> None:
    wanted = {one.get("family") for one in every_filter()}
    families = {rule.family for rule in load_rules(FUNCTIONS) if rule.classes}
    assert families <= wanted


def test_every_job_that_a_trigger_waits_for_is_pinged() -> None:
    wanted = {one.get("job") for one in every_filter()} - {None}
    pinged = {p["spec"]["ceOverrides"]["extensions"]["job"] for p in of("PingSource").values()}
    assert pinged == wanted == {"clock", "sweep", "anchor"}


def test_everything_is_sunk_into_the_one_broker() -> None:
    for source in [*of("PingSource").values(), *of("ApiServerSource").values()]:
        assert source["spec"]["sink"]["ref"]["kind"] == "Broker"
        assert source["spec"]["sink"]["ref"]["name"] in of("Broker")
    [broker] = of("Broker").values()
    assert broker["spec"]["delivery"]["deadLetterSink"]["ref"]["name"] in of("Service")
    # Without it one slow function stalls the source's watch.
    assert broker["metadata"]["annotations"]["messaging.knative.dev/async-handler"] == "true"


def test_the_source_watches_core_events_of_all_namespaces_and_names_the_cluster() -> None:
    one = next(o for o in manifests(FUNCTIONS, Settings(cluster="blue")) if o["kind"] == "ApiServerSource")
    assert one["spec"]["resources"] == [{"apiVersion": "v1", "kind": "Event"}]
    assert one["spec"]["namespaceSelector"] == {}
    assert one["spec"]["mode"] == "Resource"
    assert one["spec"]["ceOverrides"]["extensions"] == {"cluster": "blue"}
    assert verbs_of(rules_of(one["spec"]["serviceAccountName"])) == LOOKING


def test_bindings_name_a_role_and_an_account_that_exist() -> None:
    for one in [*of("ClusterRoleBinding").values(), *write_bindings(FOLDERS, "quietpager")]:
        assert one["roleRef"]["name"] in of("ClusterRole")
        for subject in one["subjects"]:
            assert subject["kind"] == "ServiceAccount"
            assert subject["name"] in of("ServiceAccount")
            assert subject["namespace"] == "quietpager"


# Rights


def test_no_rule_names_everything_or_secrets() -> None:
    for role in of("ClusterRole").values():
        for rule in role["rules"]:
            named = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not named & {"*", "secrets"}, role
            assert set(rule) == {"apiGroups", "resources", "verbs"}, role


def test_nobody_can_write_before_a_person_resumes() -> None:
    for account in of("ServiceAccount"):
        assert verbs_of(rules_of(account)) <= LOOKING, account
    assert not {b["metadata"]["name"] for b in write_bindings(FOLDERS, "quietpager")} & set(
        of("ClusterRoleBinding")
    )


def test_only_remediators_can_ever_write_and_only_what_their_action_says() -> None:
    for folder in FOLDERS:
        after = rules_of(folder.name, write=True)
        if folder.action is None:
            assert verbs_of(after) <= LOOKING, folder.name
            continue
        action = ACTIONS[folder.action]
        writing = [rule for rule in after if not set(rule["verbs"]) <= LOOKING]
        declared = [
            {"apiGroups": [a.group], "resources": list(a.resources), "verbs": list(a.verbs)}
            for a in action.write
        ]
        assert writing == declared


def test_every_action_has_its_remediator_and_its_pair_of_roles() -> None:
    assert {folder.action for folder in FOLDERS} - {None} == set(ACTIONS)
    writing = {name for name, action in ACTIONS.items() if action.write}
    for action in ACTIONS:
        assert f"quietpager-{action}-read" in of("ClusterRole")
        assert (f"quietpager-{action}-write" in of("ClusterRole")) is (action in writing)
        assert f"quietpager-{action}-read" in of("ClusterRoleBinding")
    assert [b["metadata"]["name"] for b in write_bindings(FOLDERS, "quietpager")] == [
        f"quietpager-{folder.action}-write" for folder in FOLDERS if folder.action in writing
    ]


def test_who_only_proposes_can_never_write() -> None:
    assert verbs_of(rules_of("remediate-propose-change", write=True)) == {"get"}
    assert "remediate-propose-change" not in str(write_bindings(FOLDERS, "quietpager"))


@pytest.mark.parametrize("name", NAMES)
def test_a_token_is_mounted_exactly_where_something_may_be_read(name: str) -> None:
    granted = bool(rules_of(name, write=True))
    assert pod_of(of("Deployment")[name])["automountServiceAccountToken"] is granted
    assert of("ServiceAccount")[name]["automountServiceAccountToken"] is False


def test_who_decides_tells_or_keeps_time_talks_to_no_api_server() -> None:
    silent = {f.name for f in FOLDERS if f.name.split("-")[0] in {"govern", "learn", "people"}} | {
        "ingest-dead-letter",
        "ingest-intake",
    }
    assert {name for name in NAMES if not rules_of(name)} == silent


def test_the_analyst_may_read_logs_and_no_secret() -> None:
    rules = rules_of("analyze-unknown", write=True)
    core = {name for rule in rules if rule["apiGroups"] == [""] for name in rule["resources"]}
    assert core == {
        "pods", "pods/log", "persistentvolumeclaims", "nodes", "namespaces", "events", "configmaps",
        "services", "resourcequotas",
    }  # fmt: skip
    assert verbs_of(rules) == {"get", "list"}
    [listed] = [rule for rule in rules if "configmaps" in rule["resources"]]
    assert listed["verbs"] == ["get"], "no list of all ConfigMaps with all they hold"


def test_detectors_may_read_what_a_look_at_a_pod_reads() -> None:
    for folder in FOLDERS:
        if folder.name.startswith("detect-"):
            readable = {resource for rule in rules_of(folder.name) for resource in rule["resources"]}
            assert {"pods", "deployments", "replicasets"} <= readable
            assert readable <= {kind.resource.plural for kind in table.KINDS.values()}


def test_only_who_reads_an_events_words_may_get_events_and_no_detector_may_list_them() -> None:
    verbs = {
        folder.name: {
            verb for rule in rules_of(folder.name) if "events" in rule["resources"] for verb in rule["verbs"]
        }
        for folder in FOLDERS
        if folder.name.startswith("detect-")
    }
    reading = {f"detect-{one.parent.name}" for one in FUNCTIONS.glob("detect/*/diagnose.py")
               if "live.event" in one.read_text(encoding="utf-8")}  # fmt: skip
    assert verbs == {name: {"get"} if name in reading else set() for name in verbs}


def folder_with(reads: tuple[str, ...]) -> FunctionFolder:
    return FunctionFolder("detect-odd", "detect/odd", (), reads)


@pytest.mark.parametrize("reads", [("secrets",), ("*",), ("*/pods",), ("apps/*",), ("secrets/status",)])
def test_a_folder_that_asks_for_too_much_is_not_rendered(reads: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="detect-odd-read asks for"):
        roles([folder_with(reads)], {}, "quietpager")


def action_with(read: Access, write: Access) -> Action:
    known = ACTIONS["raise-memory"]
    return known.model_copy(update={"name": "odd", "read": (read,), "write": (write,)})


@pytest.mark.parametrize(
    ("read", "write"),
    [
        ({"verbs": ("get", "patch")}, {"verbs": ("patch",)}),
        ({"verbs": ("*",)}, {"verbs": ("patch",)}),
        ({"verbs": ("get",)}, {"verbs": ("*",)}),
        ({"verbs": ("get",)}, {"verbs": ("patch",), "resources": ("*",)}),
        ({"verbs": ("get",), "resources": ("secrets",)}, {"verbs": ("patch",)}),
    ],
)
def test_an_action_that_asks_for_too_much_is_not_rendered(read: Json, write: Json) -> None:
    base: Json = {"group": "apps", "resources": ("deployments",)}
    action = action_with(Access(**base | read), Access(**base | write))
    folder = FunctionFolder("remediate-odd", "remediate/odd", ())
    with pytest.raises(ValueError, match=r"quietpager-odd-(read|write) asks for"):
        roles([folder], {"odd": action}, "quietpager")


def test_a_remediator_without_an_action_is_not_rendered() -> None:
    with pytest.raises(ValueError, match=r"no action\.yaml describes"):
        roles([FunctionFolder("remediate-odd", "remediate/odd", ())], {}, "quietpager")


# Pods


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_caged(name: str) -> None:
    deployment = of("Deployment")[name]
    pod, strategy = pod_of(deployment), deployment["spec"]["strategy"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert "memory" in container["resources"]["limits"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0
    assert {"readinessProbe", "livenessProbe"} <= set(container)
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["timeoutSeconds"] >= 2
        assert container[probe]["httpGet"]["path"].startswith("/health/")


@pytest.mark.parametrize("name", NAMES)
def test_pods_find_store_rules_policy_and_broker(name: str) -> None:
    [container] = pod_of(of("Deployment")[name])["containers"]
    env = {one["name"]: one for one in container["env"]}
    assert env["QUIETPAGER_STORE"]["valueFrom"]["secretKeyRef"] == {"name": STORE, "key": "url"}
    sink = "http://broker-ingress.knative-eventing.svc.cluster.local/quietpager/default"
    assert env["K_SINK"]["value"] == sink
    assert env["QUIETPAGER_FUNCTIONS"]["value"] == f"{MOUNT}/functions"
    assert env["QUIETPAGER_POLICY"]["value"] == f"{MOUNT}/policy.yaml"
    assert "QUIETPAGER_API_SERVER" not in env


def test_the_console_has_its_accounts_from_a_secret_no_trigger_and_no_token() -> None:
    pod = pod_of(of("Deployment")["people-console"])
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["accounts"]["secret"] == {"secretName": CONSOLE, "optional": True, "defaultMode": 0o440}
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts["accounts"]["readOnly"] is True
    env = {one["name"]: one for one in container["env"]}
    assert env["QUIETPAGER_CONSOLE_USERS"]["value"] == f"{mounts['accounts']['mountPath']}/users.json"
    assert pod["automountServiceAccountToken"] is False
    assert "people-console" not in {t["spec"]["subscriber"]["ref"]["name"] for t in of("Trigger").values()}
    assert "people-console" in NAMES


def test_only_the_console_sees_its_accounts() -> None:
    with_accounts = {
        name for name in NAMES if "accounts" in {v["name"] for v in pod_of(of("Deployment")[name])["volumes"]}
    }
    assert with_accounts == {"people-console"}


def mounted(rendered: list[Json], into: Path) -> Path:
    """Lay the ConfigMap out as the kubelet would for the first function."""
    [config] = (one for one in rendered if one["kind"] == "ConfigMap")
    deployment = next(one for one in rendered if one["kind"] == "Deployment")
    [volume] = pod_of(deployment)["volumes"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert {item["key"] for item in volume["configMap"]["items"]} == set(config["data"])
    for item in volume["configMap"]["items"]:
        path = into / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config["data"][item["key"]], encoding="utf-8")
    return into


def test_what_is_mounted_reads_as_the_functions_folder_does(tmp_path: Path) -> None:
    policy = "autonomy: approve\ntick: 2\nsweep: 20\n"
    folder = mounted(manifests(FUNCTIONS, Settings(policy=policy)), tmp_path)
    assert load_rules(folder / "functions") == load_rules(FUNCTIONS)
    assert load_actions(folder / "functions") == ACTIONS
    assert load_policy(str(folder / "policy.yaml")).tick == 2


def test_keys_are_allowed_in_a_config_map_and_fit() -> None:
    [config] = of("ConfigMap").values()
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", key) for key in config["data"])
    assert sum(map(len, config["data"].values())) < 1_000_000


def digests(rendered: list[Json]) -> dict[str, str]:
    """Give function → digest of what its pods read; with another one they are replaced."""
    found = {one["metadata"]["name"]: one["spec"] for one in rendered if one["kind"] == "Deployment"}
    return {name: spec["template"]["metadata"]["annotations"][DIGEST] for name, spec in found.items()}


def changed(rendered: list[Json]) -> set[str]:
    before = digests(RENDERED)
    return {name for name, digest in digests(rendered).items() if before.get(name, digest) != digest}


def reading(*stages: str) -> set[str]:
    return {folder.name for folder in FOLDERS if folder.stage in stages}


def test_pods_are_replaced_when_what_they_read_has_changed(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    assert changed(manifests(copy)) == set()
    assert changed(manifests(FUNCTIONS, Settings(policy="tick: 3\n"))) == set(NAMES)
    rule = copy / "detect" / "crash" / "rule.yaml"
    rule.write_text(rule.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert changed(manifests(copy)) == set(NAMES) - reading("govern", "remediate")


def copied(tmp_path: Path) -> Path:
    copy = tmp_path / "functions"
    shutil.copytree(FUNCTIONS, copy, ignore=shutil.ignore_patterns("cases", "__pycache__"))
    return copy


def test_images_are_those_that_were_built() -> None:
    rendered = manifests(FUNCTIONS, Settings(images={"detect-crash": "localhost/x:1"}))
    images = {one["metadata"]["name"]: pod_of(one) for one in rendered if one["kind"] == "Deployment"}
    assert images["detect-crash"]["containers"][0]["image"] == "localhost/x:1"


def test_every_pod_has_its_wall_and_one_closes_the_rest() -> None:
    policies = of("NetworkPolicy")
    assert set(policies) == {*NAMES, "postgres", "event-source", "closed"}
    assert policies["closed"]["spec"] == {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [],
    }  # fmt: skip
    for name in (*NAMES, "postgres"):
        workload = of("StatefulSet" if name == "postgres" else "Deployment")[name]
        wanted = policies[name]["spec"]["podSelector"]["matchLabels"]
        assert wanted.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


# Where the Broker authenticates

SIGNED = manifests(FUNCTIONS, Settings(authentication=True))


def signed(kind: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in SIGNED if one["kind"] == kind}


def env_of(deployment: Json) -> dict[str, str]:
    [container] = pod_of(deployment)["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def test_without_the_choice_nothing_asks_for_tokens() -> None:
    assert "EventPolicy" not in {one["kind"] for one in RENDERED}
    assert not any("audience" in str(one["spec"]) for one in of("Trigger").values())
    assert not any("QUIETPAGER_AUDIENCE" in env_of(one) for one in of("Deployment").values())


def senders(policy: Json) -> list[str]:
    return [str(one.get("sub") or tuple(one["ref"].values())) for one in policy["spec"]["from"]]


def test_each_sender_is_named_by_one_policy_for_the_broker_takes_the_first() -> None:
    named = [one for policy in signed("EventPolicy").values() for one in senders(policy)]
    assert len(named) == len(set(named))


def types_of(policy: Json) -> set[str]:
    [one] = policy["spec"]["filters"]
    return {each["exact"]["type"] for each in one.get("any", [one])}


def test_each_function_may_say_what_its_folder_says_and_each_source_its_own() -> None:
    policies = signed("EventPolicy")
    for folder in FOLDERS:
        assert types_of(policies[folder.name]) == set(folder.says) if folder.says else True
        assert (folder.name in policies) is bool(folder.says)
    assert {name for name, one in policies.items() if "remedy.apply" in str(types_of(one))} == {
        "govern-decide", "govern-clock",
    }  # fmt: skip
    pings = {name: one for name, one in policies.items() if "ping" in str(types_of(one))}
    assert set(pings) == {"pingsource-clock", "pingsource-sweep", "pingsource-anchor"}
    assert pings["pingsource-clock"]["spec"]["filters"] == [
        {"exact": {"type": "dev.knative.sources.ping", "job": "clock"}}
    ]
    for one in policies.values():
        assert one["spec"]["to"][0]["ref"]["name"] in signed("Broker")
        for ref in (sender["ref"] for sender in one["spec"]["from"] if "ref" in sender):
            assert ref["name"] in signed(ref["kind"])
            assert ref["namespace"] == "quietpager"
            # The Broker waits for its policies, and a Trigger for its Broker: neither would ever be Ready.
            assert ref["kind"] != "Trigger"


def test_who_reads_a_message_type_has_somebody_who_may_say_it() -> None:
    said = {name for policy in signed("EventPolicy").values() for name in types_of(policy)}
    assert {one["type"] for one in every_filter()} <= said


def test_each_trigger_delivers_with_a_token_for_the_function_that_asks_for_it() -> None:
    for name, trigger in signed("Trigger").items():
        spec = trigger["spec"]
        env = env_of(signed("Deployment")[name])
        assert spec["subscriber"]["audience"] == env["QUIETPAGER_AUDIENCE"]
        account = f"{name}-oidc-eventing.knative.dev-trigger"
        assert env["QUIETPAGER_SENDERS"] == f"system:serviceaccount:quietpager:{account}"
        dead = env_of(signed("Deployment")[spec["delivery"]["deadLetterSink"]["ref"]["name"]])
        assert spec["delivery"]["deadLetterSink"]["audience"] == dead["QUIETPAGER_AUDIENCE"]
        assert env["QUIETPAGER_SENDERS"] in dead["QUIETPAGER_SENDERS"].split()
    audiences = [env_of(one).get("QUIETPAGER_AUDIENCE") for one in signed("Deployment").values()]
    assert len(audiences) == len(set(audiences))
    assert env_of(signed("Deployment")["people-console"]).keys().isdisjoint({"QUIETPAGER_AUDIENCE"})


def test_only_who_posts_has_a_token_for_the_broker() -> None:
    for folder in FOLDERS:
        deployment = signed("Deployment")[folder.name]
        volumes = {one["name"]: one for one in pod_of(deployment)["volumes"]}
        tokens = [
            one["serviceAccountToken"]
            for one in volumes.get("identity", {}).get("projected", {}).get("sources", ())
            if "serviceAccountToken" in one
        ]
        audiences = [one.get("audience") for one in tokens]
        broker = "eventing.knative.dev/broker/quietpager/default"
        assert audiences == ([] if folder.web else [None, broker] if folder.posts else [None])
        assert ("QUIETPAGER_BROKER_TOKEN" in env_of(deployment)) is folder.posts


def test_authentication_and_func_are_not_rendered_together() -> None:
    with pytest.raises(ValueError, match="With func there is no authentication"):
        manifests(FUNCTIONS, Settings(authentication=True, func=True))


def test_a_name_that_knative_would_shorten_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        trigger_account("detect-" + "x" * 40, "quietpager")


def test_postgres_keeps_its_passwords_in_the_secret() -> None:
    [postgres] = of("StatefulSet").values()
    pod = pod_of(postgres)
    [container] = pod["containers"]
    assert {env["name"]: env["valueFrom"]["secretKeyRef"] for env in container["env"]} == {
        "POSTGRES_PASSWORD": {"name": STORE, "key": "password"},
        "POSTGRES_FUNCTIONS_PASSWORD": {"name": STORE, "key": "functions-password"},
    }
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/data", "/tmp", "/dev/shm"}  # noqa: S108
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["automountServiceAccountToken"] is False


# Ticks


def test_ticks_follow_the_policy() -> None:
    def schedules(policy: str) -> dict[str, str]:
        rendered = manifests(FUNCTIONS, Settings(policy=policy))
        return {
            one["metadata"]["name"]: one["spec"]["schedule"]
            for one in rendered
            if one["kind"] == "PingSource"
        }

    anchor = {"anchor": "0 */5 * * * *"}
    assert schedules(DEFAULTS.policy) == {"clock": "*/5 * * * * *", "sweep": "*/30 * * * * *"} | anchor
    assert schedules("tick: 1\nsweep: 120\n") == {"clock": "*/1 * * * * *", "sweep": "0 */2 * * * *"} | anchor


def ticks(schedule: str) -> Iterator[int]:
    """Give the seconds of one hour at which a schedule ticks."""

    def field(text: str) -> set[int]:
        return set(range(0, 60, int(text[2:]))) if text.startswith("*/") else {int(text)}

    second, minute = (field(text) if text != "*" else set(range(60)) for text in schedule.split()[:2])
    yield from (60 * m + s for m in sorted(minute) for s in sorted(second))


@pytest.mark.parametrize("seconds", [1, 1.5, 2, 5, 7, 30, 45, 59, 60, 61, 90, 120, 600, 3599, 3600, 9000])
def test_a_tick_never_comes_later_than_the_policy_says(seconds: float) -> None:
    found = list(ticks(_schedule(seconds)))
    gaps = [b - a for a, b in zip(found, [*found[1:], found[0] + 3600], strict=True)]
    assert max(gaps) <= max(seconds, 1)


# The command


def test_what_is_printed_is_what_is_rendered() -> None:
    said: list[str] = []
    render(None, None, "default", said.append)
    assert list(yaml.safe_load_all("".join(said))) == RENDERED


def test_the_command_gives_what_was_chosen() -> None:
    chosen = ["--authentication", "--api-server", "10.1.2.3/32", "--console-from", "ingress-nginx"]
    done = CliRunner().invoke(main, ["render", *chosen])
    assert done.exit_code == 0, done.output
    assert list(yaml.safe_load_all(done.output)) == manifests(
        FUNCTIONS,
        Settings(
            authentication=True, network=Network(api_server=("10.1.2.3/32",), console_from="ingress-nginx")
        ),
    )


def test_the_command_refuses_what_does_not_go_together_and_says_why() -> None:
    for chosen, why in ((["--authentication", "--func"], "With func"), (["--inside", "here"], "no CIDR")):
        done = CliRunner().invoke(main, ["render", *chosen])
        assert done.exit_code != 0
        assert why in done.output


def test_what_is_written_comes_in_the_order_of_applying(tmp_path: Path) -> None:
    render(tmp_path / "out", None, "default", lambda _line: None)
    files = sorted((tmp_path / "out").glob("*.yaml"))
    assert files[0].name == "00-namespace.yaml"
    written = [one for path in files for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    assert sorted(map(str, written)) == sorted(map(str, RENDERED))


def test_the_test_beds_policy_is_one() -> None:
    path = Path(__file__).parents[2] / "infra" / "deploy" / "testbed-policy.yaml"
    assert load_policy(str(path)).autonomy.value == "auto"


def test_with_a_store_elsewhere_nothing_of_postgresql_is_rendered() -> None:
    """DynamoDB, or a database that is there already."""
    words = ["render", "--store", "0.0.0.0/0", "--store-port", "443"]
    usual, elsewhere = (CliRunner().invoke(main, some).output for some in (words[:1], words))
    assert "app: postgres" in usual
    assert "kind: StatefulSet" in usual
    assert "postgres" not in elsewhere.lower()
    assert "kind: StatefulSet" not in elsewhere
    assert "port: 443" in elsewhere
