"""Lets every test import `support`: the real server and the real program as processes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
