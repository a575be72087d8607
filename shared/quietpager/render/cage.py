"""The cage: one ValidatingAdmissionPolicy for each action that writes, rendered from its action.yaml.

The API server itself refuses whatever an action's account sends and its action.yaml does not promise, so
a hijacked or buggy remediator can do no more than the action. Who calls it: `manifests`.

    request of the account ── kind ── platform, opt-in, ignored ── intent ── everything else equal ── bounds
                               any rule that does not hold: refused, and the message names rule and field

A policy has no parameters: a ConfigMap that is looked up and missing refused every write of the cluster
(kubernetes#130887, #133827; docs/safety-cage.md). "Everything else" is rendered from the API server's
published names of fields (`fields`). The expressions use what Kubernetes 1.30 has.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from quietpager.actions.schema import Action
from quietpager.change import mark_node, remove_pods
from quietpager.change.kinds import KINDS
from quietpager.change.marks import BOUNDED, MARK, NAME, ROLLED, UNDO_OF, WROTE
from quietpager.change.promise import CONTAINER, POD, PROBES, SERVERS_OWN
from quietpager.change.rule import Rule, text, texts
from quietpager.incident.policy import Policy
from quietpager.objects.kind import Resource
from quietpager.objects.table import changeable
from quietpager.render.cel import NEW, OLD, either, named, without
from quietpager.render.fields import NODE_SPEC, Fields
from quietpager.render.folders import FunctionFolder
from quietpager.render.promises import changed_amounts, probes, rules_of, shape

Json = dict[str, Any]

API: Final = "admissionregistration.k8s.io/v1"


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
    name, kind = policy_name(action.name), _held_kind(action)
    variables = _variables(action, fields) if kind == "patch_fields" else {}
    rules = _rules(action, policy, fields, namespace)
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
                    {"name": "account", "expression": f"request.userInfo.username == {text(account)}"}
                ],
                "variables": [{"name": key, "expression": text} for key, text in variables.items()],
                "validations": [_validation(action.name, one) for one in rules],
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
    return found | {"messageExpression": f"{text(said + ': ')} + {rule.where}"}


def _rules(action: Action, policy: Policy, fields: Fields, namespace: str) -> list[Rule]:
    """Give the rules in the order in which the first that does not hold is named."""
    [kind] = action.kinds
    if kind == "remove_pods":
        return [*_places(policy, namespace, None), *remove_pods.cage_rules()]
    if kind == "mark_node":
        held = without(fields["ObjectMeta"], SERVERS_OWN | {"annotations"})
        own = mark_node.cage_rules(NODE_SPEC, tuple(held))
        return [*_node_place(policy), *own]
    return [*_places(policy, namespace, _patched(action)), _intent(), *_equal(), *rules_of(action)]


def _held_kind(action: Action) -> str:
    """Give the one kind of change that a cage is rendered for.

    Raises:
        ValueError: the action writes something that no cage is known for; it must not be deployed without.
    """
    kinds = action.kinds
    if len(kinds) != 1:
        what = " and ".join(kinds)
        raise ValueError(f"The cage of {action.name} holds one kind of change; its rights are for {what}.")
    if why := KINDS[kinds[0]].UNCAGED:
        raise ValueError(
            f"No cage is known for action {action.name}, which makes a change of kind {kinds[0]}. {why}"
        )
    if kinds[0] == "patch_fields":
        rules_of(action)
    return kinds[0]


def _patched(action: Action) -> list[Resource]:
    """Give the resources that an action patches: those of the kinds that it is for, and no other.

    Raises:
        ValueError: it may write something else, or not what it is for.
    """
    kinds = [changeable(name) for name in action.applies_to]
    asked = {(one.group, what, verb) for one in action.write for what in one.resources for verb in one.verbs}
    if asked != {(one.resource.group, one.resource.plural, "patch") for one in kinds}:
        names = " and ".join(one.resource.plural for one in kinds)
        raise ValueError(
            f"The cage of {action.name} holds patches of {names}, for that is what it applies to; `write` in "
            "its action.yaml says otherwise."
        )
    return [one.resource for one in kinds]


# Where, and by which intent


def _node_place(policy: Policy) -> list[Rule]:
    """A node is in no namespace: its own label opts it in."""
    label, ignore = text(policy.opt_in_label), text(policy.ignore_annotation)
    return [
        _kind(_request(*mark_node.CAGED), "it may only update a Node itself"),
        Rule(
            "opt-in",
            f"oldObject.metadata.?labels[?{label}].orValue('') == 'true'",
            f"the node has no label {policy.opt_in_label}=true",
        ),
        Rule(
            "ignored",
            f"!({ignore} in oldObject.metadata.?annotations.orValue({{}}))",
            f"the node is annotated {policy.ignore_annotation}",
        ),
    ]


def _kind(matched: str, says: str) -> Rule:
    """Hold a request to one verb on some resources."""
    return Rule(
        "kind",
        matched,
        says,
        "request.operation + ' ' + request.resource.resource + "
        "(request.?subResource.orValue('') == '' ? '' : '/' + request.subResource)",
    )


def _request(verb: str, group: str, version: str, resource: str, part: str) -> str:
    """Render: the request is this verb on this resource, or subresource."""
    return (
        f"request.operation == '{verb}' && request.resource.group == '{group}' && "
        f"request.resource.version == '{version}' && request.resource.resource == '{resource}' && "
        f"request.?subResource.orValue('') == '{part}'"
    )


def _places(policy: Policy, namespace: str, patched: list[Resource] | None) -> list[Rule]:
    """Give the rules about what is written to, and where; `patched` is None for an eviction."""
    names = " or a ".join(one.kind for one in patched or ())
    if patched is None:
        kind = _kind(_request(*remove_pods.CAGED), "it may only evict a pod")
    else:
        matched = [
            f"request.resource.group == {text(one.group)} && "
            f"request.resource.version == {text(one.version)} && "
            f"request.resource.resource == {text(one.plural)}"
            for one in patched
        ]
        kind = _kind(
            f"request.operation == 'UPDATE' && {either(matched)} && request.?subResource.orValue('') == ''",
            f"it may only update a {names} itself",
        )
    prefixes = [*policy.protected_prefixes]
    if not namespace.startswith(policy.protected_prefixes):
        prefixes.append(namespace)
    label = text(policy.opt_in_label)
    ignore = text(policy.ignore_annotation)
    # An eviction says nothing of its pod but the name; the annotation is looked at when it is planned.
    ignored = Rule(
        "ignored",
        f"!({ignore} in oldObject.metadata.?annotations.orValue({{}}))",
        f"the {names} is annotated {policy.ignore_annotation}",
    )
    return [
        kind,
        Rule(
            "platform",
            f"!{texts(prefixes)}.exists(p, namespaceObject.metadata.name.startsWith(p))",
            "the namespace belongs to the platform",
            "namespaceObject.metadata.name",
        ),
        Rule(
            "opt-in",
            f"namespaceObject.metadata.?labels[?{label}].orValue('') == 'true'",
            f"the namespace has no label {policy.opt_in_label}=true",
            "namespaceObject.metadata.name",
        ),
        *([] if patched is None else [ignored]),
    ]


def _intent() -> Rule:
    return Rule(
        "intent",
        f"variables.mark.matches({text(f'^{NAME}$')}) && variables.mark != variables.oldMark && "
        f"(variables.undo || !variables.mark.endsWith({text(UNDO_OF)}))",
        f"the annotation {MARK} must name a new intent, and an undo's the intent that it undoes",
    )


# Everything else is equal


def _equal() -> list[Rule]:
    said = "it may not change"
    levels = ("metadata", "annotations", "spec", "template", "pod")
    return [
        *(Rule(one, f"variables.{one} == ''", said, f"variables.{one}") for one in levels),
        Rule(
            "containers",
            f"{NEW}.map(c, c.name) == {OLD}.map(c, c.name)",
            "it may not add, remove, rename or reorder containers",
        ),
        Rule("container", "variables.container == ''", said, "variables.container"),
    ]


def _variables(action: Action, fields: Fields) -> dict[str, str]:
    """Render, for each level, the CEL string of what differs there and may not."""
    allowed, kinds = _allowed(action), _patched(action)
    whole = {path for path in allowed if "." not in path}
    looked_into = {path.partition(".")[0] for path in allowed} - whole
    equal = [name for name in fields["Container"] if name not in whole | looked_into]
    parts = [_differing("c", "o", equal, "")]
    if "resources" in {path.partition(".")[0] for path in allowed}:
        parts += _resources(allowed, fields)
    found = {
        "mark": _note("object", MARK),
        "oldMark": _note("oldObject", MARK),
        "wrote": _note("object", WROTE),
        "oldWrote": _note("oldObject", WROTE),
        "rolled": _note("object", ROLLED),
        "oldRolled": _note("oldObject", ROLLED),
        "shape": shape(NEW),
        "isRolledBack": f"variables.oldRolled != '' && variables.oldRolled == {shape(OLD)}",
        "undo": _undo(action),
        "changed": named(changed_amounts(action, "o", "c"), " "),
        "restored": named(changed_amounts(action, "c", "o"), " "),
        "metadata": _joined(
            _differing("object", "oldObject", without(_of_all(kinds, "", fields), {"metadata", "spec"}), ""),
            _differing(
                "object.metadata",
                "oldObject.metadata",
                without(fields["ObjectMeta"], SERVERS_OWN | {"annotations"}),
                "metadata.",
            ),
        ),
        "annotations": _joined(
            *_keys(
                "object.metadata.?annotations", "oldObject.metadata.?annotations", [MARK, WROTE, ROLLED], ""
            )
        ),
        "spec": _level("spec", _of_all(kinds, "Spec", fields), {"template"}),
        "template": _level("spec.template", fields["PodTemplateSpec"], {"spec"}),
        "pod": _level(POD, fields["PodSpec"], {"containers"}),
        "container": named(" + ".join(parts)),
    }
    if whole & {*PROBES}:
        found["probes"] = named(probes([one for one in PROBES if one in whole], fields))
    return found


def _of_all(kinds: Iterable[Resource], part: str, fields: Fields) -> list[str]:
    """Give the fields that any of the kinds has; one that an object lacks is absent before and after.

    Raises:
        ValueError: the names of a kind's fields are not known, so a cage would have holes.
    """
    for one in kinds:
        if f"{one.kind}{part}" not in fields:
            raise ValueError(f"The fields of a {one.kind} are not known, so no cage can hold a write of it.")
    return list(dict.fromkeys(name for one in kinds for name in fields[f"{one.kind}{part}"]))


def _note(of: str, name: str) -> str:
    return f"{of}.metadata.?annotations[?{text(name)}].orValue('')"


def _undo(action: Action) -> str:
    """An undo names the latest intent, and only where the action has an inverse."""
    if action.inverse != "restore":
        return "false"
    latest = f"variables.oldMark != '' && !variables.oldMark.endsWith({text(UNDO_OF)})"
    return f"{latest} && variables.mark == variables.oldMark + {text(UNDO_OF)}"


def _allowed(action: Action) -> set[str]:
    """Give what may change of a container, by paths below it.

    Raises:
        ValueError: a path that lies elsewhere, or deeper than a policy looks.
    """
    found = set()
    for path in action.may_change:
        below = path.removeprefix(CONTAINER)
        parts = below.split(".")
        fits = len(parts) == 1 or (len(parts) == 3 and parts[0] == "resources" and parts[1] in BOUNDED)
        if below == path or not fits:
            raise ValueError(f"The cage of {action.name} cannot let through a change of {path}.")
        found.add(below)
    return found


def _resources(allowed: set[str], fields: Fields) -> list[str]:
    """Compare what is not allowed of a container's resources. Never allowed: claims, that is, devices."""
    equal = without(fields["ResourceRequirements"], set(BOUNDED))
    new, old = "c.?resources", "o.?resources"
    parts = [_differing(new, old, equal, "resources.")]
    if "resources" in allowed:
        return parts
    for kind in BOUNDED:
        names = sorted(one.rpartition(".")[2] for one in allowed if one.startswith(f"resources.{kind}."))
        parts += _keys(f"{new}.?{kind}", f"{old}.?{kind}", names, f"resources.{kind}.")
    return parts


def _level(path: str, names: Iterable[str], below: set[str]) -> str:
    return _joined(_differing(f"object.{path}", f"oldObject.{path}", without(names, below), f"{path}."))


def _differing(new: str, old: str, names: Iterable[str], prefix: str) -> str:
    """Render the list of the fields, by full name, that differ; absent equals absent, and nothing else."""
    each = [f"{new}.?{name} == {old}.?{name} ? '' : {text(prefix + name)}" for name in names]
    return f"[{', '.join(each)}].filter(f, f != '')"


def _keys(new: str, old: str, free: list[str], prefix: str) -> list[str]:
    """Render the lists of the keys of two maps that differ, but for those that are free to."""
    a, b = f"{new}.orValue({{}})", f"{old}.orValue({{}})"
    label = f".map(k, {text(prefix)} + k)" if prefix else ""
    return [
        f"{a}.filter(k, !(k in {texts(free)}) && !(k in {b} && {b}[k] == {a}[k])){label}",
        f"{b}.filter(k, !(k in {texts(free)}) && !(k in {a})){label}",
    ]


def _joined(*lists: str) -> str:
    return f"({' + '.join(lists)}).join(', ')"
