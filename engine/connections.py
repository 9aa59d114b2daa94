"""Which of the two sessions with the venue is opened, prepared, preferred and left, and when.

Each is a Link, a state machine:

    IDLE ──▶ CONNECTING ──▶ PREPARING ──▶ READY ──▶ LEAVING ──▶ IDLE

The engine arms its orders on both as soon as they are ready; one that is to be replaced is left
only when the other is ready. Links reads no clock and does no I/O: it is told the time and what the
hot thread reports, and acts through a Port. docs/connections.md says the same in words."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.clock import Instant, StepWatch
from engine.core import venue_error
from engine.errors import VenueError
from engine.link import NS, Link, Parting, Search, State, Timing
from engine.venues.binance import Reply, dicts
from engine.venues.binance_filters import Filters, parse_exchange_info
from engine.venues.binance_limits import (
    BANNED,
    SLOW_DOWN,
    Pause,
    RateLimits,
    VenueLimit,
    upgrade_refusal,
)
from engine.venues.binance_session import SessionRequests

SESSIONS = 2  # HP_SESSIONS
UNAUTHORIZED = 401  # with no id: "Regarding API key revocation"
CLOSE_AGAIN_S = 5.0  # the hot thread may be held up


class Port(Protocol):
    """What Links does to the world. Sessions are 0 and 1; see engine.core.Engine.command_...()."""

    def connect(self, session: int, address: str) -> None:
        """Open it, held, to this numeric address; VenueError when that cannot even begin."""

    def text(self, session: int, message: bytes) -> None: ...

    def hold(self, session: int, held: bool) -> None: ...

    def prefer(self, session: int) -> None: ...

    def close(self, session: int) -> None: ...

    def clock(self, offset_ms: int | None) -> None:
        """The venue's clock minus ours; None: unknown from now on."""

    def venue_limit(self, limit: VenueLimit) -> None: ...

    def pause(self, until_ns: int) -> None:
        """No order until then (CLOCK_MONOTONIC)."""

    def banned(self, words: str) -> None:
        """The venue has banned this address (418): that latches."""

    def filters(self, filters: Mapping[str, Filters]) -> None:
        """The venue's rules, by symbol, told anew."""

    def notice(self, words: str) -> None: ...


