"""The report as one file: its notebook executed on a release by papermill, rendered by nbconvert."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from energylab.errors import ReleaseError
from energylab.publish import chromium, names, units
from energylab.release import Release

_TEMPLATES = Path(__file__).parent / "templates"
_NOTEBOOK = "05-report.ipynb"


def report(release: Release, output: str | os.PathLike, pdf: bool = False) -> Path:
    """Execute the report's notebook on a release and write it as one file. Nothing is measured.

    Parameters
    ----------
    release : Release
    output : path
        The HTML file to write.
    pdf : bool, default False
        Print a PDF beside it, by Chromium.

    Returns
    -------
    pathlib.Path
        The HTML file: the same bytes for the same release, whenever and wherever it is made.

    Raises
    ------
    ReleaseError
        If the file cannot be written, or the notebook is missing from this installation.
    MissingExtraError
        If a PDF is asked for and there is no Chromium.
    """
    output = Path(output)
    html = render(release)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot write {output}: {error.strerror}; choose another file") from error
    if pdf:
        chromium.print_pdf(output, output.with_suffix(".pdf"))
    return output


def render(release: Release) -> str:
    """Return a release's report as one self-contained page."""
    import nbformat
    import papermill
    from jupyter_client.manager import AsyncKernelManager

    class PrivateKernelManager(AsyncKernelManager):
        """Talk to the kernel over Unix sockets: over TCP it warns that others of this machine could listen."""

        def _transport_default(self) -> str:
            return "ipc"

    with tempfile.TemporaryDirectory(prefix="energylab-report-") as folder:
        source, executed = Path(folder) / "release.json", Path(folder) / _NOTEBOOK
        source.write_bytes(release.to_bytes())
        papermill.execute_notebook(
            str(notebook()),
            str(executed),
            {"release": str(source)},
            kernel_name="python3",
            cwd=folder,
            progress_bar=False,
            kernel_manager_class=PrivateKernelManager,
        )
        executed_notebook = nbformat.read(executed, as_version=4)
    return _to_html(
        executed_notebook, f"Energy ratings of AI models: report of release {release.name}, {units.day(release.date)}"
    )


def notebook() -> Path:
    """Return the report's notebook: the repository's this package is imported from, or the copy in the package."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package.parent / "notebooks" / _NOTEBOOK, package / "_notebooks" / _NOTEBOOK)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise ReleaseError(f"{_NOTEBOOK} is missing from this installation; install energylab again")
    return found


def _to_html(executed, title: str) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(extra_template_basedirs=[str(_TEMPLATES)], template_name="report")
    exporter.exclude_anchor_links = True
    html, _ = exporter.from_notebook_node(executed, resources={"metadata": {"name": names.one_line(title)}})
    return html
