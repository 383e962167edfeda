"""Clients that ask steadily and never retry: each request that isn't answered is a failure that the test sees."""

import http.client
import threading
import time


class Client(threading.Thread):
    """Asks in a loop until it is stopped, over one kept connection or over a new one for each request.

    A server that closes a kept connection says so in its answer; the next request goes over a new one, as any HTTP
    client does it, and that is no retry.
    """

    def __init__(self, address, port, kept, pause=0.005):
        super().__init__(daemon=True)
        self.address, self.port, self.kept, self.pause = address, port, kept, pause
        self.answers, self.failures, self.connection = {}, [], None
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(self.pause):
            begun = time.monotonic()
            try:
                self.ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"after {time.monotonic() - begun:.3f} s: {error!r}")
                self.close()

    def ask(self):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.address, self.port, timeout=5)
            # http.client would connect again by itself where a kept connection was closed.
            self.connection.auto_open = False
            self.connection.connect()
        self.connection.request("GET", "/", headers={} if self.kept else {"Connection": "close"})
        answer = self.connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise OSError(f"{answer.status} {body}")
        version = body.split()[0]
        self.answers[version] = self.answers.get(version, 0) + 1
        if not self.kept or answer.will_close:
            self.close()

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def stop(self):
        """Returns how often each version answered."""
        self.stopping.set()
        self.join()
        self.close()
        return self.answers
