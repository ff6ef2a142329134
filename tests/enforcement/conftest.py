"""Lets the tests of this folder import their engine on a file, and the one in memory."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "budgets"))
