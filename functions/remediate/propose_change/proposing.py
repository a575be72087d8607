"""From a plan that was not written to the cluster to something that a person can take over.

    same rehearsal ─▶ same branch ─▶ is it there? ─ yes ─▶ show it
                                          └ no ─▶ clone, edit, commit, push ─▶ show it
                                                       └ pushed meanwhile: once more from the start

Who calls it: `handler`. Whatever stands against the way through Git, the plan itself is never lost:
`patch_text` writes it down.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from quietpager.errors import Refused
from quietpager.functions.remediate.propose_change.git import TOKEN, Git, PushRace
from quietpager.functions.remediate.propose_change.manifests import Field, edit_tree, fields_of
from quietpager.functions.remediate.propose_change.pull_request import forge_of
from quietpager.incident.policy import Repository
from quietpager.masking.told import told
from quietpager.model.incident import Incident, Proposal, Rehearsal
from quietpager.model.text import clean

TRIES: Final = 2
"""A push that lost a race is tried once more, on what is there then."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be proposed: whose plan, for which incident, as which fields, and since when."""

    plan: Rehearsal
    incident: Incident
    fields: tuple[Field, ...]
    at: datetime

    @property
    def branch(self) -> str:
        """The branch, named after the incident and the plan: the same for each delivery."""
        return f"quietpager/{self.plan.id}"

    @property
    def title(self) -> str:
        """One line; only names that Kubernetes and the rules allow."""
        return told(f"{self.incident.failure_class}: {self.plan.remedy.action} for {self.plan.owner}")

    @property
    def body(self) -> str:
        """The story, with text from the cluster where no forge reads it as markup."""
        changes = "\n".join(f"    {one}: {_shown(one.had)} -> {_shown(one.gets)}" for one in self.fields)
        return told(
            f"quietpager found {self.incident.failure_class} on {self.plan.owner} and does not write there.\n"
            f"Incident {self.incident.id}; what would be changed:\n\n{changes}\n"
        )


def wanted_of(plan: Rehearsal, incident: Incident, live: Mapping[str, Any]) -> Wanted:
    """Take a plan apart against the live object."""
    return Wanted(plan, incident, fields_of(plan.edits, live), plan.asked_at)


def _shown(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(clean(text, 200).split())


def push(wanted: Wanted, repository: Repository, env: Mapping[str, str] = os.environ) -> Proposal:
    """Push the change as a branch, and show it to people; as often as one likes.

    Raises:
        Refused: a sentence that says why there is no branch, or nobody to show it to.
    """
    for _ in range(TRIES):
        try:
            base, diff = _branch(wanted, repository, env)
            break
        except PushRace:
            continue
    else:
        raise Refused(f"Branch {wanted.branch} was pushed by somebody else at the same time, twice.")
    forge = forge_of(repository, env.get(TOKEN, "").strip())
    try:
        shown = forge.show(wanted.branch, base, wanted.title, wanted.body)
    except Refused as no:
        text = f"{diff or wanted.body}\n# {no}"
        return Proposal(kind="branch", where=wanted.branch, text=text)
    return shown.but(text=diff or wanted.body)


def _branch(wanted: Wanted, repository: Repository, env: Mapping[str, str]) -> tuple[str, str]:
    """See to it that the branch is there; gives the branch it starts from, and the diff if it is new."""
    try:
        folder = TemporaryDirectory(prefix="propose-", ignore_cleanup_errors=True)
    except OSError as no:
        raise Refused(f"There is no folder to work in ({no.strerror}).") from None
    with folder as home:
        git = Git(repository.url, Path(home), env)
        default, there = git.heads(wanted.branch)
        base = repository.branch or default
        if there:
            return base, ""
        git.clone(repository.branch)
        edited = edit_tree(
            git.tree, repository.path, wanted.plan.owner, wanted.fields,
            alone=repository.namespaces == (wanted.plan.owner.namespace,),
        )  # fmt: skip
        diff = git.commit(
            edited.file, edited.text, wanted.branch, f"{wanted.title}\n\n{wanted.body}", wanted.at
        )
        git.push(wanted.branch)
        return base, diff


def patch_text(wanted: Wanted) -> str:
    """Write the plan as a JSON Patch, for `kubectl patch --type=json` or Kustomize's `patches`."""
    operations: list[dict[str, Any]] = []
    for edit in wanted.plan.edits:
        if edit.had is not None:
            operations.append({"op": "test", "path": edit.path, "value": edit.had})
        if edit.gets is None:
            operations.append({"op": "remove", "path": edit.path})
        else:
            operations.append(
                {"op": "add" if edit.had is None else "replace", "path": edit.path, "value": edit.gets}
            )
    head = [f"# {wanted.title}", *(f"# {clean(str(one), 300)}" for one in wanted.fields)]
    return "\n".join([*head, json.dumps(operations, indent=2, default=str)]) + "\n"


def reading(plan: Rehearsal) -> str:
    """Write down a plan of which some values are kept nowhere: what differs, and how a person looks at it."""
    where, name = plan.owner.namespace, plan.owner.name
    lines = [f"# {plan.summary}", f"# {plan.refusal}" if plan.refusal else ""]
    lines += ["# What would change; of values that may be secret, only the digests:"]
    for edit in plan.edits:
        path = ".".join(edit.path.split("/")[1:]).replace("~1", "/").replace("~0", "~")
        lines.append(f"#   {clean(path, 300)}: {_shown(edit.had)} -> {_shown(edit.gets)}")
    lines += [
        "# Read both revisions, and decide:",
        f"kubectl -n {where} rollout history {plan.owner.kind.lower()}/{name}",
        f"kubectl -n {where} rollout undo {plan.owner.kind.lower()}/{name} --to-revision=N",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def advice(incident: Incident) -> str:
    """Write down what is known where no action is safe."""
    lines = [f"{incident.failure_class} on {incident.owner}: no action of the catalogue is safe here."]
    lines += [f"- {clean(one.text, 500)} [{one.source}]" for one in incident.evidence]
    lines.append(f"What a person does: the runbook of detect/{incident.family}.")
    return "\n".join(lines) + "\n"
