"""Several ranks from one process: forked after the imports, most of a small launch's time.

What torchrun would tell each of them is in its environment; torchrun itself is what
test_processes.py uses.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable


def fork(processes: int, work: Callable[[], None], name: str, within_s: float = 200.0) -> None:
    """Run `work` on so many ranks (1: without a process group), and wait for all.

    Must be called while this process has one thread.

    Raises:
        SystemExit: a rank did not end well; all are ended then.
    """
    port = _free_port()
    pids = [_start(rank, processes, port, work) for rank in range(processes)]
    until = time.monotonic() + within_s
    open_pids = set(pids)
    while open_pids:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0 and time.monotonic() < until:
            time.sleep(0.02)
            continue
        open_pids.discard(pid)
        if pid == 0 or status != 0:
            for other in open_pids:
                os.kill(other, 9)
                os.waitpid(other, 0)
            which = f"rank {pids.index(pid)} ended with {status}" if pid else "not done in time"
            sys.exit(f"{name} on {processes} ranks: {which}")


def _start(rank: int, processes: int, port: int, work: Callable[[], None]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if processes > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }  # fmt: skip
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the parent is torn down here


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
