"""Serves one function inside its image, as the host that `func` writes for Python does.

Who calls it: the image's command. It is copied to `service/main.py`; this package is not in an image.
"""

import importlib
import os


def main() -> None:
    """Serve the function whose module `QUIETPAGER_MODULE` names, until the process is told to end."""
    from func_python.http import serve  # noqa: PLC0415 (sets logging up on import, before we do)

    from quietpager.runtime.logs import configure_logs  # noqa: PLC0415 (after it)

    configure_logs()
    serve(importlib.import_module(os.environ["QUIETPAGER_MODULE"]).new)


if __name__ == "__main__":
    main()
