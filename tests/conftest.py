"""How hypothesis searches: everywhere at random, where CI is set by the same examples each time.

A change must not fail for what it did not touch; what a random search finds beside it becomes an `@example`.
"""

import os

from hypothesis import HealthCheck, settings

# A loaded machine is slow; that says nothing of the strategies.
settings.register_profile("here", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
