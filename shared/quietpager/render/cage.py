"""The cage: one ValidatingAdmissionPolicy for each action that writes, rendered from its action.yaml.

The API server itself refuses whatever an action's account sends and its action.yaml does not promise, so
a hijacked or buggy remediator can do no more than the action. Who calls it: `manifests`.

    request of the account ── kind ── platform, opt-in, ignored ── intent ── everything else equal ── bounds
                               any rule that does not hold: refused, and the message names rule and field

A policy has no parameters: a ConfigMap that is looked up and missing refused every write of the cluster
(kubernetes#130887, #133827; docs/safety-cage.md). "Everything else" is rendered from the API server's
published names of fields (`fields`). The expressions use what Kubernetes 1.30 has.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from quietpager.actions.schema import Action, Param
from quietpager.render.fields import Fields
from quietpager.render.folders import FunctionFolder
from quietpager.safety.effect import MARK, UNDO_OF
from quietpager.safety.policy import Policy

Json = dict[str, Any]

API: Final = "admissionregistration.k8s.io/v1"
SERVERS_OWN: Final = frozenset({"generation", "managedFields", "resourceVersion"})
"""What the API server itself changes in the metadata with each update, before it asks a policy."""
WITHHELD: Final[Mapping[str, frozenset[str]]] = {"rollout-undo": frozenset({"command"})}
"""What an action.yaml plans with and the cage still refuses. With a free command, as with an exec probe,
the account could run anything as any opted-in workload."""

_POD: Final = "spec.template.spec"
_CONTAINER: Final = f"{_POD}.containers[*]."
_NEW: Final = f"object.{_POD}.containers"
_OLD: Final = f"oldObject.{_POD}.containers"
_BOUNDED: Final = ("limits", "requests")

# The repository of an image: all parts before the last, each of which may hold the colon of a registry's
# port, and the last one up to its tag or digest.
_REPOSITORY: Final = r"^(?:[^/@]+/)*[^/:@]+"

PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "Probe": frozenset({
        "failureThreshold", "grpc", "httpGet", "initialDelaySeconds", "periodSeconds", "successThreshold",
        "tcpSocket", "terminationGracePeriodSeconds", "timeoutSeconds",
    }),
    "HTTPGetAction": frozenset({"httpHeaders", "path", "port", "scheme"}),
    "TCPSocketAction": frozenset({"port"}),
    "GRPCAction": frozenset({"port", "service"}),
}  # fmt: skip
"""What a rollback may change of a probe. The rest (exec, another host, whatever Kubernetes adds) may only
stay or go."""
_HANDLERS: Final = {"httpGet": "HTTPGetAction", "tcpSocket": "TCPSocketAction", "grpc": "GRPCAction"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One validation: its name, its CEL expression, what it says, and a CEL string that says where."""

    name: str
    expression: str
    says: str
    where: str | None = None


def cage(
    folders: Iterable[FunctionFolder],
    actions: Mapping[str, Action],
    policy: Policy,
    fields: Fields,
    namespace: str,
) -> list[Json]:
    """Render policy and binding of each action that writes.

    Raises:
        ValueError: an action writes something that no cage is known for; it must not be deployed without.
    """
    rendered: list[Json] = []
    for folder in folders:
        if folder.action is None or not actions[folder.action].write:
            continue
        account = f"system:serviceaccount:{namespace}:{folder.name}"
        rendered += _policy(actions[folder.action], policy, fields, namespace, account)
    return rendered


def policy_name(action: str) -> str:
    """Name the policy of an action, and its binding."""
    return f"quietpager-{action}-cage"


def _policy(action: Action, policy: Policy, fields: Fields, namespace: str, account: str) -> list[Json]:
    name = policy_name(action.name)
    everything = {
        "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"], "scope": "*",
    }  # fmt: skip
    return [
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"matchPolicy": "Exact", "resourceRules": [everything]},
                "matchConditions": [
                    {"name": "account", "expression": f"request.userInfo.username == {_text(account)}"}
                ],
                "variables": [
                    {"name": key, "expression": text} for key, text in _variables(action, fields).items()
                ],
                "validations": [_validation(action.name, one) for one in _rules(action, policy, namespace)],
            },
        },
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


