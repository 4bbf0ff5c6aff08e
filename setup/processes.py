"""Run several processes as one: started together, their output labelled, stopped in order.

Ready-made Procfile runners kill a process that has not stopped after about 5 s. A charge in flight can take longer and
needs the bank until it has ended, so this runner waits longer and stops the bank last.
"""

import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

STOPPING = (("shop", "recovery"), ("bank",))
"""Groups of processes in the order in which they stop. The shop's last charges still need the bank."""


class Processes:
    """The processes of the Procfile, running. `events` yields names of processes that ended, and signals."""

    def __init__(self, commands: dict[str, str], env: dict[str, str], folder: Path) -> None:
        self.events: queue.SimpleQueue[str | int] = queue.SimpleQueue()
        # In new sessions, so that Ctrl-C reaches only this program, which then stops them in order.
        self.running = {
            name: subprocess.Popen(  # noqa: S602 - the commands are the Procfile's.
                f"exec {command}",
                shell=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
                errors="replace",
                env=env,
                cwd=folder,
            )
            for name, command in commands.items()
        }
        self.relays = [threading.Thread(target=self._relay, args=(name,), daemon=True) for name in self.running]
        for relay in self.relays:
            relay.start()

    def _relay(self, name: str) -> None:
        """Print a process's output until it has ended, then report the end as an event."""
        process = self.running[name]
        for line in process.stdout or ():
            try:
                print(f"{name:<8} | {line}", end="", flush=True)
            except OSError:  # The terminal is closed. Continue to read, because a full pipe would block the process.
                continue
        process.wait()
        self.events.put(name)

    def wait(self) -> str | int:
        """Wait for the first event. Return the name of the process that ended, or the number of the signal."""
        return self.events.get()

    def stop(self, patience: float) -> None:
        """Stop group by group: send SIGTERM, wait, and kill a process that has not ended after `patience` seconds."""
        for group in STOPPING:
            processes = [self.running[name] for name in group if name in self.running]
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
        for relay in self.relays:
            relay.join(timeout=2)
