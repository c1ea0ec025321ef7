"""Which addresses a URL of a user's may lead to, and how a name becomes addresses."""

import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv6Address

from darkroom.storage.errors import InputUnreachable

Address = IPv4Address | IPv6Address
#: A name and the seconds left -> every address that it has now.
Resolver = Callable[[str, float], list[Address]]
AddressCheck = Callable[[Address], bool]

#: All that is assigned to public hosts. Outside of it lie, among others, IPv4-mapped addresses, NAT64 (64:ff9b::/96),
#: site-local addresses and multicast, several of which Python calls global.
_UNICAST = ipaddress.ip_network("2000::/3")
#: Within the public ranges, but leading elsewhere; Python 3.11 calls all of these global.
_TUNNELS_AND_RESERVED = [
    ipaddress.ip_network(network)
    for network in (
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
    )
]


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet: global unicast, and no tunnel into something else."""
    if address.version == 6 and address not in _UNICAST:
        return False
    reserved = any(address in network for network in _TUNNELS_AND_RESERVED if network.version == address.version)
    return address.is_global and not address.is_multicast and not reserved


def resolve(name: str, seconds: float) -> list[Address]:
    """The addresses of `name`, in the system's order of preference. Raises InputUnreachable."""
    answer: Future[list[Address]] = Future()
    # The system's resolver knows no time limit; a thread that it holds up is left to end by itself.
    threading.Thread(target=_look_up, args=(name, answer), daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        msg = f"{name} was not found in {seconds:.0f} s"
        raise InputUnreachable(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{name} cannot be found: {error}"
        raise InputUnreachable(msg) from error


def _look_up(name: str, answer: "Future[list[Address]]") -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        answer.set_result([ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in found])
    except (OSError, ValueError) as error:
        answer.set_exception(error)
