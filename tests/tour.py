"""The notebook docs/tour.ipynb, executed in a kernel where a warning is an error.

``python -m tests.tour`` executes it and keeps what it prints, for people who read it without
running it. Progress is not kept: it differs from run to run.
"""

import pathlib

import nbformat
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[1] / "docs" / "tour.ipynb"
STRICT = "import warnings; warnings.simplefilter('error')"
LENIENT = "warnings.resetwarnings()"  # the kernel warns of itself as it ends


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def executed(folder, timeout_seconds=120):
    """The notebook with the outputs of a run in `folder`, which is not the clone."""
    notebook = read()
    cells = [nbformat.v4.new_code_cell(source) for source in (STRICT, LENIENT)]
    notebook.cells = [cells[0], *notebook.cells, cells[1]]
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=timeout_seconds, resources=resources).execute()
    notebook.cells = notebook.cells[1:-1]
    for number, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata.pop("language_info", None)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """What a cell prints; that it shows nothing else is a law of its own."""
    return "".join(output.get("text", "") for output in cell.outputs)


if __name__ == "__main__":
    nbformat.write(executed(NOTEBOOK.parent), NOTEBOOK)
