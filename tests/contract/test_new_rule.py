"""A new rule reaches intake and sweep by the rendered route table: one function comes, nothing is rebuilt.

And what cannot be rendered is refused with a sentence that names the file and what to do.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from infra.images.function import ROOT, find, sources
from quietpager.actions.schema import load_actions
from quietpager.cli.main import main
from quietpager.model.event import read_event
from quietpager.model.time import system_clock
from quietpager.render import function_folders, manifests, write_bindings
from quietpager.render.folders import TYPES
from quietpager.rules.routing import Observation, load_routes, render_routes
from quietpager.rules.schema import load_rules
from quietpager.runtime.context import Lazy, functions_folder, make_context

Json = dict[str, Any]

FUNCTIONS = functions_folder()
RENDERED = manifests(FUNCTIONS)
RULE = """\
family: volume
routes:
  - {kind: Pod, reason: [FailedMount], type: Warning}
classes:
  volume_missing: {cause: workload, autonomy: alert}
"""
EVENT: Json = {
    "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "FailedMount", "count": 1,
    "metadata": {"name": "a.1", "namespace": "shop", "uid": "e1", "resourceVersion": "1"},
    "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "a", "uid": "p1"},
    "message": "MountVolume.SetUp failed", "source": {"component": "kubelet"},
    "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout's functions, where a test may write, beside its library."""
    unwanted = shutil.ignore_patterns("__pycache__", "cases")
    shutil.copytree(FUNCTIONS, tmp_path / "functions", ignore=unwanted)
    (tmp_path / "shared").symlink_to(ROOT / "shared")
    return tmp_path


def add_rule(root: Path) -> None:
    crash, volume = root / "functions/detect/crash", root / "functions/detect/volume"
    shutil.copytree(crash, volume)
    text = (crash / "func.yaml").read_text(encoding="utf-8").replace("crash", "volume")
    (volume / "func.yaml").write_text(text, encoding="utf-8")
    code = volume / "diagnose.py"
    code.write_text(
        code.read_text(encoding="utf-8").replace("oom_killed", "volume_missing"), encoding="utf-8"
    )
    (volume / "rule.yaml").write_text(RULE, encoding="utf-8")


def by_name(rendered: list[Json]) -> dict[tuple[str, str], Json]:
    return {(one["kind"], one["metadata"]["name"]): one for one in rendered}


def config(rendered: list[Json]) -> Json:
    return by_name(rendered)["ConfigMap", "quietpager-rules"]


def test_the_rendered_table_is_that_of_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(config(RENDERED)["data"]["routes.yaml"], encoding="utf-8")
    assert load_routes(path) == render_routes(load_rules(FUNCTIONS))


def test_a_new_rule_brings_one_function_and_rebuilds_none(root: Path) -> None:
    before = {one.name: sources(one, root) for one in find(root=root)}
    add_rule(root)
    after = by_name(manifests(root / "functions"))
    come = {kind for kind, name in after.keys() - by_name(RENDERED).keys()}
    assert come == {
        "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Deployment", "Service", "Trigger",
        "NetworkPolicy",
    }  # fmt: skip
    assert {one.name for one in find(root=root)} - before.keys() == {"detect-volume"}
    assert {one.name: sources(one, root) for one in find(root=root) if one.name in before} == before
    replaced = {
        name for (kind, name), one in by_name(RENDERED).items()
        if kind == "Deployment" and after[kind, name] != one
    }  # fmt: skip
    stages = {one.name: one.stage for one in function_folders(FUNCTIONS)}
    assert replaced == {name for name, stage in stages.items() if stage not in {"govern", "remediate"}}


