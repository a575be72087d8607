"""Whether the test bed is up, for suites that run against it when `QUIETPAGER_E2E=1` asks for it.

Its own clean-up test lies in the folder of the same name; a module goes before a folder without
`__init__.py`, so `tests.testbed` is this file.
"""

import os
from typing import Final

from infra.testbed import layout
from infra.testbed.addons import kubectl

ASKED_FOR: Final = os.environ.get("QUIETPAGER_E2E") == "1"
"""Then a test bed that is not up is a failure, not a skip."""


def up() -> bool:
    """Tell whether the cluster was started and its API server answers."""
    return layout.KUBECONFIG.exists() and not kubectl("get", "--raw=/readyz", check=False).returncode
