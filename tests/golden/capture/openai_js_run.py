"""OpenAI's SDK for JavaScript, openai 6.49.0, under @opentelemetry/instrumentation-openai 0.21.0.

`python -m tests.golden.capture.openai_js_run FOLDER TAG NODE`; a tag that ends in `streamed` streams.

NODE is a folder that holds the npm packages: `openai`, and `@opentelemetry/` instrumentation-openai, api, sdk-logs,
api-logs, sdk-trace-base, context-async-hooks, resources and otlp-transformer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.golden.capture import model_server

if __name__ == "__main__":
    folder, tag, packages = Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3])
    shutil.copy(Path(__file__).parent / "openai_js.cjs", packages)  # node looks for packages beside the script
    command = ("node", "openai_js.cjs", tag, f"{model_server.start()}/v1", str(folder))
    subprocess.run(command, cwd=packages, check=True, timeout=120)
