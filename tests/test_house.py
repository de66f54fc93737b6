"""What is read at once: small functions, small files, and variables with a noun for a name."""

import ast

import pytest

import runs

FOLDERS = ("bench", "configs", "docs", "experiments", "kd", "launch", "tests")
FILES = {
    path.relative_to(runs.ROOT).as_posix(): path.read_text("utf-8")
    for folder in FOLDERS
    for path in sorted((runs.ROOT / folder).rglob("*.py"))
}
MOST_LINES = {"function": 60, "file": 400}
NO_NOUNS = {"found", "given", "one", "where"}
NAMED = ("kd/", "tests/")  # not experiments: names are part of their fingerprints
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def lines(function):
    """Those of its code: a docstring may say a word about every argument."""
    whole = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return whole
    docstring = function.body[0]
    return whole - (docstring.end_lineno - docstring.lineno + 1)


def long_functions(text):
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTION)]
    most = MOST_LINES["function"]
    return {node.name: lines(node) for node in functions if lines(node) > most}


def names(text):
    """Of variables, arguments, functions and fields; a library's own names may be used."""
    bound = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.ClassDef, *FUNCTION)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_read_at_once(file):
    assert len(FILES[file].splitlines()) <= MOST_LINES["file"]
    assert long_functions(FILES[file]) == {}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(NAMED)])
def test_a_name_is_a_noun(file):
    assert names(FILES[file]) & NO_NOUNS == set()


def test_the_laws_see_what_they_forbid():
    body = "    pass\n" * 59
    assert long_functions(f"def short():\n{body}") == {}
    assert long_functions(f'def short():\n    """One\n\n    two.\n    """\n{body}') == {}
    assert long_functions(f"def long():\n{body}    pass\n") == {"long": 61}
    text = "for one in found:\n    def given(where): ...\nx = numpy.where(a, b)"
    assert names(text) & NO_NOUNS == {"one", "given", "where"}
