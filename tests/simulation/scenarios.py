"""The scenarios: each makes a script out of a seed. Times and circumstances vary, the story does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from tests.simulation.script import Act, AgentPlan, CallerPlan, Deed, Script, act
from tests.world.network import Bursts, Conditions

Scenario = Callable[[random.Random], Script]


def answer(rng: random.Random) -> Script:
    """A call is answered, both talk, the caller hangs up."""
    return _one_call(rng, act(rng.uniform(4, 6), "hang_up", "carol"))


def agent_hangs_up(rng: random.Random) -> Script:
    """The same, the other way round."""
    return _one_call(rng, act(rng.uniform(4, 6), "hang_up", "alice"))


def rings_first(rng: random.Random) -> Script:
    """The caller is not answered before the agent is."""
    return _one_call(rng, act(rng.uniform(4, 6), "hang_up", rng.choice(("carol", "alice"))), answer="with_agent")


def hold(rng: random.Random) -> Script:
    """Hold and resume, twice perhaps; the call may end on hold."""
    times = _rising(rng, 2.5, 1.0, 4)
    deeds: tuple[Deed, ...] = ("hold", "resume", "hold", "resume")
    count = rng.randint(1, 4)
    acts = [act(at, does, "alice") for at, does in zip(times[:count], deeds, strict=False)]
    return _one_call(rng, *acts, act(times[count - 1] + rng.uniform(0.4, 1.5), "hang_up", _either(rng)))


def mute(rng: random.Random) -> Script:
    """Mute and unmute, and hold in between, in any order that the page allows."""
    times = _rising(rng, 2.5, 0.7, 4)
    orders: tuple[tuple[Deed, ...], ...] = (
        ("mute", "unmute", "mute", "unmute"),
        ("mute", "hold", "unmute", "resume"),
        ("hold", "mute", "resume", "unmute"),
        ("mute", "hold", "resume", "unmute"),
    )
    acts = [act(at, does, "alice") for at, does in zip(times, rng.choice(orders), strict=True)]
    return _one_call(rng, *acts, act(times[-1] + rng.uniform(0.5, 1.0), "hang_up", _either(rng)))


def quick_fingers(rng: random.Random) -> Script:
    """Buttons faster than ticks, twice the same among them: only what fits is taken."""
    deeds: tuple[Deed, ...] = ("hold", "resume", "mute", "unmute")
    acts, at = [], 2.5
    for _ in range(rng.randint(10, 25)):
        at += rng.choice((0.001, 0.006, 0.015, 0.03, 0.2))
        acts.append(act(at, rng.choice(deeds), "alice"))
    return _one_call(rng, *acts, act(at + rng.uniform(0.0, 0.8), "hang_up", _either(rng)))


def both_hang_up(rng: random.Random) -> Script:
    """BYE and BYE cross on the way, or nearly."""
    at = rng.uniform(3, 5)
    return _one_call(
        rng, act(at, "hang_up", "carol"), act(at + rng.uniform(-0.06, 0.06), "hang_up", "alice"), udp=rng.random() < 0.5
    )


def cancel_race(rng: random.Random) -> Script:
    """The caller gives up just when the agent answers: one of them is first, and both agree on whom."""
    ring = 0.5
    rtt = 0.03
    return _one_call(
        rng,
        act(0.6 + ring + rtt + rng.uniform(-0.15, 0.15), "hang_up", "carol"),
        answer=rng.choice(("with_agent", "with_agent", "at_once")),
        udp=rng.random() < 0.5,
        conversations=None,
        agent={"answers_after_s": ring},
    )


def gives_up_waiting(rng: random.Random) -> Script:
    """Nobody answers, and the caller hangs up; or there is no agent at all."""
    agents = rng.random() < 0.5
    script = _one_call(
        rng,
        act(rng.uniform(2, 7), "hang_up", "carol"),
        answer=rng.choice(("at_once", "with_agent")),
        conversations=0,
        agent={"answers_after_s": None},
        offer_seconds=rng.uniform(0.8, 3.0),
    )
    return script if agents else script.with_(acts=tuple(each for each in script.acts if each.does != "sit_down"))


def rejected_then_taken(rng: random.Random) -> Script:
    """The first agent refuses or does not answer; the second, or the first again, takes it."""
    first = AgentPlan("alice", answers_after_s=None, encoding=_encoding(rng))
    second = AgentPlan("bob", answers_after_s=rng.uniform(0.2, 0.8), encoding=_encoding(rng))
    acts = [act(0.1, "sit_down", "alice"), act(0.4, "sit_down", "bob"), act(0.8, "dial", "carol")]
    if rng.random() < 0.5:
        acts.append(act(1.5, rng.choice(("reject", "hang_up")), "alice"))
    end = rng.uniform(6, 7)
    return _script(
        rng, [*acts, act(end, "hang_up", rng.choice(("carol", "bob")))], end + 3.0, agents=(first, second)
    ).with_(offer_seconds=rng.uniform(1.2, 2.0))


def loss(rng: random.Random) -> Script:
    """A bad network in both directions: loss, bursts, jitter, overtaking, duplicates; signalling over UDP suffers too."""
    bursts = Bursts(enter=0.01, leave=0.4) if rng.random() < 0.4 else None
    media = Conditions(
        delay_s=rng.uniform(0.005, 0.08),
        jitter_s=rng.uniform(0.0, 0.05),
        loss=rng.uniform(0.0, 0.06),
        bursts=bursts,
        duplicate=rng.uniform(0.0, 0.05),
        reorder=rng.uniform(0.0, 0.05),
        reorder_s=0.04,
    )
    lossy = Conditions(delay_s=0.02, jitter_s=0.02, loss=rng.uniform(0.0, 0.25), duplicate=0.1, reorder=0.1)
    times = _rising(rng, 5.0, 1.2, 2)
    return _one_call(
        rng,
        act(times[0], "hold", "alice"),
        act(times[1], "resume", "alice"),
        act(times[-1] + 2.0, "hang_up", _either(rng)),
        media=media,
        signalling=lossy,
        udp=True,
        conversations=None,
        more_seconds=12.0,
        offer_seconds=8.0,
        caller={"gives_up_after_s": 3.0},
    )


def hostile(rng: random.Random) -> Script:
    """Junk, forged and repeated packets, wrong keys, another stream, another address: the call goes on."""
    acts: list[Act] = []
    at = 2.5
    for _ in range(rng.randint(2, 4)):
        who = _either(rng)
        acts += rng.choice(
            (
                [act(at, "new_ssrc", who)],
                [act(at, "wrong_key", who, seconds=rng.uniform(0.2, 0.8))],
                [act(at + 0.02 * n, "flood", who, count=40, spoofed=n % 2 == 0) for n in range(20)],
                [act(at + 0.05 * n, "replay", who) for n in range(8)],
                [act(at, "move", "carol", silence_s=rng.uniform(1.3, 1.6))],
                [act(at, "impair", who, seconds=0.6, loss=0.5)],
            )
        )
        at += rng.uniform(1.2, 1.8)
    return _one_call(rng, *acts, act(at + 1.5, "hang_up", _either(rng)))


def stalled(rng: random.Random) -> Script:
    """The tick's thread does not run for a while: listeners miss it, the recording does not."""
    times = _rising(rng, 2.5, 1.2, 2)
    acts = [act(at, "stall", seconds=rng.uniform(0.03, 0.4)) for at in times]
    buttons: tuple[Deed, ...] = ("hold", "resume")
    acts += [act(times[0] + offset, does, "alice") for offset, does in zip((0.02, 0.6), buttons, strict=True)]
    return _one_call(rng, *acts, act(times[-1] + 1.5, "hang_up", _either(rng)))


