"""Langfuse's LangChain callback handler over a LangGraph agent: langfuse, langchain, langgraph, langchain-openai.

`python -m tests.golden.capture.langfuse_langchain FOLDER TAG`: `langfuse_langchain` (and `_streamed`) with langfuse
5.0.4, `langfuse_langchain_claude` over langchain-anthropic, `langfuse_3_langchain` with 3.15.0. The session and the
user are named in the metadata of the run's configuration. Each question is a trace of its own.
"""

import sys

from langfuse import Langfuse, get_client
from langfuse.langchain import CallbackHandler

from tests.golden.capture import langchain_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    Langfuse(public_key="pk-none", secret_key="none", tracer_provider=capture.provider, host="http://127.0.0.1:9")
    config = {
        "callbacks": [CallbackHandler()],
        "configurable": {"thread_id": "thread-9"},
        "metadata": {"langfuse_session_id": "sess-lc", "langfuse_user_id": "u-lc"},
    }
    langchain_loop.run(langchain_loop.make_agent(claude="claude" in tag), config, stream=tag.endswith("streamed"))
    get_client().flush()
    capture.write()
