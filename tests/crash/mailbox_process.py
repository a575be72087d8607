"""A broker in a process of its own, for test_mailbox_kill: posts events, notes what was accepted.

    python mailbox_process.py URL FIRST LAST ACCEPTED DELIVERED

Not a test. Each line is written with one `write` to a file opened for appending, so that a kill
leaves whole lines only.
"""

import asyncio
import os
import sys
from contextlib import closing

from cloudevents.core.v1.event import CloudEvent

from quietpager.local.broker import Answer, Broker, Subscriber
from quietpager.local.filters import Exact
from quietpager.local.trigger import Trigger
from quietpager.store.opening import open_mailbox

REPLY = b'{"specversion": "1.0", "source": "/reply", "type": "reply", "id": "%s"}'


def note(path: str, line: str) -> None:
    where = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(where, f"{line}\n".encode())
    os.close(where)


async def main(url: str, first: int, last: int, accepted: str, delivered: str) -> None:
    def subscriber(name: str) -> Subscriber:
        async def receive(event: CloudEvent) -> Answer:
            await asyncio.sleep(0.002)
            note(delivered, f"{name} {event.get_id()}")
            if name == "refusing":
                return Answer(400, {}, b"not today")
            if name == "replying":
                body = REPLY % event.get_id().encode()
                return Answer(200, {"content-type": "application/cloudevents+json"}, body)
            return Answer(204)

        return receive

    names = ("replying", "quiet", "replies", "refusing", "dead")
    triggers = [
        Trigger("replying", "replying", Exact({"type": "t"})),
        Trigger("quiet", "quiet", Exact({"type": "t"})),
        Trigger("replies", "replies", Exact({"type": "reply"})),
        Trigger("refusing", "refusing", Exact({"type": "t"}), dead_letter="dead"),
    ]
    with closing(open_mailbox(url)) as mailbox:
        broker = Broker(triggers, {name: subscriber(name) for name in names}, mailbox)
        await broker.start()
        note(accepted, "ready")

        async def post(number: int) -> None:
            event = CloudEvent({"id": f"e{number}", "source": "/test", "type": "t"})
            if await broker.post(event) == 202:
                note(accepted, f"e{number}")

        for number in range(first, last, 4):
            await asyncio.gather(*(post(n) for n in range(number, min(number + 4, last))))
            await asyncio.sleep(0.004)
        await broker.idle()
        await broker.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]))