def goes_silent(rng: random.Random) -> Script:
    """The caller's telephone dies without a word: the relay ends the call."""
    at = rng.uniform(3, 4)
    return _one_call(rng, act(at, "fall_silent", "carol"), silent_seconds=2.0, relay_hangs_up=True, more_seconds=5.0)


def kill(rng: random.Random) -> Script:
    """kill -9 at any moment, or in the middle of a write; the relay comes back, and so do caller and agent."""
    at = rng.uniform(0.7, 8.0)
    back = at + rng.uniform(0.6, 1.5)
    times = _rising(rng, 2.0, 0.8, 4)
    deeds: tuple[Deed, ...] = ("hold", "resume", "mute", "unmute")
    acts = [act(each, does, "alice") for each, does in zip(times, deeds, strict=True) if each < at]
    acts += [act(at, "kill", in_write=rng.random() < 0.5), act(back, "restart")]
    acts += [act(back + 4.5, "dial", "carol"), act(back + 8.0, "hang_up", _either(rng))]
    return _one_call(rng, *acts, conversations=None, caller={"gives_up_after_s": 2.0})


def killed_twice(rng: random.Random) -> Script:
    """And once more while it recovers, or soon after."""
    first, second = 3.0 + rng.random(), 5.0 + rng.random()
    acts = [
        act(first, "kill", in_write=rng.random() < 0.5),
        act(first + 0.7, "restart"),
        act(first + 0.7 + rng.uniform(0.001, 1.5), "kill", in_write=rng.random() < 0.5),
        act(second + 1.5, "restart"),
        act(second + 6.0, "dial", "carol"),
        act(second + 9.0, "hang_up", _either(rng)),
    ]
    return _one_call(rng, *acts, conversations=None, caller={"gives_up_after_s": 1.0})


