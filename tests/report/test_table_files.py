"""Tables as CSV and LaTeX."""

from pse_jax.report.table_files import escape, to_csv, to_latex
from pse_jax.report.tables import Table

TABLE = Table(
    "Classes", ["class", "AP (%)"], [["50% off_#1 & {more}", "-1.5"], ["b", "-"]], "a note",
    [["class", "AP"], ['a "name", quoted', -0.0151234567], ["b", float("nan")]],
)  # fmt: skip


def test_csv_holds_the_full_numbers():
    assert to_csv(TABLE) == 'class,AP\n"a ""name"", quoted",-0.0151234567\nb,\n'
    assert to_csv(Table("t", ["a"], [["1,234"]])) == 'a\n"1,234"\n'


def test_latex():
    assert to_latex(TABLE) == (
        "% Classes; needs \\usepackage{booktabs}\n"
        "% a note\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "class & AP (\\%) \\\\\n"
        "\\midrule\n"
        "50\\% off\\_\\#1 \\& \\{more\\} & $-$1.5 \\\\\n"
        "b & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_what_latex_would_take_for_a_command():
    assert escape("a\\b~c^d<e") == (
        r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\textless{}e"
    )
    assert escape("[-0.5, +1.0]") == "[$-$0.5, +1.0]" and escape("F-16") == "F-16"
