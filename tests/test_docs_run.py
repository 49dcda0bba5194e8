"""The commands of README, tutorial and other marked pages, run in their order (docs_run.py).

pytest -n 0 -m slow -s tests/test_docs_run.py
"""

import docs_run
import pages
import pytest

MARKED = [page for page in pages.pages() if any(map(docs_run.is_marked, docs_run.candidates(page)))]


@pytest.mark.slow
@pytest.mark.parametrize("page", MARKED)
def test_the_commands_of_a_page_work(page, tmp_path, capsys):
    for line in docs_run.run(page, tmp_path / "scratch"):
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)


@pytest.mark.parametrize("page", MARKED)
def test_a_marked_page_says_of_every_block_whether_it_is_run(page):
    unmarked = [str(b) for b in docs_run.candidates(page) if not docs_run.is_marked(b)]
    assert not unmarked
    for block in docs_run.candidates(page):
        kinds = {comment.partition(":")[0].strip() for comment in block.comments}
        assert kinds <= {"run", "run with", "not run", "before", "needs"}, f"{block}: {kinds}"
        assert of_reason(block), f"{block}: say why it is not run"


def of_reason(block):
    return docs_run.of(block, "not run") != ""


PAGE = """
<!-- run with: --steps=3 -->
<!-- before: echo prepared > file -->

```bash
pip install nothing-of-this-name
cat file
python train.py --steps=9   # the real one
```

<!-- not run: needs the moon -->
```sh
exit 7
```

<!-- run -->
```python
import os
assert "train.py" in os.listdir(".") and not os.path.exists("runs")
print("python ran")
```

<!-- run -->
```bash
false
echo not reached
```

<!-- needs: PSE_JAX_NO_SUCH_VARIABLE -->
<!-- run -->
```bash
exit 8
```

```text
not a command
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    (root / "runs").mkdir(parents=True)
    (root / "train.py").write_text("import sys; open('argv', 'a').write(' '.join(sys.argv[1:]))")
    monkeypatch.setattr(pages, "ROOT", root)
    return root / "page.md"


def test_what_the_markers_do(page, tmp_path):
    page.write_text(PAGE)
    ran, scratch = docs_run.run("page.md", tmp_path / "scratch"), tmp_path / "scratch"
    assert next(ran).startswith("page.md:6: ")
    assert (scratch / "argv").read_text() == "--steps=9 --steps=3"
    assert next(ran) == "page.md:13: not run: needs the moon"
    assert next(ran).startswith("page.md:18: ")
    with pytest.raises(AssertionError, match=r"(?s)page.md:25: exit status 1\nfalse\n"):
        next(ran)
    page.write_text(PAGE.replace("false\n", "true\n"))
    ran = list(docs_run.run("page.md", tmp_path / "again"))
    assert ran[-1] == (
        "page.md:32: PSE_JAX_NO_SUCH_VARIABLE is not set; the rest of the page is left out"
    )
    assert not (page.parent / "file").exists() and len(ran) == 5
