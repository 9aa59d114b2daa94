"""`harpoon` for a chaos run: the simulated exchange is quicker than a real one, so an order may be
given up earlier, and SIGUSR2 shows where it is stuck. All else is as it is for everybody."""

from __future__ import annotations

import faulthandler
import signal
import sys

from engine import inquiries

inquiries.GRACE_MS = 500  # before anything else takes it over

from engine import desk  # noqa: E402
from engine.cli import main  # noqa: E402

desk.REPLY_S = 1.0

faulthandler.register(signal.SIGUSR2)

if __name__ == "__main__":
    sys.exit(main())
