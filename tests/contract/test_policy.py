"""The policy file: what is wrong in it is said with file, line, field and what is allowed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra.docs import POLICY_EXAMPLE, ROOT
from quietpager.cli.main import main
from quietpager.cli.policy import schema
from quietpager.incident.policy import PLATFORM, Dial, Policy, load_policy, read_policy
from quietpager.model.incident import Autonomy

BAD = {
    "a value that is none": (
        "autonomy: yolo\n",
        1,
        "autonomy is 'yolo'",
        "'alert', 'analyze', 'approve' or 'auto'",
    ),
    "a field nobody knows": ("tick: 5\nxyzzy: 3\n", 2, "no field xyzzy", "allowed are autonomy, dials"),
    "a field misspelt": ("cooldown: 3\n", 1, "no field cooldown", "did you mean cool_down?"),
    "a word for a number": (
        "budget:\n  window: 60\n  cluster: many\n",
        3,
        "budget.cluster is 'many'",
        "integer",
    ),
    "a number out of bounds": (
        "budget:\n\n\n  target: -1\n",
        4,
        "budget.target is -1",
        "greater than or equal to 0",
    ),
    "a nested field misspelt": ("storm: {incident: 3}\n", 1, "storm.incident", "did you mean incidents?"),
    "a list's item": ("dials:\n  - {autonomy: auto}\n  - {autonomy: all}\n", 3, "dials.1.autonomy", "'auto'"),
    "a list's item misspelt": (
        "dials:\n  - {autonomy: auto, class: x}\n",
        2,
        "dials.0.class",
        "failure_class",
    ),
    "a window that is none": (
        "freeze:\n  - cron: 0 0 * * *\n",
        2,
        "freeze.0",
        "`cron` and `duration`, or `from`",
    ),
    "a zone that is none": (
        "freeze:\n  - cron: 0 0 * * *\n    duration: 9\n    zone: Berlin\n",
        4,
        "freeze.0.zone",
        "IANA",
    ),
    "a cron line that is none": (
        "freeze:\n  - {cron: x, duration: 9}\n",
        2,
        "freeze.0.cron is 'x'",
        "five fields",
    ),
    "an action's limit": (
        "budget:\n  actions:\n    x: {acts: 1}\n",
        3,
        "budget.actions.x.window",
        "required",
    ),
    "infinity": ("tick: .inf\n", 1, "tick is inf", "finite"),
    "no number": ("tick: .nan\n", 1, "tick is nan", "finite"),
    "a time that stands still": ("tick: 0\n", 1, "tick is 0", "greater than 0"),
    "a list in place of the policy": ("- 1\n", 1, "the policy", "valid dictionary"),
    "a field twice": ("tick: 5\nact: 1\ntick: 6\n", 3, "tick is there twice", "first on line 1"),
    "a nested field twice": ("storm:\n  nodes: 0\n  nodes: 1\n", 3, "storm.nodes is there twice", "line 2"),
    "an alias to itself": ("dials: &a\n  - *a\n", 1, "&a is an anchor", "write out"),
    "no YAML": ("tick: [\n", 2, "is no YAML", ""),
    "a tag that runs code": ("tick: !!python/object/apply:os.getcwd []\n", 1, "names a type", ""),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_policy_is_refused_with_line_field_and_what_is_allowed(tmp_path: Path, what: str) -> None:
    text, line, field, allowed = BAD[what]
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"policy\.yaml") as caught:
        load_policy(str(path))
    said = str(caught.value)
    assert said.startswith(str(path))
    assert f"line {line}" in said
    assert field in said
    assert allowed in said
    done = CliRunner().invoke(main, ["policy", "check", str(path)])
    assert (done.exit_code, done.output) == (1, f"{said}\n")


def test_every_fault_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="p, line") as caught:
        read_policy("tick: x\nstorm: {nodes: 2}\nwhatever: 1\n", "p")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "p, line 1",
        "p, line 2",
        "p, line 3",
    ]


@pytest.mark.parametrize("text", ["", "---\n", "{}\n", "# nothing\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    assert read_policy(text, "p") == Policy()


def test_the_documented_example_and_the_test_beds_file_are_policies() -> None:
    shown = read_policy(POLICY_EXAMPLE, "docs")
    assert len(shown.dials) == len(shown.freeze) == 2
    assert shown.frozen(datetime(2026, 12, 31, tzinfo=UTC), "shop-a") is not None
    path = ROOT / "infra/deploy/testbed-policy.yaml"
    assert load_policy(str(path)).autonomy is Autonomy.AUTO
    done = CliRunner().invoke(main, ["policy", "check", str(path)])
    assert done.exit_code == 0
    assert "is a policy: autonomy auto, 0 dial(s), 0 freeze window(s)." in done.output


def test_the_schema_names_every_field_with_its_meaning() -> None:
    found: dict[str, Any] = json.loads(schema())
    parts = [
        found,
        *(
            found["$defs"][name]
            for name in ("Dial", "Freeze", "Budget", "Limit", "Storm", "Change", "Places")
        ),
    ]
    assert found["properties"].keys() == {f.alias or name for name, f in Policy.model_fields.items()}
    for part in parts:
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert "description" in field or "$ref" in field, name
    assert CliRunner().invoke(main, ["policy", "schema"]).output == schema()


DIALS = Policy(
    autonomy=Autonomy.ANALYZE,
    dials=(
        Dial(namespace="team-*", autonomy=Autonomy.AUTO),
        Dial(failure_class="oom_killed", autonomy=Autonomy.APPROVE),
        Dial(namespace="team-a", failure_class="oom_killed", autonomy=Autonomy.AUTO),
        Dial(namespace="team-?x", autonomy=Autonomy.ALERT),
    ),
)


@pytest.mark.parametrize(
    ("namespace", "failure_class", "expected"),
    [
        ("shop", "other", Autonomy.ANALYZE),
        ("team-", "other", Autonomy.AUTO),
        ("team-b", "oom_killed", Autonomy.APPROVE),
        ("team-a", "oom_killed", Autonomy.AUTO),
        ("team-ax", "oom_killed", Autonomy.ALERT),
        ("Team-a", "other", Autonomy.ANALYZE),
        (None, "other", Autonomy.ANALYZE),
    ],
)
def test_the_last_dial_that_matches_counts(
    namespace: str | None, failure_class: str, expected: Autonomy
) -> None:
    assert DIALS.dial(Autonomy.AUTO, namespace, failure_class) is expected
    assert DIALS.dial(Autonomy.ALERT, namespace, failure_class) is Autonomy.ALERT


@pytest.mark.parametrize("prefixes", [(), ("shop",)])
def test_no_policy_file_takes_the_platforms_namespaces_off(prefixes: tuple[str, ...]) -> None:
    policy = Policy(protected_prefixes=prefixes)
    assert all(policy.is_protected(f"{name}x") for name in PLATFORM)
    assert policy.is_protected("shop") == ("shop" in prefixes)
    assert policy.is_protected("")
