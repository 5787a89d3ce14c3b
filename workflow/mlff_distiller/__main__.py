"""``python -m mlff_distiller <stage>``: every stage of the workflow, by hand."""

import sys

from mlff_distiller.cli import main
from mlff_distiller.utils.streams import GoesOn

sys.stdout, sys.stderr = GoesOn(sys.stdout), GoesOn(sys.stderr)
sys.exit(main())
