"""`make serve FN=detect/crash`: one function alone, behind func-python's own host."""

import importlib
import os
from pathlib import Path

from quietpager.runtime.context import functions_folder
from quietpager.runtime.logs import configure_logs


class UnknownFunction(ValueError):  # noqa: N818 (what it is)
    """No function folder has this name; the text lists those there are."""


def serve(function: str, port: int, host: str = "127.0.0.1") -> None:
    """Serve until interrupted. Store and cluster come from the environment.

    Raises:
        UnknownFunction: there is no such function; the text lists those there are.
    """
    from func_python.http import serve as run  # noqa: PLC0415 (sets logging up on import)

    folder = functions_folder()
    if not (folder / function / "func.yaml").exists():
        names = ", ".join(str(p.parent.relative_to(folder)) for p in sorted(folder.glob("*/*/func.yaml")))
        raise UnknownFunction(f"There is no function {function}. There are: {names}.")
    configure_logs()
    os.environ["LISTEN_ADDRESS"] = f"{host}:{port}"
    module = importlib.import_module("quietpager.functions." + ".".join(Path(function).parts))
    run(module.new)
