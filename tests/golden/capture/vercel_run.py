"""Vercel AI SDK: `python -m tests.golden.capture.vercel_run FOLDER TAG NODE_FOLDER`.

NODE_FOLDER holds the npm packages: `@opentelemetry/` api, context-async-hooks, sdk-trace-base, resources and
otlp-transformer; and `ai@6 @ai-sdk/openai@3 zod` for the tag `vercel6`, `ai@7 @ai-sdk/openai@4 @ai-sdk/otel zod` for
`vercel7` and `vercel7_legacy`, `ai@5 @ai-sdk/openai@2 zod` for `vercel5`, `ai@4 @ai-sdk/openai@1 zod@3` for `vercel4`.
The first question is plain, unless `_streamed` ends the tag, and the second streamed; the third request fails once and
is tried again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.golden.capture import model_server

if __name__ == "__main__":
    folder, tag, packages = Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3])
    for script in Path(__file__).parent.glob("vercel*.mjs"):
        shutil.copy(script, packages)  # node looks for packages beside the script
    url = model_server.start(failing=frozenset({3}))
    command = ("node", "vercel.mjs", tag, f"{url}/v1", str(folder / f"{tag}.traces.pb"))
    subprocess.run(command, cwd=packages, check=True, timeout=120)