def _validation(action: str, rule: Rule) -> Json:
    said = f"{action}, rule {rule.name}: {rule.says}"
    found = {"expression": rule.expression, "message": said, "reason": "Forbidden"}
    if rule.where is None:
        return found
    return found | {"messageExpression": f"{_text(said + ': ')} + {rule.where}"}


def _rules(action: Action, policy: Policy, namespace: str) -> list[Rule]:
    """Give the rules in the order in which the first that does not hold is named."""
    if action.name not in _PROMISES or not _patches_deployments(action):
        raise ValueError(
            f"No cage is known for action {action.name}: it would write with nothing but its role to hold "
            "it. Write what it promises in shared/quietpager/render/cage.py."
        )
    return [*_places(policy, namespace), _intent(action), *_equal(), *_PROMISES[action.name](action)]


def _patches_deployments(action: Action) -> bool:
    asked = {(one.group, *one.resources, *one.verbs) for one in action.write}
    return asked == {("apps", "deployments", "patch")}


# Where, and by which intent


def _places(policy: Policy, namespace: str) -> list[Rule]:
    prefixes = [*policy.protected_prefixes]
    if not namespace.startswith(policy.protected_prefixes):
        prefixes.append(namespace)
    label = _text(policy.opt_in_label)
    ignore = _text(policy.ignore_annotation)
    return [
        Rule(
            "kind",
            "request.operation == 'UPDATE' && request.resource.group == 'apps' && "
            "request.resource.version == 'v1' && request.resource.resource == 'deployments' && "
            "request.?subResource.orValue('') == ''",
            "it may only update a Deployment itself",
            "request.operation + ' ' + request.resource.resource + "
            "(request.?subResource.orValue('') == '' ? '' : '/' + request.subResource)",
        ),
        Rule(
            "platform",
            f"!{_list(prefixes)}.exists(p, namespaceObject.metadata.name.startsWith(p))",
            "the namespace belongs to the platform",
            "namespaceObject.metadata.name",
        ),
        Rule(
            "opt-in",
            f"namespaceObject.metadata.?labels[?{label}].orValue('') == 'true'",
            f"the namespace has no label {policy.opt_in_label}=true",
            "namespaceObject.metadata.name",
        ),
        Rule(
            "ignored",
            f"!({ignore} in oldObject.metadata.?annotations.orValue({{}}))",
            f"the Deployment is annotated {policy.ignore_annotation}",
        ),
    ]


def _intent(action: Action) -> Rule:
    """Every write names a new intent; an undo names the latest, and only where the action has an inverse."""
    undo = "variables.undo" if _has_undo(action) else "false"
    return Rule(
        "intent",
        f"variables.mark != '' && variables.mark != variables.oldMark && "
        f"({undo} || !variables.mark.endsWith({_text(UNDO_OF)}))",
        f"the annotation {MARK} must name a new intent, and an undo's the intent that it undoes",
    )


def _has_undo(action: Action) -> bool:
    return action.inverse == "restore"


# Everything else is equal


def _equal() -> list[Rule]:
    said = "it may not change"
    levels = ("metadata", "annotations", "spec", "template", "pod")
    return [
        *(Rule(one, f"variables.{one} == ''", said, f"variables.{one}") for one in levels),
        Rule(
            "containers",
            f"{_NEW}.map(c, c.name) == {_OLD}.map(c, c.name)",
            "it may not add, remove, rename or reorder containers",
        ),
        Rule("container", "variables.container == ''", said, "variables.container"),
    ]


