"""modbus-tk's server: threads and blocking sockets, nothing in common with meterd."""

import threading
import time

from modbus_tk import defines, modbus_tcp  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tests.e2e.servers.registers import given

BLOCKS = {3: defines.HOLDING_REGISTERS, 4: defines.ANALOG_INPUTS}


def main() -> None:
    server = modbus_tcp.TcpServer(port=0, address="127.0.0.1")
    meter = server.add_slave(1)
    for function, address, words in given():
        name = f"{function}/{address}"
        meter.add_block(name, BLOCKS[function], address, len(words))
        meter.set_values(name, address, words)
    server.start()
    # Its thread binds the socket a moment later, and port 0 has no other way to be known.
    while not (server._sock and server._sock.getsockname()[1]):
        time.sleep(0.01)
    print(server._sock.getsockname()[1], flush=True)
    threading.Event().wait()


main()
