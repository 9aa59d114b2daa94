"""Real TLS servers as processes: `openssl s_server` and nginx; and a relay that loses its nerve."""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .native import ENVIRONMENT
from .tls_ends import wait_for

PATIENCE_S = 20.0
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
# No files but in its own folder. (Without its master process it would not survive to be given a
# socket, see below.)
NGINX_CONFIG = """
daemon off; user root root; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{ssl};
        ssl_certificate {pem}; ssl_certificate_key {pem};
        {directives}
    }}
}}
"""
NGINX_VERSIONS = {
    "-tls1": "TLSv1",
    "-tls1_1": "TLSv1.1",
    "-tls1_2": "TLSv1.2",
    "-tls1_3": "TLSv1.3",
}


@contextmanager
def s_server(pem: Path, *flags: str) -> Iterator[int]:
    """The port of an `openssl s_server` that answers any HTTP request with a page."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no `openssl` to be the server: apt-get install openssl")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", str(pem)]
    command += ["-cert_chain", str(pem), *flags]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=ENVIRONMENT,
    ) as process:
        try:
            wait_for(process, b"ACCEPT 127.0.0.1:")
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def nginx(pem: Path, folder: Path, directives: str, tls: bool = True) -> Iterator[int]:
    """The port of an nginx with these directives in its one server block."""
    if NGINX is None:
        pytest.skip("there is no nginx to be the server: apt-get install nginx")
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(
            NGINX_CONFIG.format(
                folder=folder, port=port, ssl=" ssl" * tls, pem=pem, directives=directives
            )
        )
        # As at an upgrade of its program, it takes over a socket that listens already: nobody else
        # can have its port.
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")],
            env={**ENVIRONMENT, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        assert process.poll() is None, (folder / "error.log").read_text()
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def server(kind: str, pem: Path, folder: Path, *flags: str) -> Iterator[int]:
    """Either of them; of s_server's flags, one that chooses the version or lets a weak key pass."""
    if kind == "openssl":
        with s_server(pem, *flags) as port:
            yield port
        return
    directives = [f"ssl_protocols {NGINX_VERSIONS[flag]};" for flag in flags if flag[:4] == "-tls"]
    if "-cipher" in flags:
        directives.append(f"ssl_ciphers {flags[flags.index('-cipher') + 1]};")
    with nginx(pem, folder / "nginx", " ".join(directives)) as port:
        yield port


class Relay:
    """Passes one connection after the other on to `port`, and ends each when the server has said
    `most` bytes: by FIN, or by RST."""

    def __init__(self, port: int, most: int, reset: bool) -> None:
        self._to, self._most, self._reset = port, most, reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # shut down
                return
            with client, socket.create_connection(("127.0.0.1", self._to), PATIENCE_S) as server:
                with suppress(OSError):
                    self._pass_on(client, server)
                if self._reset:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        left = self._most
        while left > 0:
            readable, _, _ = select.select([client, server], [], [], PATIENCE_S)
            for end in readable:
                data = end.recv(left if end is server else 1 << 16)
                if not data:
                    return
                (client if end is server else server).sendall(data)
                left -= len(data) if end is server else 0
        if not self._reset:
            client.shutdown(socket.SHUT_WR)
        # What comes to a closed socket would make a RST of our FIN, so it hears the client's end.
        client.settimeout(0.1 if self._reset else PATIENCE_S)
        while client.recv(1 << 16):
            pass

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


@contextmanager
def relay(port: int, most: int, reset: bool = False) -> Iterator[int]:
    relay = Relay(port, most, reset)
    try:
        yield relay.port
    finally:
        relay.stop()
