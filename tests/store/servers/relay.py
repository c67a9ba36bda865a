"""A TCP relay on loopback that cuts its connections when certain words go by."""

import contextlib
import socket
import threading

_PIECE = 65_536


class Relay:
    """Passes everything on to `port`, both ways.

    `cut_at(words)`: the next time a client sends them, they still reach the server, or not
    (`lose`), and both ends find the connection gone. `mute`: it stays open instead, and nothing
    comes through any more, either way. `closed` refuses everybody.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.closed = False
        self._words = b""
        self._lose = False
        self._mute = False
        self._muted: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, words: bytes, *, lose: bool, mute: bool = False) -> None:
        with self._guard:
            self._lose, self._mute = lose, mute
            self._words = words

    def cut(self) -> None:
        """Every connection, now."""
        with self._guard:
            for one in self._open:
                _end(one)
            self._open.clear()

    def end(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.closed:
                    client.close()
                    continue
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._guard:
            self._open += (client, server)
        threading.Thread(target=self._up, args=(client, server), daemon=True).start()
        threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_PIECE):
                if client in self._muted:
                    continue
                if self._is_time(data):
                    if self._mute:
                        self._muted |= {client, server}
                        if not self._lose:
                            server.sendall(data)
                        continue
                    if not self._lose:
                        # The client hears nothing of what the server answers.
                        _end(client)
                        server.sendall(data)
                        continue
                    break
                server.sendall(data)
        _end(client)
        _end(server)

    def _is_time(self, data: bytes) -> bool:
        with self._guard:
            if not self._words or self._words not in data:
                return False
            self._words = b""
            self.cuts += 1
            return True

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_PIECE):
                if server not in self._muted:
                    client.sendall(data)
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