def _variables(action: Action, fields: Fields) -> dict[str, str]:
    """Render, for each level, the CEL string of what differs there and may not."""
    mark = f"metadata.?annotations[?{_text(MARK)}].orValue('')"
    allowed = _allowed(action)
    whole = {path for path in allowed if "." not in path}
    looked_into = {path.partition(".")[0] for path in allowed} - whole
    equal = [name for name in fields["Container"] if name not in whole | looked_into]
    parts = [_differing("c", "o", equal, "")]
    if "resources" in {path.partition(".")[0] for path in allowed}:
        parts += _resources(allowed, fields)
    different = " + ".join(parts)
    found = {
        "mark": f"object.{mark}",
        "oldMark": f"oldObject.{mark}",
        "metadata": _joined(
            _differing("object", "oldObject", _without(fields["Deployment"], {"metadata", "spec"}), ""),
            _differing(
                "object.metadata",
                "oldObject.metadata",
                _without(fields["ObjectMeta"], SERVERS_OWN | {"annotations"}),
                "metadata.",
            ),
        ),
        "annotations": _joined(
            *_keys("object.metadata.?annotations", "oldObject.metadata.?annotations", [MARK], "")
        ),
        "spec": _level("spec", fields["DeploymentSpec"], {"template"}),
        "template": _level("spec.template", fields["PodTemplateSpec"], {"spec"}),
        "pod": _level(_POD, fields["PodSpec"], {"containers"}),
        "container": f"{_NEW}.map(c, {_OLD}.filter(o, o.name == c.name).map(o, "
        f"({different}).map(f, c.name + '.' + f).join(', ')).join(', ')).filter(s, s != '').join(', ')",
    }
    if _has_undo(action):
        latest = f"variables.oldMark != '' && !variables.oldMark.endsWith({_text(UNDO_OF)})"
        found["undo"] = f"{latest} && variables.mark == variables.oldMark + {_text(UNDO_OF)}"
    if whole & set(PROBES):
        found["probes"] = _each_string(_probes([one for one in PROBES if one in whole], fields))
    if "env" in whole:
        found["env"] = _each_string(_env(fields))
    return found


def _allowed(action: Action) -> set[str]:
    """Give what may change of a container, by paths below it.

    Raises:
        ValueError: a path that lies elsewhere, or deeper than a policy looks.
    """
    found = set()
    for path in action.may_change:
        below = path.removeprefix(_CONTAINER)
        parts = below.split(".")
        fits = len(parts) == 1 or (len(parts) == 3 and parts[0] == "resources" and parts[1] in _BOUNDED)
        if below == path or not fits:
            raise ValueError(f"The cage of {action.name} cannot let through a change of {path}.")
        found.add(below)
    return found - WITHHELD.get(action.name, frozenset())


def _resources(allowed: set[str], fields: Fields) -> list[str]:
    """Compare what is not allowed of a container's resources. Never allowed: claims, that is, devices."""
    equal = _without(fields["ResourceRequirements"], set(_BOUNDED))
    new, old = "c.?resources", "o.?resources"
    parts = [_differing(new, old, equal, "resources.")]
    if "resources" in allowed:
        return parts
    for kind in _BOUNDED:
        names = sorted(one.rpartition(".")[2] for one in allowed if one.startswith(f"resources.{kind}."))
        parts += _keys(f"{new}.?{kind}", f"{old}.?{kind}", names, f"resources.{kind}.")
    return parts


def _level(path: str, names: Iterable[str], without: set[str]) -> str:
    return _joined(_differing(f"object.{path}", f"oldObject.{path}", _without(names, without), f"{path}."))


def _without(names: Iterable[str], without: Iterable[str]) -> list[str]:
    excluded = set(without)
    return [name for name in names if name not in excluded]


def _differing(new: str, old: str, names: Iterable[str], prefix: str) -> str:
    """Render the list of the fields, by full name, that differ; absent equals absent, and nothing else."""
    each = [f"{new}.?{name} == {old}.?{name} ? '' : {_text(prefix + name)}" for name in names]
    return f"[{', '.join(each)}].filter(f, f != '')"


def _keys(new: str, old: str, free: list[str], prefix: str) -> list[str]:
    """Render the lists of the keys of two maps that differ, but for those that are free to."""
    a, b = f"{new}.orValue({{}})", f"{old}.orValue({{}})"
    label = f".map(k, {_text(prefix)} + k)" if prefix else ""
    return [
        f"{a}.filter(k, !(k in {_list(free)}) && !(k in {b} && {b}[k] == {a}[k])){label}",
        f"{b}.filter(k, !(k in {_list(free)}) && !(k in {a})){label}",
    ]


