"""`python -m holdfast.cli`, where the `holdfast` script is not on the PATH."""

import sys

from holdfast.cli import main

sys.exit(main())
