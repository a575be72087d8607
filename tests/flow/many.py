"""A large cluster for `quietpager scan`: copies of one recorded case. Used by a test and the bench."""

import json
from typing import Any

from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import read_case

Json = dict[str, Any]
CASE = functions_folder() / "detect/crash/cases/30-oom-bounded"
COPIED = frozenset({"Deployment", "ReplicaSet", "Pod"})


def many_ooms(pods: int) -> list[Json]:
    """Copy an OOM of two pods until there are so many pods, all in one namespace: the worst case."""
    case = read_case(CASE, system_clock())
    uids = {one["metadata"]["uid"] for one in case.objects}
    text = json.dumps([one for one in case.objects if one["kind"] in COPIED])
    found = []
    for number in range(pods // 2):
        mine = text
        for uid in uids:
            mine = mine.replace(uid, f"{uid[:-4]}{number:04}")
        for one in json.loads(mine):
            for named in (one["metadata"], *one["metadata"].get("ownerReferences", ())):
                named["name"] = f"n{number}-{named['name']}"
            found.append(one)
    return found
