"""Waiting for what has no event that a client could wait for."""

import socket
import time


def until(check, what, timeout=30):
    """Returns the first result of `check` that is true. What it raises meanwhile is shown when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            last = check()
            if last:
                return last
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}; last: {last!r}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
