"""Runs a command and ends it, with everything it started, when the program that asked for it is gone.

Run as a script, in a session of its own, with a pipe to that program as standard input. However the program ends, the
pipe closes; without this a killed trainer would leave a server behind that holds the GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that waits inside it makes the interpreter abort when the command has ended.
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> int:
    """The exit code of the command."""
    # A handler, not SIG_IGN, which the command would inherit: a polite request to the group is for the command.
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # noqa: ARG005 - the signature of a handler
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the trainer's own command, no shell
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
