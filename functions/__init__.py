"""Functions: one folder, one Knative function, one ServiceAccount.

Imported as `quietpager.functions` everywhere (docs/adr/0008-one-import-name.md); `quietpager.runtime.loading`
makes a function from its folder, also from folders that `QUIETPAGER_FUNCTIONS` names.
"""
