"""An SDM630 on a pty that is no faster than its wire: in a process of its own.

| request 8 characters | silence 3.5 | tau | reply 5 + 2n characters, in pieces |

Every pair of registers holds 230.1. The meter keeps
the account of its own time, in seconds from a request's first byte to the reply's last, and
prints it, and begins anew, at each line on stdin.
"""

import os
import select
import struct
import sys
import time
import tty

from pymodbus.framer import FramerRTU

_REQUEST = 8
_SILENCE = 3.5
# Characters that a UART hands over at once.
_PIECE = 16
_VALUE = struct.pack(">f", 230.1)


def reply_to(request: bytes) -> bytes:
    """The right reply: every value is 230.1."""
    unit, function, _, count = struct.unpack(">BBHH", request[:6])
    frame: bytes = struct.pack(">BBB", unit, function, 2 * count) + _VALUE * (count // 2)
    crc: int = FramerRTU.compute_CRC(frame)
    return frame + crc.to_bytes(2, "big")


def _until(due: float) -> None:
    pause = due - time.monotonic()
    if pause > 0:
        time.sleep(pause)


def answer(port: int, character: float, tau: float) -> float:
    """One request, at the speed of the wire; gives the seconds until its reply was out."""
    began = time.monotonic()
    request = b""
    while len(request) < _REQUEST:
        request += os.read(port, _REQUEST - len(request))
    reply = reply_to(request)
    begins = began + (_REQUEST + _SILENCE) * character + tau
    for sent in range(0, len(reply), _PIECE):
        piece = reply[sent : sent + _PIECE]
        _until(begins + (sent + len(piece)) * character)
        os.write(port, piece)
    return time.monotonic() - began


def main(baud: int, tau: float) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    print(os.ttyname(slave), flush=True)
    spent, requests = 0.0, 0
    while True:
        ready, _, _ = select.select([master, sys.stdin], [], [])
        if master in ready:
            spent += answer(master, 10 / baud, tau)
            requests += 1
        else:
            asked = sys.stdin.readline()
            if not asked:
                return
            print(spent, requests, flush=True)
            spent, requests = 0.0, 0


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
