"""Print what an image is built from, as NAME=VALUE: the build arguments of the Dockerfile and of compose.yaml.

`make image` and `make compose` call it. It imports the standard library alone, so any Python 3.11 runs it.
"""

import os
from pathlib import Path

from amp_workers.build_info import of_build

if __name__ == "__main__":
    for key, value in of_build(Path(__file__).resolve().parents[1], os.environ).items():
        print(f"{key.upper()}={value}")
