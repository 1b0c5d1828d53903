"""OpenInference in JavaScript: `python -m tests.golden.capture.openinference_js_run FOLDER TAG NODE_FOLDER`.

NODE_FOLDER holds the npm packages: `@opentelemetry/` api, context-async-hooks, sdk-trace-base, resources and
otlp-transformer; `@arizeai/` openinference-core, -instrumentation-openai, -instrumentation-langchain and -vercel;
openai, `@langchain/core @langchain/openai`, `ai@6 @ai-sdk/openai@3 zod`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.golden.capture import model_server

if __name__ == "__main__":
    folder, tag, packages = Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3])
    shutil.copy(Path(__file__).with_name("openinference_js.mjs"), packages)  # node looks for packages beside the script
    command = ("node", "openinference_js.mjs", tag, f"{model_server.start()}/v1", str(folder / f"{tag}.traces.pb"))
    subprocess.run(command, cwd=packages, check=True, timeout=120)
