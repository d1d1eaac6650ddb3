from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing about the code where two cores do everything at once.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
