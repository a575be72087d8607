"""Walks through all states, breadth first, so that the first counter-example is a shortest one."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tests.model.invariants import INVARIANTS, Invariant, comes_to_an_end
from tests.model.moves import Moves
from tests.model.world import World


@dataclass(frozen=True)
class Counterexample:
    """A promise that was broken: which, how, and everything that led there."""

    invariant: str
    sentence: str
    timeline: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        """Write it for a reader."""
        lines = [f"{self.invariant}: {self.sentence}, after {len(self.timeline)} moves"]
        lines += [f"  {number:3} {at:4} s  {what}" for number, (at, what) in enumerate(self.timeline, 1)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Result:
    """How far it went: states seen, moves made, how many ends were tried, and what was broken."""

    states: int
    moves: int
    ends: int
    complete: bool
    broken: Counterexample | None


@dataclass
class _Walk:
    """One walk: where every state was first reached from, and what was counted."""

    moves: Moves
    invariants: Sequence[Invariant]
    end_every: int
    parents: dict[int, tuple[int, int, str] | None]
    made: int = 0
    ends: int = 0

    def look(self, before: World, label: str, after: World) -> Counterexample | None:
        """Hold one move against every promise."""
        self.made += 1
        for invariant in self.invariants:
            sentence = invariant(before, after)
            if sentence is not None:
                return self._broken(invariant.__name__, sentence, before, label, after)
        return None

    def keep(self, before: World, label: str, after: World) -> Counterexample | None:
        """Keep a state that is new; every so often see how it ends when nothing more goes wrong."""
        self.parents[hash(after.key)] = (hash(before.key), after.now, label)
        if not self.end_every or len(self.parents) % self.end_every:
            return None
        self.ends += 1
        sentence = comes_to_an_end(self.moves.fair(after))
        if sentence is None:
            return None
        return self._broken("comes_to_an_end", sentence, before, label, after)

    def _broken(self, name: str, sentence: str, before: World, label: str, after: World) -> Counterexample:
        lines = [(after.now, label)]
        at = hash(before.key)
        while (parent := self.parents[at]) is not None:
            at, now, what = parent
            lines.append((now, what))
        return Counterexample(name, sentence, tuple(reversed(lines)))

    def result(self, broken: Counterexample | None, *, complete: bool) -> Result:
        return Result(len(self.parents), self.made, self.ends, complete, broken)


def explore(
    moves: Moves,
    first: World,
    *,
    most: int,
    invariants: Sequence[Invariant] = INVARIANTS,
    end_every: int = 0,
) -> Result:
    """Walk until nothing is new, something is broken, or `most` states were seen.

    Every `end_every`-th state is also run to its end without further faults.
    """
    walk = _Walk(moves, invariants, end_every, {hash(first.key): None})
    queue = deque([first])
    while queue:
        before = queue.popleft()
        for label, after in moves.after(before):
            broken = walk.look(before, label, after)
            if broken is None and hash(after.key) not in walk.parents:
                broken = walk.keep(before, label, after)
                queue.append(after)
            if broken is not None or len(walk.parents) >= most:
                return walk.result(broken, complete=False)
    return walk.result(None, complete=True)
