"""SSH connections that notice when nobody is on the other side any more."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Transport
    from pyinfra.api.host import Host

__all__ = ["is_open", "notice_silence"]

_ASK_SECONDS = 15
_GIVE_UP_SECONDS = 60


def notice_silence(host: Host) -> None:
    """Let the connection break within about a minute of the host's disappearing from the network.

    A host that loses its power sends nothing that would end the connection, and by default nothing
    is sent to it while a command runs, so the run would wait for it for ever.
    """
    transport = _transport(host)
    if transport is None:
        return
    transport.set_keepalive(_ASK_SECONDS)
    # Linux only; elsewhere it takes the system's own time, some ten minutes.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, option, _GIVE_UP_SECONDS * 1000)


def is_open(host: Host) -> bool:
    """Return whether the host can still be talked to; one that is not reached by SSH always can."""
    transport = _transport(host)
    return transport is None or transport.is_active()


def _transport(host: Host) -> Transport | None:
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
