"""Functions: one folder, one Knative function, one ServiceAccount.

Imported as `quietpager.functions` everywhere (docs/adr/0008-one-import-name.md).
`QUIETPAGER_FUNCTIONS` names a folder that is used instead of this one, e.g. a copy with rules of one's own.
"""

import os

if _given := os.environ.get("QUIETPAGER_FUNCTIONS"):
    __path__.insert(0, _given)