def _joined(*lists: str) -> str:
    return f"({' + '.join(lists)}).join(', ')"


# What each action promises beyond that


def _each(kinds: Iterable[str], condition: Callable[[str, str, str], str]) -> str:
    """Render: for every container, and each allowed amount of it, the condition on new and old value.

    An amount that is equal needs no condition; one that is only there before or after fails `present`.
    """
    parts = []
    for path in kinds:
        _, kind, name = path.split(".")
        new, old = (f"{one}.?resources.?{kind}[?{_text(name)}]" for one in ("c", "o"))
        says = condition(f"quantity({new}.value())", f"quantity({old}.value())", name)
        parts.append(f"({new} == {old} || !{new}.hasValue() || !{old}.hasValue() || ({says}))")
    return _all(" && ".join(parts))


def _all(condition: str) -> str:
    return f"{_NEW}.all(c, {_OLD}.filter(o, o.name == c.name).all(o, {condition}))"


def _present(action: Action) -> Rule:
    parts = []
    for path in action.may_change:
        _, kind, name = path.removeprefix(_CONTAINER).split(".")
        new, old = (f"{one}.?resources.?{kind}[?{_text(name)}].hasValue()" for one in ("c", "o"))
        parts.append(f"{new} == {old}")
    return Rule("present", _all(" && ".join(parts)), "it may neither set nor unset a limit or a request")


def _amounts(action: Action) -> list[str]:
    return [path.removeprefix(_CONTAINER) for path in action.may_change]


def _raise_memory(action: Action) -> list[Rule]:
    """Forward: up, by the factor at most and to the ceiling at most. Undo: down, by the factor at most.

    Admission cannot see what the value was before the raise. But a raise went up by the factor at most, so
    its undo lies within [old / factor, old]; and it may only undo the latest intent, once.
    """
    amounts = _amounts(action)
    factor, ceiling = _most(action, "factor"), _most(action, "ceiling")
    return [
        _present(action),
        Rule(
            "up",
            f"variables.undo || {_each(amounts, lambda n, o, _: f'{n}.compareTo({o}) >= 0')}",
            "it may lower memory only to undo its latest intent",
        ),
        Rule(
            "factor",
            "variables.undo || "
            + _each(
                amounts,
                lambda n, o, _: f"{n}.asApproximateFloat() <= {o}.asApproximateFloat() * {_double(factor)}",
            ),
            f"it may raise memory by a factor of {factor} at most",
        ),
        Rule(
            "ceiling",
            "variables.undo || "
            + _each(amounts, lambda n, _o, _: f"{n}.compareTo({_quantity(ceiling)}) <= 0"),
            f"it may raise memory to {ceiling} bytes at most",
        ),
        Rule(
            "undo",
            "!variables.undo || "
            + _each(
                amounts,
                lambda n, o, _: (
                    f"{n}.compareTo({o}) <= 0 && "
                    f"{o}.asApproximateFloat() <= {n}.asApproximateFloat() * {_double(factor)}"
                ),
            ),
            f"an undo may lower memory by a factor of {factor} at most",
        ),
    ]


def _set_requests(action: Action) -> list[Rule]:
    """Forward: down, to the least at most. Undo: up again, to the most at most.

    How much more was asked for before no bound tells: it was more than the largest node has.
    """
    amounts = _amounts(action)
    names = sorted({path.rpartition(".")[2] for path in amounts})
    bounds = {name: _bound(action, name) for name in names}
    least = {name: _decimal(action, name, bound.min) for name, bound in bounds.items()}
    most = {name: _decimal(action, name, bound.max) for name, bound in bounds.items()}
    return [
        _present(action),
        Rule(
            "down",
            f"variables.undo || {_each(amounts, lambda n, o, _: f'{n}.compareTo({o}) <= 0')}",
            "it may raise a request only to undo its latest intent",
        ),
        Rule(
            "least",
            "variables.undo || "
            + _each(amounts, lambda n, _o, name: f"{n}.compareTo({_quantity(least[name])}) >= 0"),
            f"a request must stay at {_said(least)} at least",
        ),
        Rule(
            "undo",
            "!variables.undo || "
            + _each(
                amounts,
                lambda n, o, name: f"{n}.compareTo({o}) >= 0 && {n}.compareTo({_quantity(most[name])}) <= 0",
            ),
            f"an undo may only raise a request, to {_said(most)} at most",
        ),
    ]


