"""Run a notebook's cells from top to bottom in one namespace and keep what they print and give.

    python docs/run_notebook.py docs/isthmus.ipynb

A notebook is JSON; this needs no kernel, so the tests run it as it stands.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Execute the code cells, put their outputs into them, and give the namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        printed, value = _cell("".join(cell["source"]), namespace)
        cell["execution_count"], cell["outputs"] = number, []
        if printed:
            text = printed.splitlines(keepends=True)
            cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": text})
        if value is not None:
            data = {"text/plain": repr(value).splitlines(keepends=True)}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = str(value._repr_html_()).splitlines(keepends=True)
            cell["outputs"].append(
                {
                    "output_type": "execute_result",
                    "execution_count": number,
                    "data": data,
                    "metadata": {},
                }
            )
    return namespace


def _cell(source: str, namespace: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line where that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    return printed.getvalue(), value


def main() -> None:
    """Run the notebook that is named on the command line, in place."""
    path = Path(sys.argv[1])
    notebook = json.loads(path.read_text("utf-8"))
    run(notebook)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
