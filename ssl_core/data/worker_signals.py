"""What a process that loads images does when a signal is sent to the whole group of processes."""

from __future__ import annotations

import os
import signal
import threading


def leave_signals_to_the_main_process() -> None:
    """Lets this worker outlive the signals that ask a run to save itself and stop.

    Ctrl-C, `torchrun` and cluster schedulers signal every process of a group. If the workers ended at
    once, the main process would run into an error before it could save. They end when it tells them to:
    by the queue, by a SIGTERM of its own (which Python sends when it exits), or by ending itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where a SIGTERM still ends a worker
        # Blocked here, and so in every thread that starts from here on, it is left to the thread that waits for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(main_process: int) -> None:
    # A handler would not learn who sent the signal.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process:
        pass
    os._exit(0)
