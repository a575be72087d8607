"""`python -m quietpager.sandbox --port N [--speed X]`: run the sandbox until it is interrupted."""

import argparse
import asyncio
import contextlib
import signal
import sys

from quietpager.sandbox.server import serve


async def _run(port: int, speed: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready(url: str) -> None:
        sys.stdout.write(f"sandbox ready on {url}\n")
        sys.stdout.flush()

    await serve(port, speed, ready, stop)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m quietpager.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 chooses one")
    parser.add_argument("--speed", type=float, default=1.0, help="divides all waits of the cluster")
    arguments = parser.parse_args()
    if not arguments.speed > 0:
        parser.error("--speed must be greater than 0")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments.port, arguments.speed))


if __name__ == "__main__":
    main()
