"""`make serve FN=detect/crash`: one function alone, behind func-python's own host."""

import os

from quietpager.model.folders import find, place_of
from quietpager.runtime import loading
from quietpager.runtime.context import function_roots
from quietpager.runtime.logs import configure_logs


class UnknownFunction(ValueError):  # noqa: N818 (what it is)
    """No function folder has this name; the text lists those there are."""


def serve(function: str, port: int, host: str = "127.0.0.1") -> None:
    """Serve until interrupted. Store and cluster come from the environment.

    Raises:
        UnknownFunction: there is no such function; the text lists those there are.
    """
    from func_python.http import serve as run  # noqa: PLC0415 (sets logging up on import)

    known = [place_of(path) for path in find(function_roots(), loading.SPEC)]
    if function not in known:
        raise UnknownFunction(f"There is no function {function}. There are: {', '.join(known)}.")
    configure_logs()
    os.environ["LISTEN_ADDRESS"] = f"{host}:{port}"

    def new() -> loading.Served:  # func-python goes by this name
        return loading.new(function)

    run(new)
