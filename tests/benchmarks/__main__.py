"""`python -m tests.benchmarks` is `./parley bench`."""

import sys

from tests.benchmarks.main import main

sys.exit(main())
