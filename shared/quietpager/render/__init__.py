"""Renders what follows from the function folders: Triggers, workloads, rights, the rules' ConfigMap.

Who calls it: the local host (the same Triggers drive the local broker), `quietpager render`, `make
deploy`, and `resume`, which binds the rendered write roles. Nothing rendered is committed.
"""

from quietpager.render.everything import DEFAULTS, Settings, manifests
from quietpager.render.folders import FunctionFolder, function_folders
from quietpager.render.rights import user_of, write_binding_name, write_bindings
from quietpager.render.triggers import DEAD_LETTER, triggers

__all__ = [
    "DEAD_LETTER",
    "DEFAULTS",
    "FunctionFolder",
    "Settings",
    "function_folders",
    "manifests",
    "triggers",
    "user_of",
    "write_binding_name",
    "write_bindings",
]