def store_outage(rng: random.Random) -> Script:
    """The store takes nothing for a while, and the disk perhaps neither: the call does not notice."""
    away = rng.uniform(1.0, 5.0)
    acts = [act(away, "store_away"), act(away + rng.uniform(2.0, 12.0), "store_back")]
    if rng.random() < 0.5:
        full = rng.uniform(2.0, 4.0)
        acts += [act(full, "disk_full"), act(full + rng.uniform(0.2, 2.5), "disk_free")]
    if rng.random() < 0.3:
        acts += [act(away + 6.0, "kill", in_write=False), act(away + 7.0, "restart")]
    return _one_call(rng, *acts, act(rng.uniform(4, 6), "hang_up", _either(rng)), more_seconds=6.0, conversations=None)


def comes_back(rng: random.Random) -> Script:
    """The agent's WebSocket breaks in mid-call and comes back; or its media break, which ends the call."""
    at = rng.uniform(2.5, 3.5)
    if rng.random() < 0.6:
        acts = [act(at, "lose_socket", "alice"), act(at + rng.uniform(0.1, 1.5), "sit_down", "alice")]
        acts += [act(at + 2.0, "hold", "alice"), act(at + 3.0, "resume", "alice"), act(at + 4, "hang_up", _either(rng))]
        return _one_call(rng, *acts)
    return _one_call(rng, act(at, "lose_media", "alice"), act(at + 2.0, "hang_up", "carol"))


def crowd(rng: random.Random) -> Script:
    """Several callers and fewer agents: each is served in turn, and nobody hears another's call."""
    agents = tuple(
        AgentPlan(
            name,
            encoding=_encoding(rng),
            answers_after_s=rng.uniform(0.2, 0.6),
            completes_after_s=rng.uniform(0.1, 0.5),
        )
        for name in ("alice", "bob", "charlie")[: rng.randint(2, 3)]
    )
    callers = tuple(_caller(rng, name) for name in ("carol", "dave", "erin", "frank")[: rng.randint(3, 4)])
    acts = [act(0.05 + 0.1 * i, "sit_down", agent.name) for i, agent in enumerate(agents)]
    end = 0.0
    for caller in callers:
        at = rng.uniform(0.6, 2.5)
        acts += [act(at, "dial", caller.name), act(at + rng.uniform(3.0, 6.0), "hang_up", caller.name)]
        end = max(end, acts[-1].at)
    for agent in agents:
        at = rng.uniform(2.5, 4.0)
        acts += [act(at, "hold", agent.name), act(at + 0.8, "resume", agent.name)]
        acts += [act(at + 1.2, "mute", agent.name), act(at + 1.7, "unmute", agent.name)]
    return _script(rng, acts, end + 3.0, agents=agents, callers=callers).with_(conversations=None)


