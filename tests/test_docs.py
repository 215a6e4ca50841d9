"""The Python blocks of the pages in docs/ run, a page's in one namespace; what a prompt shows is what is printed."""

import doctest
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    page.name: blocks
    for page in sorted((ROOT / "docs").glob("*.md"))
    if (blocks := re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page):
    names = {"__name__": "page"}
    for i, block in enumerate(PAGES[page]):
        if ">>>" not in block:
            exec(compile(block, page, "exec", dont_inherit=True), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, f"{page}, block {i}", page, 0)
        lines: list[str] = []
        doctest.DocTestRunner(verbose=False).run(test, out=lines.append, clear_globs=False)
        names = test.globs
        assert not lines, "".join(lines)


def test_pages_are_found_and_linked():
    assert "own-algorithm.md" in PAGES
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"(docs/{page})" not in readme] == []
