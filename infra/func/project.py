"""One function as a project of Knative's `func`.

    build/detect-crash/
        func.yaml          the folder's, with where it finds store, policy, routes and broker
        pyproject.toml     named `function`; its dependencies are pinned one by one
        requirements.txt   the same pins with their hashes, and those of what builds a wheel
        function/          exports `new`
        quietpager/        the library, with this function's folder in quietpager/functions

`func` writes a project of its own round it, which installs `function @ {root:uri}/f` and serves what
the package `function` exports (knative/func v0.50, templates/python/scaffolding/instanced-http). It sees
nothing outside the folder, so the library is copied into it: the one way that its host, pack and s2i
builders all install.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import yaml
from packaging.requirements import Requirement

from infra.images.bytecode import compile_tree, uncompiled
from infra.images.dependencies import BUILD_ONLY, closure, pinned, wanted
from infra.images.function import APP, ROOT, sources
from quietpager.model.yaml import read_yaml
from quietpager.render import FunctionFolder, Settings
from quietpager.render.workloads import MOUNT, RULES, STORE, environment
from quietpager.runtime.connect import STORE as STORE_URL
from quietpager.runtime.loading import SPEC

Json = dict[str, Any]

PACKAGES: Final = ("function", "quietpager")
"""What the wheel is made of."""


def write(folder: FunctionFolder, into: Path, settings: Settings, root: Path = ROOT) -> Path:
    """Assemble one function's project; what was there before is replaced.

    Raises:
        SystemExit: a file is no valid Python, or a dependency is not pinned.
        FileExistsError: the place holds something that was not assembled here.
    """
    if into.exists():
        if any(into.iterdir()) and not (into / SPEC).exists():
            raise FileExistsError(f"{into} holds no {SPEC}, so it was not assembled: name another folder.")
        shutil.rmtree(into)
    for name, data in files(folder, settings, root).items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for package in PACKAGES:
        compile_tree(into, package)
    if missing := uncompiled(into):
        raise SystemExit(f"{folder.name} has files that are no valid Python: {', '.join(missing)}.")
    return into


def files(folder: FunctionFolder, settings: Settings, root: Path = ROOT) -> dict[str, bytes]:
    """Give all files of one function's project, but for bytecode: path → content."""
    of = sources(folder, root)
    code = {**of.library, **of.own}
    code.pop(f"{APP}/service/main.py")  # an image's own host; func writes another
    placed = {name.removeprefix(f"{APP}/"): data for name, data in code.items()}
    texts = {
        SPEC: spec(folder, read_yaml(folder.path / SPEC), settings),
        "pyproject.toml": pyproject(folder, lock(root / "requirements")),
        "requirements.txt": lock(root / "requirements", building=True),
        "function/__init__.py": entry(folder),
    }
    return placed | {name: text.encode() for name, text in texts.items()}


def spec(folder: FunctionFolder, said: Json, settings: Settings) -> str:
    """Write the func.yaml that is deployed.

    Its subscriptions are left out: `func` would make Triggers of its own from them, without retries
    and a dead letter sink, beside the rendered ones, and every message would come twice.
    """
    deploy = {name: value for name, value in said["deploy"].items() if name != "subscriptions"}
    found = environment(folder, settings.cluster, settings.sink)
    envs = [{"name": STORE_URL, "value": f"{{{{ secret:{STORE}:url }}}}"}]
    envs += [{"name": name, "value": value} for name, value in found.items()]
    run = {"envs": envs, "volumes": [{"configMap": RULES, "path": MOUNT}]}
    created = said["created"].isoformat().replace("+00:00", "Z")
    whole = said | {"created": created, "namespace": settings.namespace, "run": run, "deploy": deploy}
    return yaml.safe_dump(whole, sort_keys=False)


def entry(folder: FunctionFolder) -> str:
    """Write the package that func's host imports."""
    return (
        f'"""The function {folder.name}, as Knative\'s func wants it: `new` makes it."""\n\n'
        "from quietpager.runtime import loading\n"
        "from quietpager.runtime.logs import configure_logs\n\n\n"
        "def new() -> object:\n"
        '    """Make the function; its host sets no logs up."""\n'
        "    configure_logs()\n"
        f"    return loading.new({folder.place!r})\n"
    )


def pyproject(folder: FunctionFolder, pins: str) -> str:
    """Write the project's metadata. A dependency given here can have a version, but no hash."""
    needs = re.findall(r"(?m)^([A-Za-z0-9][^\\\n]*?) *\\?$", pins)
    return "\n".join(
        [
            f"# Assembled from functions/{folder.place}; edit that.",
            "[build-system]",
            'requires = ["hatchling"]',
            'build-backend = "hatchling.build"',
            "",
            "[project]",
            'name = "function"  # func asks for a package of this name',
            'version = "0.1.0"',
            f'description = "quietpager: {folder.name}"',
            'requires-python = ">=3.11"',
            "dependencies = [",
            *(f"  {json.dumps(one)}," for one in needs),
            "]",
            "",
            "[tool.hatch.build.targets.wheel]",
            f"packages = {json.dumps(PACKAGES)}",
            "",
        ]
    )


def lock(requirements: Path, *, building: bool = False) -> str:
    """Take what a function needs out of the lock: pins with hashes, with `building` hatchling's too."""
    roots = wanted((requirements / "run.in").read_text(encoding="utf-8"))
    roots += [Requirement(name) for name in sorted(BUILD_ONLY)] if building else []
    return pinned((requirements / "dev.txt").read_text(encoding="utf-8"), closure(roots))
