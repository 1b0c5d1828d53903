"""OpenInference's flavours of frameworks whose runs are captured elsewhere without it.

`python -m tests.golden.capture.openinference_frameworks FOLDER TAG`: `oi_autogen` (autogen-agentchat, autogen-ext),
`oi_google_adk` (google-adk, litellm), each with its openinference-instrumentation package.
"""

import asyncio
import sys
from importlib import import_module

from openinference.instrumentation import using_attributes
from opentelemetry import trace

from tests.golden.capture.sink import Capture

FRAMEWORKS = {
    "oi_autogen": ("tests.golden.capture.autogen_run", "autogen_agentchat", "AutogenAgentChatInstrumentor"),
    "oi_google_adk": ("tests.golden.capture.google_adk_run", "google_adk", "GoogleADKInstrumentor"),
}

if __name__ == "__main__":
    tag = sys.argv[2]
    run, module, name = next(held for word, held in FRAMEWORKS.items() if tag.startswith(word))
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    instrumentor = getattr(import_module(f"openinference.instrumentation.{module}"), name)()
    instrumentor.instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-f", user_id="u-f"):
        asyncio.run(import_module(run).main())
    capture.write()