@pytest.mark.parametrize("name", ["ingest-intake", "ingest-sweep"])
def test_it_reaches_intake_and_sweep_by_what_is_mounted(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def family() -> str | None:
        context = make_context(name, Lazy(no_store, no_cluster))
        return context.routes.family_of(Observation.of(read_event(EVENT, received=system_clock())))

    mount(manifests(root / "functions"), name, root / "mnt", monkeypatch)
    assert family() == "unknown"
    add_rule(root)
    mount(manifests(root / "functions"), name, root / "mnt", monkeypatch)
    assert family() == "volume"
    # It is the table that counts, not the rules which lie beside it.
    shutil.rmtree(root / "mnt/functions/detect/volume")
    assert family() == "volume"


def no_store() -> Any:
    raise AssertionError("no store is needed to route")


def no_cluster() -> Any:
    raise AssertionError("no cluster is needed to route")


def mount(rendered: list[Json], name: str, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out what the kubelet mounts for a function, and set the variables that its container gets."""
    pod = by_name(rendered)["Deployment", name]["spec"]["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    for item in volume["configMap"]["items"]:
        path = into / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config(rendered)["data"][item["key"]], encoding="utf-8")
    [place] = (one["mountPath"] for one in container["volumeMounts"])
    for one in container["env"]:
        if one.get("value", "").startswith(place):
            monkeypatch.setenv(one["name"], one["value"].replace(place, str(into)))


def test_a_table_that_is_not_mounted_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETPAGER_ROUTES", str(root / "routes.yaml"))
    with pytest.raises(ValueError, match=r"routes\.yaml holds no route table; `quietpager render` makes one"):
        make_context("ingest-intake", Lazy(no_store, no_cluster))
    (root / "routes.yaml").write_text("rows: 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no route table"):
        make_context("ingest-intake", Lazy(no_store, no_cluster))


# What is refused


def overlap(root: Path) -> None:
    add_rule(root)
    rule = root / "functions/detect/volume/rule.yaml"
    text = "routes:\n  - {kind: Pod, reason: [FailedMount, OOMKilled], origin: sweep}"
    rule.write_text(RULE.replace("routes:", text), encoding="utf-8")


def no_func_yaml(root: Path) -> None:
    add_rule(root)
    (root / "functions/detect/volume/func.yaml").unlink()


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "functions" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


WRONG: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "two routes of one priority": (
        overlap,
        ("functions/detect/crash/rule.yaml", "functions/detect/volume/rule.yaml", "OOMKilled",
         "Give one of them a higher `priority`"),
    ),
    "a folder without func.yaml": (
        no_func_yaml, ("functions/detect/volume has a rule.yaml but no func.yaml", "Copy the func.yaml of")
    ),
    "a Trigger on a type nobody sends": (
        edit("people/notify/func.yaml", "incident.opened", "incident.open"),
        ("functions/people/notify/func.yaml", "dev.quietpager.incident.open,", ".incident.opened"),
    ),
    "a Trigger without a type": (
        edit("people/notify/func.yaml", "{type: dev.quietpager.incident.opened}", "{severity: high}"),
        ("functions/people/notify/func.yaml", "(none)", "Name one of"),
    ),
    "a name that is not its folder's": (
        edit("people/notify/func.yaml", "name: people-notify", "name: notify"),
        ("functions/people/notify/func.yaml", "it must be people-notify"),
    ),
    "a func.yaml that lacks something": (
        edit("people/notify/func.yaml", "deploy:", "deployed:"),
        ("functions/people/notify/func.yaml lacks 'deploy'", "another function of its stage"),
    ),
    "a func.yaml that is no YAML": (
        edit("people/notify/func.yaml", "deploy:", "deploy: ["), ("functions/people/notify/func.yaml",)
    ),
    "a rule with a field there is not": (
        edit("detect/crash/rule.yaml", "family: crash", "famly: crash"), ("detect/crash/rule.yaml", "famly")
    ),
    "a remediator whose action is gone": (
        lambda root: (root / "functions/remediate/raise_memory/action.yaml").unlink(),
        ("remediate-raise-memory", "no action.yaml describes"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_rendered_is_named_with_what_to_do(
    wrong: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, words = WRONG[wrong]
    change(root)
    monkeypatch.setenv("QUIETPAGER_FUNCTIONS", str(root / "functions"))
    done = CliRunner().invoke(main, ["render", "--out", str(root / "out")])
    assert done.exit_code == 1
    assert done.output.startswith("Error: Nothing is rendered. ")
    for word in words:
        assert word in done.output
    assert not (root / "out").exists()


def test_every_type_that_a_trigger_wants_is_known() -> None:
    wanted = {one["type"] for folder in function_folders(FUNCTIONS) for one in folder.filters}
    assert wanted <= set(TYPES)


# What is written


def test_a_folder_of_manifests_has_one_file_for_each_kind_and_a_table(root: Path) -> None:
    add_rule(root)
    out = root / "out"
    env = {"QUIETPAGER_FUNCTIONS": str(root / "functions")}
    done = CliRunner().invoke(main, ["render", "--out", str(out)], env=env)
    assert done.exit_code == 0, done.output
    written = [one for path in sorted(out.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
    assert by_name(written) == by_name(manifests(root / "functions"))
    kinds = [{one["kind"] for one in yaml.safe_load_all(path.read_text())} for path in out.glob("*.yaml")]
    assert all(len(one) == 1 for one in kinds)
    table = (out / "README.md").read_text(encoding="utf-8")
    for folder in function_folders(root / "functions"):
        assert f"| {folder.place} |" in table
    assert "| 50 | Pod | FailedMount | Warning |  |  |  | volume |" in table
    for action in load_actions(root / "functions"):
        assert f"### {action}\n" in table


def test_a_text_of_several_lines_is_written_so_that_it_can_be_read() -> None:
    shown = CliRunner().invoke(main, ["render"]).output
    assert "  routes.yaml: |\n    rows:\n" in shown
    assert "\\n" not in shown


def test_stopping_works_beside_a_half_made_folder(root: Path) -> None:
    no_func_yaml(root)
    edit("people/notify/func.yaml", "incident.opened", "incident.open")(root)
    before = write_bindings(function_folders(FUNCTIONS), "quietpager")
    assert write_bindings(function_folders(root / "functions"), "quietpager") == before
