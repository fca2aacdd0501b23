"""Import and export of other programs' files: one module per format.

In: `import_files` turns reports, summaries and tables of other programs into records of energy kind `imported`, in
cohorts of their own. Out: a model card's metadata, records as a table with its data dictionary, and the archive that
the AI Energy Score portal takes.
"""

from energylab.formats.common import Asked
from energylab.formats.importing import Imported, formats, import_files

__all__ = ["Asked", "Imported", "formats", "import_files"]
