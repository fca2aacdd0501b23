"""Other people's files, in and out: one module a format.

In: `import_files` turns reports, summaries and tables of other programs into records of energy kind `imported`, in
cohorts of their own. Out: a model card's metadata, a study as a table with its data dictionary, and the archive that
the AI Energy Score portal takes.
"""

from energylab.formats.importing import READERS, Checked, Imported, import_files
from energylab.formats.session import Asked, Measure, Session

__all__ = ["READERS", "Asked", "Checked", "Imported", "Measure", "Session", "import_files"]
