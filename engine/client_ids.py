"""Client order ids: which are ours, and what they tell. All have 36 characters, the most that the
venue takes.

    hp RUN - NUMBER                an entry, named by the hot thread (csrc/order.c): 20 hexadecimal
                                   digits of its run, 13 of its number
    hx RUN - LEG ATTEMPT NUMBER    an exit, named after its entry: a letter for what it is, two
                                   digits (base 36) that count the attempts, 10 of the number

A request about an order has the order's id with another first letter, so that whoever reads the
answer, in this run or in the next, knows what was asked.
"""

from __future__ import annotations

import re
import string

OCO, TAKE_PROFIT, STOP_LOSS, MARKET = "o", "t", "s", "m"  # what an exit is
PLACE, STATUS, CANCEL, TRADES = "h", "s", "c", "t"  # what a request asks
ATTEMPTS_MAX = 36**2

_OURS = re.compile(r"hp[0-9a-f]{20}-[0-9a-f]{13}|hx[0-9a-f]{20}-[otsm][0-9a-z]{2}[0-9a-f]{10}")
_LEG_AT = 23
_DIGITS = string.digits + string.ascii_lowercase


def is_ours(client_id: str) -> bool:
    return _OURS.fullmatch(client_id) is not None


def run_of(client_id: str) -> str:
    """The run that made this entry, or the entry of this exit."""
    return client_id[2:22]


def number_of(client_id: str) -> int:
    """The entry's number in its run."""
    return int(client_id[-10:], 16)


def exit_id(entry_id: str, leg: str, attempt: int) -> str:
    """The id of the `attempt`th exit (from 0, below ATTEMPTS_MAX) of an entry."""
    count = _DIGITS[attempt // 36] + _DIGITS[attempt % 36]
    return f"hx{run_of(entry_id)}-{leg}{count}{entry_id[-10:]}"


def is_exit(client_id: str) -> bool:
    return client_id.startswith("hx")


def leg_of(exit_id: str) -> str:
    """Its letter: OCO, TAKE_PROFIT, STOP_LOSS or MARKET."""
    return exit_id[_LEG_AT]


def attempt_of(exit_id: str) -> int:
    return int(exit_id[_LEG_AT + 1 : _LEG_AT + 3], 36)


def legs_of(client_id: str) -> tuple[str, ...]:
    """The orders that an id stands for at the venue: two for an OCO list, itself for any other."""
    if is_exit(client_id) and leg_of(client_id) == OCO:
        before, after = client_id[:_LEG_AT], client_id[_LEG_AT + 1 :]
        return (f"{before}{TAKE_PROFIT}{after}", f"{before}{STOP_LOSS}{after}")
    return (client_id,)


def request_id(asks: str, client_id: str) -> str:
    return asks + client_id[1:]


def asked(request_id: str) -> tuple[str, str] | None:
    """What a request of ours asked and about which order; None for any other request."""
    client_id = PLACE + request_id[1:]
    if request_id[:1] not in (PLACE, STATUS, CANCEL, TRADES) or not is_ours(client_id):
        return None
    return request_id[0], client_id