class Links:
    """The two sessions of one run.

    `search` begins to look for the venue's addresses. `live`: a session without the user data
    stream is of no use; in a dry run it is. Give every turn of the control loop to tick(), and
    everything that the hot thread reports to the on_...() methods."""

    def __init__(
        self,
        port: Port,
        search: Callable[[], Search],
        requests: SessionRequests,
        limits: RateLimits,
        *,
        venue: str,
        live: bool,
        timing: Timing | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.limits = limits
        self._port = port
        self._search = search
        self._requests = requests
        self._venue = venue
        self._live = live
        self._timing = timing or Timing()
        self._rng = rng or random.Random()
        self._links = [Link(number) for number in range(SESSIONS)]
        self._preferred: int | None = None
        self._started = False  # a session was ready once
        self._failure: VenueError | None = None
        self._now = Instant(0, 0)
        self._steps = StepWatch()
        self._told_offset_ms: int | None = None
        self._ahead_ns: int | None = None  # the venue's clock minus CLOCK_MONOTONIC
        self._connects: deque[int] = deque()  # when
        self._asked_ever = 0
        self._filters_ns: int | None = None  # when they were told
        self._counts_ns: int | None = None

    # ---- what is known ---------------------------------------------------------------------------

    @property
    def ready(self) -> tuple[int, ...]:
        """The sessions that take orders."""
        return tuple(link.number for link in self._links if link.state is State.READY)

    @property
    def preferred(self) -> int | None:
        """The session for whatever is asked; None when none is ready."""
        return self._preferred

    @property
    def start_failure(self) -> VenueError | None:
        """Why no session could be opened, when none ever was and every address has been tried."""
        return None if self._started else self._failure

    def state(self, session: int) -> State:
        return self._links[session].state

    def offset_ms(self) -> int | None:
        """The venue's clock minus CLOCK_REALTIME, as the engine was told; None: unknown."""
        return self._told_offset_ms

    def venue_ms(self) -> int:
        """Venue time at the last tick: what it was when it was known last, carried on by
        CLOCK_MONOTONIC, which nobody sets. Until a session is ready it may be our own guess."""
        return (self._now.mono_ns + (self._ahead_ns or 0)) // 1_000_000

    def read_filters_again(self) -> None:
        """An order was refused by rules that `Port.filters` did not tell."""
        if self._preferred is not None:
            link = self._links[self._preferred]
            if "exchangeInfo" not in link.steps:
                link.steps.append("exchangeInfo")

    # ---- time goes on ----------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Whatever is due. Call it every few milliseconds, each time with a fresh reading."""
        self._now = now
        if self._ahead_ns is None:
            self._ahead_ns = now.apart_ns  # until it is measured
        self._watch_our_clock()
        for link in self._links:
            match link.state:
                case State.IDLE:
                    self._begin(link)
                case State.CONNECTING:
                    self._go_on_connecting(link)
                case State.PREPARING:
                    self._go_on_preparing(link)
                case State.READY:
                    self._keep(link)
                case State.LEAVING:
                    self._go_on_leaving(link)
        self._tell_clock()
        for limit in self.limits.order_news(self.venue_ms()):
            self._port.venue_limit(limit)

    def _other(self, link: Link) -> Link:
        return self._links[1 - link.number]

    def _in_s(self, seconds: float) -> int:
        return self._now.mono_ns + int(seconds * NS)

    # ---- opening ---------------------------------------------------------------------------------

    def _begin(self, link: Link) -> None:
        """The second session is opened when the first has shown that it can be."""
        if not self._started and (link.number != 0 or self._failure is not None):
            return
        if self._now.mono_ns >= link.retry_ns and not self.limits.paused(self.venue_ms()):
            link.search = self._search()
            link.enter(State.CONNECTING, self._now.mono_ns)

    def _go_on_connecting(self, link: Link) -> None:
        if link.search is None:
            if link.for_s(self._now.mono_ns) > self._timing.answer + 1:
                # The hot thread is held up: nothing may come of this later.
                self._give_up(link, f"{self._venue} was not reached in time: check the network")
            return
        try:
            found = link.search.take()
        except VenueError as error:
            link.search = None
            self._retry_later(link, error)
            return
        if found is None:
            return
        link.search = None
        link.candidates = found
        self._connect_next(link)

    def _connect_next(self, link: Link) -> None:
        if not self._may_connect():
            link.enter(State.IDLE, self._now.mono_ns)
            link.retry_ns = self._in_s(self._timing.retry_most)
            return
        self._connects.append(self._now.mono_ns)
        self.limits.count("connect", self.venue_ms())
        link.start_anew()
        link.connected_ns = self._now.mono_ns
        link.enter(State.CONNECTING, self._now.mono_ns)
        try:
            self._port.connect(link.number, link.candidates.pop(0))
        except VenueError as error:  # a CA file that is gone, for one
            self._retry_later(link, error)

    def _may_connect(self) -> bool:
        """Heading "Connection limits", over both sessions."""
        window_begin = self._in_s(-self._timing.connects_window)
        while self._connects and self._connects[0] < window_begin:
            self._connects.popleft()
        room = len(self._connects) < self._timing.connects_most
        return room and not self.limits.paused(self.venue_ms())

    def _retry_later(self, link: Link, error: VenueError) -> None:
        """Exponential backoff with jitter, so that many engines do not come back as one."""
        if not self._started:
            self._failure = self._failure or error
        elif str(error) != link.complaint:
            self._port.notice(str(error))
        link.complaint = str(error)
        link.enter(State.IDLE, self._now.mono_ns)
        link.retry_s = min(max(2 * link.retry_s, self._timing.retry_first), self._timing.retry_most)
        link.retry_ns = self._in_s(link.retry_s * (0.5 + self._rng.random() / 2))

    # ---- preparing -------------------------------------------------------------------------------

    def on_opened(self, session: int) -> None:
        """The hot thread has opened it; orders are held."""
        link = self._links[session]
        if link.state is not State.CONNECTING:
            return  # it has been told to close
        link.enter(State.PREPARING, self._now.mono_ns)
        if self._requests.logs_on:
            link.steps.append("session.logon")
        link.steps.append(self._requests.subscribe_method)
        if self._filters_ns is None:
            link.steps.append("exchangeInfo")
        link.steps.append("account.rateLimits.orders")

    def _go_on_preparing(self, link: Link) -> None:
        self._ask_time(link)
        self._ask_next(link)
        late = self._unanswered(link, self._timing.answer)
        if late is None and link.clock.silent_ns(self._now.mono_ns) > self._timing.answer * NS:
            late = "time"
        if late is not None:
            self._give_up(
                link,
                f"{self._venue} is open but does not answer `{late}`: check that it is the "
                "exchange's WebSocket API",
            )

    def _ask_time(self, link: Link) -> None:
        """Its clock is its pulse, too."""
        now_ns, venue_ms = self._now.mono_ns, self.venue_ms()
        if link.clock.due(now_ns) and self.limits.may_ask("time", venue_ms, urgent=True):
            self.limits.count("time", venue_ms)
            self._port.text(link.number, link.clock.ask(self._new_id(), now_ns))

    def _ask_next(self, link: Link) -> None:
        """The next step, when the one before is answered and the time is known."""
        offset_ms = link.clock.offset_ms(self._now)
        if link.asked or offset_ms is None:
            return
        if link.steps:
            self._ask(link, link.steps[0], offset_ms)
        elif link.state is State.PREPARING:
            self._make_ready(link)

    def _ask(self, link: Link, method: str, offset_ms: int) -> None:
        # Without a session nothing can be cancelled, and without its stream nobody knows what to.
        urgent = link.state is State.PREPARING or method == self._requests.subscribe_method
        if not self.limits.may_ask(method, self.venue_ms(), urgent=urgent):
            return
        request_id = self._new_id()
        timestamp_ms = self._now.epoch_ns // 1_000_000 + offset_ms
        match method:
            case "session.logon":
                request = self._requests.logon(request_id, timestamp_ms)
            case "exchangeInfo":
                request = self._requests.exchange_info(request_id)
            case "account.rateLimits.orders":
                request = self._requests.order_counts(request_id, timestamp_ms)
            case _:
                request = self._requests.subscribe(request_id, timestamp_ms)
        self.limits.count(method, self.venue_ms())
        link.asked[request_id] = method, self._now.mono_ns
        self._port.text(link.number, request)

    def _new_id(self) -> str:
        """Heading "Request format": 1 to 36 letters, digits, - and _."""
        self._asked_ever += 1
        return f"link-{self._asked_ever}"

    def _unanswered(self, link: Link, for_s: float) -> str | None:
        for method, sent_ns in link.asked.values():
            if self._now.mono_ns - sent_ns > for_s * NS:
                return method
        return None

    def _make_ready(self, link: Link) -> None:
        now_ns = self._now.mono_ns
        link.enter(State.READY, now_ns)
        link.candidates.clear()
        link.complaint = ""
        link.renew_ns = self._renewal_ns(link)
        self._port.hold(link.number, False)
        other = self._other(link)
        if not self._started:
            self._started = True
            other.retry_ns = self._in_s(self._timing.second)
        elif self._preferred is None:
            self._port.notice(f"connected to {self._venue} again")
        if self._preferred is None:
            self._prefer(link)

    def _renewal_ns(self, link: Link) -> int:
        """Before the venue's cut, and hours away from the other's."""
        timing, other = self._timing, self._other(link)
        renew_ns = self._in_s(timing.renew - self._rng.random() * timing.renew_jitter)
        apart_ns = int(timing.apart * NS)
        if other.state is State.READY and abs(renew_ns - other.renew_ns) < apart_ns:
            renew_ns = other.renew_ns - apart_ns
        return renew_ns

    def _prefer(self, link: Link) -> None:
        self._preferred = link.number
        self._port.prefer(link.number)

    # ---- ready -----------------------------------------------------------------------------------

    def _keep(self, link: Link) -> None:
        """Ask its time, refresh what grows old, and see whether it should be left."""
        now_ns = self._now.mono_ns
        if link.for_s(now_ns) > self._timing.settled:
            link.retry_s = 0.0
        self._ask_time(link)
        if link.number == self._preferred:
            self._refresh(link)
        self._ask_next(link)
        if self._unanswered(link, self._timing.answer) is not None:
            link.asked.clear()  # it is asked again; the pulse tells whether anybody is there
        if (parting := self._fate(link)) is not None:
            self._part(link, parting)
        if link.clock.silent_ns(now_ns) > self._timing.dead * NS:
            self._give_up(link, f"{self._venue} has stopped answering")
        elif link.parting is not None:
            self._leave(link, link.parting)

    def _fate(self, link: Link) -> Parting | None:
        """What its pulse and its age say."""
        now_ns, name = self._now.mono_ns, f"session {link.number} with {self._venue}"
        if link.clock.silent_ns(now_ns) > self._timing.silent * NS:
            return Parting(
                f"{name} has stopped answering", self._timing.drain_dying, is_silence=True
            )
        if now_ns >= link.renew_ns:
            return Parting(f"{name} is a day old soon", self._timing.drain)
        return None

    def _refresh(self, link: Link) -> None:
        """Filters and counts of the account, once for both sessions."""
        for method, asked_ns, every_s in (
            ("exchangeInfo", self._filters_ns, self._timing.filters),
            ("account.rateLimits.orders", self._counts_ns, self._timing.counts),
        ):
            due = asked_ns is not None and self._now.mono_ns - asked_ns > every_s * NS
            if due and method not in link.steps:
                link.steps.append(method)

    # ---- leaving ---------------------------------------------------------------------------------

    def _part(self, link: Link, parting: Parting) -> None:
        """It shall be left as soon as the other is ready, which is hastened, once."""
        known = link.parting
        if known is None or known.is_silence:
            link.parting = parting
        if known is not None:
            return
        self._port.notice(f"{parting.words}: it is left when another is ready")
        other = self._other(link)
        if other.state is State.IDLE:
            other.retry_ns = min(other.retry_ns, self._now.mono_ns)

    def _leave(self, link: Link, parting: Parting) -> None:
        other = self._other(link)
        is_preferred = self._preferred == link.number
        if other.state is not State.READY or (is_preferred and other.parting is not None):
            return
        if is_preferred:
            self._prefer(other)
        self._port.hold(link.number, True)
        link.enter(State.LEAVING, self._now.mono_ns)
        link.close_ns = self._in_s(parting.drain_s)

    def _go_on_leaving(self, link: Link) -> None:
        now_ns = self._now.mono_ns
        if link.close_ns is not None:
            if now_ns >= link.close_ns:
                self._close(link)
        elif now_ns - link.closed_ns > CLOSE_AGAIN_S * NS:
            self._close(link)

    def _close(self, link: Link) -> None:
        link.enter(State.LEAVING, self._now.mono_ns)
        link.close_ns = None
        link.closed_ns = self._now.mono_ns
        self._port.close(link.number)

    def _give_up(self, link: Link, words: str) -> None:
        """It is of no use any more, whatever the other one is."""
        if link.state is State.IDLE:
            return
        was_ready = link.state is State.READY
        if was_ready:
            self._port.hold(link.number, True)
        link.failure = VenueError(words)
        self._close(link)
        if was_ready:
            self._hand_over(link)

    def _hand_over(self, lost: Link) -> None:
        """Orders go to the other one, even if that was about to be left."""
        other = self._other(lost)
        if other.state is State.LEAVING and other.close_ns is not None:
            other.enter(State.READY, self._now.mono_ns)
            other.close_ns = None
            self._port.hold(other.number, False)
        if other.state is not State.READY:
            self._preferred = None
        elif self._preferred != other.number:
            self._prefer(other)

    def on_closed(self, session: int, reason: str, code: int) -> None:
        """It ended, or could not be opened; fields as in engine.records.Closed."""
        link = self._links[session]
        state, failure = link.state, link.failure
        expected = link.parting is not None and not link.parting.is_silence
        if state is State.IDLE:
            return
        link.start_anew()
        if state is State.READY:
            link.enter(State.IDLE, self._now.mono_ns)
            self._hand_over(link)
        if failure is not None:
            self._retry_later(link, failure)
        elif expected and self._now.mono_ns - link.connected_ns >= self._timing.lasting * NS:
            link.enter(State.IDLE, self._now.mono_ns)
            link.retry_ns = self._now.mono_ns
        elif state is State.CONNECTING:
            self._on_not_opened(link, reason, code)
        else:
            self._retry_later(link, VenueError(f"{self._venue} was left again: {reason}"))

    def _on_not_opened(self, link: Link, reason: str, code: int) -> None:
        status, wait_s = upgrade_refusal(reason) or (None, None)
        if status in (SLOW_DOWN, BANNED):
            venue_ms = self.venue_ms()
            until_ms = None if wait_s is None else venue_ms + 1000 * wait_s
            self._heed(self.limits.refused(status, until_ms, venue_ms))
        elif link.candidates:
            self._connect_next(link)
            return
        self._retry_later(link, venue_error(code, reason))

    # ---- what the venue says ---------------------------------------------------------------------

    def on_reply(self, session: int, reply: Reply, t_ns: int) -> bool:
        """Any reply, taken off the wire at t_ns (CLOCK_MONOTONIC): its rate limits are noted.
        Whether it answers a request of ours, or ends the session: nobody else wants it then."""
        link = self._links[session]
        self._heed(self.limits.on_reply(reply, self.venue_ms()))
        if link.clock.asked(reply.id):
            self._on_time(link, reply, t_ns)
        elif reply.id in link.asked:
            self._on_answer(link, reply)
        elif reply.status == UNAUTHORIZED and reply.id == "None":
            self._give_up(
                link, f"the venue has logged us out ({reply.code}: {reply.message}): leaving it"
            )
        else:
            return False
        return True

    def on_shutdown(self, session: int) -> None:
        """`serverShutdown`: this session will be cut soon."""
        link = self._links[session]
        if link.state in (State.PREPARING, State.READY):
            words = f"the venue shuts down the server of session {session}"
            self._part(link, Parting(words, self._timing.drain_dying))

    def on_stream_ended(self, session: int) -> None:
        """`eventStreamTerminated`: subscribe again."""
        link = self._links[session]
        if link.state is State.READY:
            self._port.notice(f"the user data stream of session {session} has ended: asking again")
            link.steps.appendleft(self._requests.subscribe_method)

    def _heed(self, pause: Pause | None) -> None:
        if pause is None:
            return
        if not self._started:
            self._failure = VenueError(f"{pause.words}: start again later")
        self._port.pause(self._in_s((pause.until_venue_ms - self.venue_ms()) / 1000))
        if pause.ban:
            self._port.banned(pause.words)
        else:
            self._port.notice(pause.words)

    def _on_time(self, link: Link, reply: Reply, t_ns: int) -> None:
        if link.parting is not None and link.parting.is_silence:
            link.parting = None
            self._port.notice(f"session {link.number} answers again")
        try:
            alarm = link.clock.answer(reply, t_ns, self._now)
        except VenueError as error:
            if reply.status in (SLOW_DOWN, BANNED):
                return
            if link.state is State.READY and reply.status < 500:  # else no session would be better
                self._part(link, Parting(str(error), self._timing.drain))
            elif link.state is State.PREPARING:
                self._give_up(link, str(error))
            return
        if alarm is not None:
            self._port.notice(alarm)

    def _on_answer(self, link: Link, reply: Reply) -> None:
        method, _ = link.asked.pop(reply.id)
        if reply.status in (SLOW_DOWN, BANNED):
            return  # the step is still there, for when the pause is over
        if method in link.steps:
            link.steps.remove(method)
        if method == "account.rateLimits.orders":
            self._counts_ns = self._now.mono_ns  # a refusal is not asked again any sooner
        if reply.status == 200:
            self._on_success(link, method, reply)
        else:
            self._on_refusal(link, method, f"{reply.code}: {reply.message[:200]}")

    def _on_success(self, link: Link, method: str, reply: Reply) -> None:
        if method == "account.rateLimits.orders":
            self.limits.on_limits(reply.rows or (), self.venue_ms())
        elif method == "exchangeInfo":
            try:
                filters = parse_exchange_info(reply.result, self._requests.symbols)
            except VenueError as error:
                self._without_filters(link, str(error))
                return
            self._filters_ns = self._now.mono_ns
            self.limits.on_limits(dicts(reply.result.get("rateLimits")), self.venue_ms())
            self._port.filters(filters)

    def _on_refusal(self, link: Link, method: str, why: str) -> None:
        words = f"{self._venue} refuses `{method}` ({why})"
        if method == "session.logon":
            self._give_up(
                link,
                f"{self._venue} refuses the log-on ({why}): check that venue.private_key_file "
                "belongs to the API key and that the key may trade",
            )
        elif method == "exchangeInfo":
            self._without_filters(link, f"{words}: check the symbols of the rules")
        elif method == self._requests.subscribe_method and self._live:
            words += ": check that the API key may read the user data stream"
            if link.state is State.READY:
                self._part(link, Parting(words, self._timing.drain))
            else:
                self._give_up(link, words)
        else:
            self._port.notice(words)

    def _without_filters(self, link: Link, words: str) -> None:
        """Those that are known stay in force until the next time."""
        if self._filters_ns is None:
            self._give_up(link, words)
        else:
            self._filters_ns = self._now.mono_ns
            self._port.notice(words)

    # ---- the clock -------------------------------------------------------------------------------

    def _watch_our_clock(self) -> None:
        step_ns = self._steps.step_ns(self._now)
        if not step_ns:
            return
        for link in self._links:
            link.clock.forget()
        if self._told_offset_ms is not None:
            self._told_offset_ms = None
            self._port.clock(None)
        self._port.notice(
            f"this machine's clock was set by {step_ns // 1_000_000:+d} ms, or the machine slept: "
            "no order is sent until the venue's clock is measured anew"
        )

    def _tell_clock(self) -> None:
        """One decision of both: the preferred session's clock, else the other's."""
        preferred_first = sorted(self._links, key=lambda link: link.number != self._preferred)
        known = [
            ahead_ns
            for link in preferred_first
            if (ahead_ns := link.clock.ahead_ns(self._now.mono_ns)) is not None
        ]
        if known:
            self._ahead_ns = known[0]
        if self._preferred is None:
            return
        told = self._told_offset_ms
        if not known:
            if told is not None:
                self._told_offset_ms = None
                self._port.clock(None)
                self._port.notice(
                    f"the clock of {self._venue} is not known well enough: no order is sent until "
                    "it is measured anew"
                )
            return
        offset_ms = self._now.offset_ms(known[0])
        if told is None or abs(offset_ms - told) > 1:  # 1 ms is the rounding's
            self._told_offset_ms = offset_ms
            self._port.clock(offset_ms)
