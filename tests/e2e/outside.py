"""What a made host has around it, run there as a program: a proxy for HTTPS that logs whom it was asked for, and a resolver.

    outside.py PROXY_PORT NAME=HOST:PORT … RESOLVER_ADDRESS NAME=IP …

Names that the proxy isn't given are refused with 502, names that the resolver isn't given with NXDOMAIN. Says `up` when
both listen.
"""

import socket
import socketserver
import struct
import sys
import threading

A, IN, NXDOMAIN = 1, 1, 3


def pairs(words):
    return dict(word.split("=", 1) for word in words)


def copy(source, target):
    while data := source.recv(1 << 16):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


class Proxy(socketserver.StreamRequestHandler):
    def handle(self):
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        print(method, target, flush=True)
        behind = self.server.behind.get(target.rpartition(":")[0])
        if method != "CONNECT" or behind is None:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        host, _, port = behind.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(upstream, self.connection))
            back.start()
            copy(self.connection, upstream)
            back.join()


class Resolver(socketserver.DatagramRequestHandler):
    def handle(self):
        query = self.packet
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        address = self.server.names.get(".".join(labels).lower())
        code = 0 if address else NXDOMAIN
        answers = b""
        if address and kind == A:
            # The name is a pointer to the question's.
            answers = struct.pack("!HHHIH", 0xC00C, A, IN, 60, 4) + socket.inet_aton(address)
        flags = 0x8180 | code
        self.wfile.write(query[:2] + struct.pack("!HHHHH", flags, 1, bool(answers), 0, 0) + question + answers)


def main():
    port, *words = sys.argv[1:]
    at = next(at for at, word in enumerate(words) if "=" not in word)
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", int(port)), Proxy)
    proxy.behind = pairs(words[:at])
    resolver = socketserver.ThreadingUDPServer((words[at], 53), Resolver)
    resolver.names = pairs(words[at + 1 :])
    threading.Thread(target=resolver.serve_forever).start()
    print("up", flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main()
