"""Scripts that captured the payloads: real instrumentations, run offline against a scripted model server.

Each runs in an environment of its own with the packages its docstring names, from the repository's root:
`python -m tests.golden.capture.<name> FOLDER`. It writes `<tag>.traces.pb` there. They are kept so that a payload can
be captured anew when an instrumentation changes; no test runs them.
"""
