"""Run several processes as one: started together, their output labelled, stopped in order.

Ready-made Procfile runners kill what has not stopped after some 5 s. A charge in flight may take longer
than that, and needs the bank until it is done; so this one waits, and stops the bank last.
"""

import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

# The shop first: its last charges still need the bank.
STOPPING = (("shop", "recovery"), ("bank",))


class Processes:
    """The Procfile's processes: started together, their output labelled, stopped in order."""

    def __init__(self, commands: dict[str, str], env: dict[str, str], folder: Path) -> None:
        self.events: queue.SimpleQueue[str | int] = queue.SimpleQueue()
        # Sessions of their own: Ctrl-C reaches this program alone, which then stops them in order.
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
        """Print what a process says until it has ended, then say that it has."""
        process = self.running[name]
        for line in process.stdout or ():
            try:
                print(f"{name:<8} | {line}", end="", flush=True)
            except OSError:  # The terminal is gone; the process must not block for that.
                continue
        process.wait()
        self.events.put(name)

    def wait(self) -> str | int:
        """The name of the first process that ended, or the number of the signal that came."""
        return self.events.get()

    def stop(self, patience: float) -> None:
        """Group by group: ask, wait, and only after `patience` seconds kill."""
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