def anything(rng: random.Random) -> Script:
    """Several people and many faults, as they come."""
    script = crowd(rng)
    people = [*(each.name for each in script.callers), *(each.name for each in script.agents)]
    acts = list(script.acts)
    for _ in range(rng.randint(3, 10)):
        at, who = rng.uniform(1.0, script.seconds - 3.5), rng.choice(people)
        agent = rng.choice(script.agents).name
        acts += rng.choice(
            (
                [act(at, "hang_up", who)],
                [act(at, rng.choice(("hold", "resume", "mute", "unmute", "reject", "complete")), agent)],
                [act(at, "lose_socket", agent), act(at + rng.uniform(0.1, 1.0), "sit_down", agent)],
                [act(at, "impair", who, seconds=0.5, loss=0.3)],
                [act(at + 0.02 * n, "flood", who, count=30, spoofed=n % 2 == 0) for n in range(5)],
                [act(at, "store_away"), act(at + 2.0, "store_back")],
                [act(at, "stall", seconds=rng.uniform(0.02, 0.2))],
            )
        )
    if rng.random() < 0.4:
        at = rng.uniform(2.0, script.seconds - 2.5)
        acts += [act(at, "kill", in_write=rng.random() < 0.5), act(at + 1.0, "restart")]
    acts.sort(key=lambda each: each.at)
    callers = tuple(_with(each, gives_up_after_s=2.0) for each in script.callers)
    return script.with_(acts=tuple(acts), callers=callers, seconds=script.seconds + 6.0)


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        answer,
        agent_hangs_up,
        rings_first,
        hold,
        mute,
        quick_fingers,
        both_hang_up,
        cancel_race,
        gives_up_waiting,
        rejected_then_taken,
        loss,
        hostile,
        stalled,
        goes_silent,
        kill,
        killed_twice,
        store_outage,
        comes_back,
        crowd,
        anything,
    )
}


def _one_call(
    rng: random.Random,
    *acts: Act,
    udp: bool = False,
    more_seconds: float = 2.5,
    agent: dict[str, Any] | None = None,
    caller: dict[str, Any] | None = None,
    **changes: Any,
) -> Script:
    """Alice sits down, Carol calls, Alice answers: and then what `acts` say."""
    alice = AgentPlan(
        "alice",
        encoding=_encoding(rng),
        answers_after_s=rng.uniform(0.05, 0.8),
        completes_after_s=rng.choice((None, rng.uniform(0.0, 1.0))),
        open_microphone=rng.random() < 0.3,
    )
    carol = _caller(rng, "carol", udp=udp)
    beginning = [act(0.05, "sit_down", "alice"), act(0.6, "dial", "carol")]
    last = max((each.at for each in acts), default=1.0)
    script = _script(
        rng,
        [*beginning, *acts],
        last + more_seconds,
        agents=(_with(alice, **(agent or {})),),
        callers=(_with(carol, **(caller or {})),),
    )
    return script.with_(**changes)


def _script(
    rng: random.Random,
    acts: list[Act],
    seconds: float,
    *,
    agents: tuple[AgentPlan, ...],
    callers: tuple[CallerPlan, ...] | None = None,
) -> Script:
    return Script(
        callers=callers or (_caller(rng, "carol"),),
        agents=agents,
        acts=tuple(acts),
        seconds=seconds,
        waiting_source=rng.choice(("music", "ringback")),
        recorded=rng.choice((("agent", "customer"), ("agent", "customer"), ("agent",), ("customer",), ())),
        media=Conditions(delay_s=rng.uniform(0.001, 0.06), jitter_s=rng.choice((0.0, 0.004))),
        signalling=Conditions(delay_s=rng.uniform(0.002, 0.04), jitter_s=rng.uniform(0.0, 0.02)),
        page_delay_s=rng.uniform(0.002, 0.03),
        trunk_proves_itself=rng.random() < 0.4,
    )


def _caller(rng: random.Random, name: str, *, udp: bool | None = None) -> CallerPlan:
    is_udp = rng.random() < 0.2 if udp is None else udp
    return CallerPlan(
        name,
        encoding=rng.choice(("PCMU", "PCMA")),
        suite=rng.choice(("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")),
        transport="udp" if is_udp else "tls",
    )


def _with(plan: Any, **changes: Any) -> Any:
    return type(plan)(**{**{name: getattr(plan, name) for name in plan.__dataclass_fields__}, **changes})


def _encoding(rng: random.Random) -> Any:
    return rng.choice(("opus", "opus", "PCMU", "PCMA"))


def _either(rng: random.Random) -> str:
    return rng.choice(("carol", "alice"))


def _rising(rng: random.Random, first: float, step: float, count: int) -> list[float]:
    times = [first + rng.random() * 0.3]
    for _ in range(count - 1):
        times.append(times[-1] + step * rng.uniform(0.6, 1.4))
    return times
