"""CronJob: makes a Job at each of its times. It is as well as the newest Job that it has made.

Its own status says when it made one last and which are active, never how they ended
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/cron-job-v1/#CronJobStatus), so that
Warnings about it count as well. Finished Jobs stay for `failedJobsHistoryLimit` and
`successfulJobsHistoryLimit`. A change of `jobTemplate` is for the Jobs to come and heals no pod.
"""

from collections.abc import Iterable

from quietpager.model.cluster import Json, Reader
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource, Revision, owned, within
from quietpager.objects.kinds.job import KIND as JOB
from quietpager.objects.kinds.job import Job
from quietpager.objects.types import Object


class CronJobSpec(View):
    """Spec of a CronJob."""

    schedule: str = ""
    suspend: bool = False


class CronJob(Object):
    """A CronJob."""

    spec: CronJobSpec = CronJobSpec()


class CronJobKind(ObjectKind):
    """What the product knows of CronJobs."""

    resource = Resource("CronJob", "cronjobs", "batch", has_generation=True)
    view = CronJob
    owns_pods = ends = True
    tells_all = False
    read_with = ("Job", "Pod")

    def template(self, raw: Json) -> Json | None:
        """Give the template of the pods of its Jobs; it can be read, and no action changes it."""
        return within(raw, "spec", "jobTemplate", "spec", "template")

    def selector(self, raw: Json) -> dict[str, str]:
        """It has none."""
        del raw
        return {}

    def controllers(self, raw: Json, revisions: Iterable[Revision], reader: Reader) -> set[str]:
        """Its pods are its Jobs'."""
        del revisions
        return {str(one["metadata"].get("uid")) for one in owned(JOB.name, raw, None, reader)}

    def unsettled(self, one: CronJob, reader: Reader) -> str | None:
        """Its newest Job has failed."""
        raw = {"metadata": {"namespace": one.metadata.namespace, "uid": one.metadata.uid}}
        jobs = [Job.read(job) for job in owned(JOB.name, raw, None, reader)]
        dated = [job for job in jobs if job.metadata.creation_timestamp is not None]
        if not dated:
            return None
        newest = max(dated, key=lambda job: str(job.metadata.creation_timestamp))
        why = JOB.unsettled(newest, reader)
        return None if why is None else f"Job {newest.metadata.name}: {why}"

    def well(self, one: CronJob) -> str:
        """Say what is known."""
        return "it is suspended" if one.spec.suspend else "its newest Job has not failed"


KIND = CronJobKind()
