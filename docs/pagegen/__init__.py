"""Pages made from the program itself, so that no second copy of anything is kept by hand.

Every generator returns the pages it makes: path inside the site to Markdown.
"""

from __future__ import annotations

from pagegen import api, commands, copies, parameters, schema, tasks

#: What makes pages, in the order of the navigation.
GENERATORS = (copies.pages, commands.pages, parameters.pages, tasks.pages, schema.pages, api.pages)
