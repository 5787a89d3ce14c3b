"""``python -m mlff_distiller <stage>``: every stage of the workflow, by hand."""

import sys

from mlff_distiller.cli import main

sys.exit(main())
