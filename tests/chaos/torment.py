"""What befalls one slot: its process is killed, stopped and continued, replaced, reloaded and sent
away, one after another as the schedule says."""

import dataclasses
import random
import signal
import time

from chaos.fleet import FENCED_WITHIN_S, MOMENT_WITHIN_S, is_stopped, proceed
from chaos.mirror import CLAIM_KINDS, headline
from chaos.process import Failed
from chaos.proxy import Trap

# A process that is stopped at no request in particular should have got somewhere by then.
STOPPED_AFTER_S = 1


@dataclasses.dataclass
class Struck:
    """A kill or a stop, and what it hit."""

    slot: str
    how: str
    moment: str
    step: str
    # By partition of the process: where it was.
    steps: dict
    # Its last request to the store, and its last words in the log.
    last: str
    said: list


class Torment:
    def __init__(self, storm, slot):
        self.storm, self.slot = storm, slot

    def run(self):
        storm, slot = self.storm, self.slot
        chance = random.Random(f"{storm.seed} {slot.number}")
        for action in storm.schedule.actions[slot.number]:
            if storm.ended.is_set():
                return
            if slot.process is None:
                slot.start()
            match action.name:
                case "kill":
                    self.kill(action)
                case "zombie":
                    self.zombie(action)
                case "leave":
                    slot.drain()
                    slot.process = None
                    storm.ended.wait(action.away_s)
                case "reload":
                    slot.reload(action.detail, chance)
            storm.done[action.name] += 1
        if slot.process is None:
            slot.start()

    # --- strikes ---

    def strike(self, action, how):
        """Lets the moment come, and strikes the process."""
        moment, slot, port = action.moment, self.slot, self.slot.port
        kind = moment.kind
        if kind in CLAIM_KINDS and port.requests["claim"]:
            # It has claimed already.
            kind = "put data"
        trap = Trap(kind, moment.when, moment.number, how, moment.delay_s)
        by_request = None
        text = moment.what
        if moment.what == "request":
            port.trap = trap
            is_sprung = slot.wait_until_struck(trap, MOMENT_WITHIN_S)
            by_request = trap if is_sprung else None
            text = f"{moment.when} {kind}" if is_sprung else "no such request came"
        elif moment.what == "objects":
            slot.wait_until(lambda: port.created >= moment.number, MOMENT_WITHIN_S)
        if moment.what != "request":
            is_kill = how == signal.SIGKILL
            self.storm.ended.wait(moment.delay_s if is_kill else STOPPED_AFTER_S)
        if not trap.sprung.is_set():
            slot.check()
            self.storm.loop.run(strike_now(port, trap))
        self.storm.struck.append(Struck(
            port.slot, how.name, text, headline(trap.steps, by_request), trap.steps, trap.last,
            slot.process.last_words(),
        ))  # fmt: skip

    def kill(self, action):
        self.strike(action, signal.SIGKILL)
        self.slot.killed()
        self.slot.process = None
        self.storm.ended.wait(action.away_s)

    # --- zombies ---

    def zombie(self, action):
        """Stopped, perhaps in the midst of a request, until its session has ended and others may
        have taken over; then it goes on as if nothing had happened."""
        self.strike(action, signal.SIGSTOP)
        slot = self.slot
        stopped, port = slot.process, slot.port
        pid = stopped.process.pid
        if not slot.wait_until(lambda: is_stopped(pid), MOMENT_WITHIN_S):
            raise Failed(f"{slot.name} does not stop")
        taken = self.storm.mirror.taken_over[port.slot]
        what = "stopped past its session"
        try:
            if action.detail == "replaced" and slot.static:
                what = self.replace(stopped, action.away_s)
            else:
                self.storm.ended.wait(action.away_s)
        finally:
            proceed(pid)
        zombies = self.storm.zombies
        zombies[what] += 1
        if self.storm.mirror.taken_over[port.slot] > taken:
            zombies["of these: partitions were taken over meanwhile"] += 1

    def replace(self, stopped, away_s):
        """A second process under the same id; then the first goes on, and one of the two must
        end by itself. Mostly the first: the second if the first had to join anew just then."""
        slot, port, at = self.slot, self.slot.port, self.slot.at
        since = time.monotonic()
        slot.at = 1 - at
        slot.start()
        replacement, its_port = slot.process, slot.port
        slot.wait_until(lambda: its_port.requests["claim"] > 0, MOMENT_WITHIN_S)
        while time.monotonic() - since < away_s:
            slot.check()
            time.sleep(0.05)
        proceed(stopped.process.pid)
        both = [stopped.process, replacement.process]
        deadline = time.monotonic() + FENCED_WITHIN_S
        while all(one.poll() is None for one in both) and time.monotonic() < deadline:
            time.sleep(0.05)
        codes = [one.poll() for one in both]
        if codes == [None, 5]:
            slot.at, slot.process = at, stopped
            return "replaced under its id, the replacement was fenced"
        port.pid = None
        if codes == [None, None] and self.storm.schedule.protocol == "consumer":
            # It waits for the id, for twice the longest session that a broker may have.
            stopped.process.kill()
            stopped.process.wait()
            return "replaced under its id, it waits for it"
        if codes == [5, 5]:
            slot.process = None
        elif codes != [5, None]:
            raise Failed(f"{slot.name} was replaced, and the two ended with {codes}"
                         f"{stopped.tail()}{replacement.tail()}")  # fmt: skip
        return f"replaced under its id, {'both were' if codes == [5, 5] else 'it was'} fenced"


async def strike_now(port, trap):
    """Unless it was struck just now."""
    if not trap.sprung.is_set():
        port.strike(trap)
