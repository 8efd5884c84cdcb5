"""Sphinx: Markdown pages, and an API reference from docstrings. The build fetches nothing."""

import re
from pathlib import Path

project = "dwf-optim"
author = "dwf-optim authors"
copyright = "2026, dwf-optim authors"
# From pyproject.toml, so that the package need not be installed.
pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
release = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)[1]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["examples"]  # scripts that pages show by literalinclude

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# In docstrings, a name in single backticks is a reference to it.
default_role = "py:obj"
# Every such reference must lead somewhere, except to what these pages do not describe.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|np|numpy|collections|typing|os|scipy|onnx|onnxruntime|hypothesis|st)\..*"),
    (
        r"py:.*",
        r"(.*\.Batch|Any|Callable|Iterable|Mapping|Optimizer|ParamsT|Path|Sequence|Shape|Tensor)",
    ),
    (r"py:.*", r"inference\.(graph\.Graph|origin\.OriginalLayer)"),
    (r"py:.*", r"(bool|bytes|dict|float|int|list|optional|str|tuple|type)"),
]

autodoc_mock_imports = ["lightning", "transformers"]  # their callbacks are documented without them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ParamsT": "ParamsT"}  # else a union of eleven lines
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list, as compact as parameters

html_theme = "furo"
html_title = f"dwf-optim {release}"
html_copy_source = False
html_show_sphinx = False
