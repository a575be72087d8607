"""Job: pods that end. One that has a controller, a CronJob as a rule, stands for that.

Conditions `Complete` and `Failed` are its end, one way or the other; `SuccessCriteriaMet` and `FailureTarget`
come a moment earlier (https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions).
A failed pod before that is an attempt, counted against `backoffLimit`, and no fault of the Job. Its template
cannot be changed: API validation of batch/v1, so no action may have it in `applies_to`.
"""

from quietpager.model.cluster import Json, Reader
from quietpager.model.view import View
from quietpager.objects.kind import Counts, ObjectKind, Resource, within
from quietpager.objects.types import Object, PodTemplate, Status


class JobSpec(View):
    """Spec of a Job. `completions` is None where any pod's success is enough."""

    parallelism: int = 1
    completions: int | None = None
    suspend: bool = False
    template: PodTemplate = PodTemplate()


class JobStatus(Status):
    """Status of a Job."""

    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0


class Job(Object):
    """A Job."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class JobKind(ObjectKind):
    """What the product knows of Jobs."""

    resource = Resource("Job", "jobs", "batch", has_generation=True)
    view = Job
    owns_pods = passes_on = ends = True
    read_with = ("Pod",)
    well_when = {"Failed": "False", "FailureTarget": "False"}
    dated_by = ("Failed", "FailureTarget")

    def template(self, raw: Json) -> Json | None:
        """It can be read, and never changed."""
        return within(raw, "spec", "template")

    def counts(self, one: Job) -> Counts:
        """Count the pods that run: as many as it has said it wants at once, and not more than are missing."""
        spec, status = one.spec, one.status
        left = spec.parallelism if spec.completions is None else spec.completions - status.succeeded
        done = spec.suspend or any(c.type == "Complete" and c.status == "True" for c in status.conditions)
        wanted = 0 if done else max(min(left, spec.parallelism), 0)
        return Counts(wanted, status.active, status.ready, status.ready, status.active)

    def unsettled(self, one: Job, reader: Reader) -> str | None:
        """It has failed for good."""
        del reader
        for bad in self.bad_news(one):
            return f"it has failed: {bad.reason or bad.type} {bad.message}".rstrip()
        return None

    def well(self, one: Job) -> str:
        """Say how far it is."""
        if any(c.type == "Complete" and c.status == "True" for c in one.status.conditions):
            return "it is complete"
        return "it is suspended" if one.spec.suspend else "it is under way"


KIND = JobKind()