def _rollout_undo(_action: Action) -> list[Rule]:
    """Admission cannot see the older revision; so it holds what a rollback has no need to change.

    An older image comes from the same repository, whatever its tag or digest; a variable that is read from
    somewhere (a Secret, a ConfigMap) stays what it is; a probe gains no command and no other host.
    """
    repository = f".image.find({_text(_REPOSITORY)})"
    return [
        Rule(
            "image",
            _all(f"c{repository} == o{repository}"),
            "an image may change its tag or digest, not its repository",
        ),
        Rule("env", "variables.env == ''", "it may only change literal values of variables", "variables.env"),
        Rule("probe", "variables.probes == ''", "a probe may not gain this", "variables.probes"),
    ]


_PROMISES: Final[Mapping[str, Callable[[Action], list[Rule]]]] = {
    "raise-memory": _raise_memory,
    "rollout-undo": _rollout_undo,
    "set-requests": _set_requests,
}
"""An action that is not among these is not rendered."""


def _each_string(lists: str) -> str:
    """Render: for every container, the names in these lists, with the container's name before each."""
    return (
        f"{_NEW}.map(c, {_OLD}.filter(o, o.name == c.name).map(o, "
        f"({lists}).map(f, c.name + '.' + f).join(', ')).join(', ')).filter(s, s != '').join(', ')"
    )


def _env(fields: Fields) -> str:
    """Compare the variables that are more than a name and a literal value, in their order."""
    more = " || ".join(f"has(e.{name})" for name in fields["EnvVar"] if name not in {"name", "value"})
    new, old = (f"{one}.?env.orValue([]).filter(e, {more})" for one in ("c", "o"))
    return f"({new} == {old} ? [] : ['env'])"


def _probes(names: Iterable[str], fields: Fields) -> str:
    parts = []
    for name in names:
        parts.append(_gained(f".?{name}", "Probe", name, fields))
        parts += [
            _gained(f".?{name}.?{handler}", kind, f"{name}.{handler}", fields)
            for handler, kind in _HANDLERS.items()
        ]
    return " + ".join(part for part in parts if part)


def _gained(path: str, kind: str, label: str, fields: Fields) -> str:
    held = _without(fields[kind], _HARMLESS[kind])
    each = [
        f"!c{path}.?{name}.hasValue() || c{path}.?{name} == o{path}.?{name} ? '' : {_text(f'{label}.{name}')}"
        for name in held
    ]
    return f"[{', '.join(each)}].filter(f, f != '')" if each else ""


# Numbers and texts


def _bound(action: Action, name: str) -> Param:
    if name not in action.params:
        raise ValueError(f"{action.name} states no bounds of {name}; the cage needs them in `params`.")
    return action.params[name]


def _most(action: Action, name: str) -> Decimal:
    return _decimal(action, name, _bound(action, name).max)


def _decimal(action: Action, name: str, value: float | None) -> Decimal:
    if value is None:
        raise ValueError(f"{action.name} leaves {name} without a bound; the cage needs one in `params`.")
    number = Decimal(str(value))
    return number.to_integral_value() if number == number.to_integral_value() else number


def _said(bounds: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} {value:f}" for name, value in bounds.items())


def _quantity(value: Decimal) -> str:
    return f"quantity('{value:f}')"


def _double(value: Decimal) -> str:
    return f"double('{value:f}')"


def _text(text: str) -> str:
    """Write a CEL string; JSON's escapes are among CEL's."""
    return json.dumps(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"
