"""A benchmark's relay that is not in order: whoever is in the second conference hears the first."""

from __future__ import annotations

from dataclasses import replace

from relay.bench import relay_process
from relay.bench.relay_process import BenchRelay
from relay.media import Address, SetCrosspoints, Step


class CrossedRelay(BenchRelay):
    def _opening(self, number: int, members: tuple[int, ...], addresses: list[Address], local: Address) -> Step:
        step = super()._opening(number, members, addresses, local)
        if number != 1:
            return step
        crossed = {
            self._work.leg_id(leg): self._work.leg_id(other) for leg, other in zip(members, range(3), strict=True)
        }
        commands = tuple(
            replace(command, gains=tuple(replace(gain, speaker=crossed[gain.speaker]) for gain in command.gains))
            if isinstance(command, SetCrosspoints)
            else command
            for command in step.commands
        )
        return replace(step, commands=commands)


if __name__ == "__main__":
    relay_process.BenchRelay = CrossedRelay
    relay_process.run()
