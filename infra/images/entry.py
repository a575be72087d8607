"""Serves one function inside its image, as the host that `func` writes for Python does.

Who calls it: the image's command. It is copied to `service/main.py`; this package is not in an image.
"""

import os


def main() -> None:
    """Serve the function that `QUIETPAGER_PLACE` names, e.g. `detect/crash`, until told to end."""
    from func_python.http import serve  # noqa: PLC0415 (sets logging up on import, before we do)

    from quietpager.runtime import loading  # noqa: PLC0415 (after it)
    from quietpager.runtime.logs import configure_logs  # noqa: PLC0415 (after it)

    configure_logs()

    def new() -> loading.Served:  # func-python goes by this name
        return loading.new(os.environ["QUIETPAGER_PLACE"])

    serve(new)


if __name__ == "__main__":
    main()
