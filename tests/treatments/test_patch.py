"""The diff: line ends, encodings, places, and both programs that apply it."""

from __future__ import annotations

import shutil

import pytest
from tests.treatments.step_scripts import PLAIN
from tests.treatments.trials import apply_patch, assert_same_bits, treated_and_patched

from gradreach.treatments.edit import Edit
from gradreach.treatments.patch import patch_of
from gradreach.treatments.source_file import NoLineError, SourceFile

PROGRAMS = [program for program in ("patch", "git") if shutil.which(program)]
LINE = 'nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]]'


def renamed(file, edit: tuple[int, int, int, int, str]) -> Edit:
    return Edit(str(file), *edit)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a = 1\nb = 2\n", b"a = 1\nbb = 2\n"),
        (b"a = 1\r\nb = 2\r\n", b"a = 1\r\nbb = 2\r\n"),
        (b"a = 1\nb = 2", b"a = 1\nbb = 2"),  # no line feed at the end
        (b"\xef\xbb\xbfa = 1\nb = 2\n", b"\xef\xbb\xbfa = 1\nbb = 2\n"),
        ("# -*- coding: latin-1 -*-\nb = 'é'\n".encode("latin-1"),
         "# -*- coding: latin-1 -*-\nbb = 'é'\n".encode("latin-1")),
        ("a = 'ü'\nb = 'ö'\n".encode(), "a = 'ü'\nbb = 'ö'\n".encode()),
        (b"a = 1\n\x0cb = 2\n", b"a = 1\n\x0cbb = 2\n"),
    ],
)  # fmt: skip
def test_every_kind_of_file_is_patched_to_the_byte(tmp_path, program, before, after):
    file = tmp_path / "train it.py"
    file.write_bytes(before)
    column = 1 if b"\x0c" in before else 0

    patch = patch_of([renamed(file, (2, column, 2, column + 1, "bb"))], root=tmp_path)
    apply_patch(tmp_path, patch.data, program)

    assert file.read_bytes() == after == patch.files["train it.py"]


def test_several_edits_of_one_line_and_of_two_places_are_one_diff(tmp_path):
    file = tmp_path / "pkg" / "a.py"
    file.parent.mkdir()
    lines = ["f(1, 2)", *(f"x{n} = {n}" for n in range(30)), "g(3)"]
    file.write_text("\n".join(lines) + "\n")

    patch = patch_of(
        [
            renamed(file, (1, 5, 1, 6, "20")),
            renamed(file, (1, 0, 1, 1, "ff")),
            Edit.insertion(str(file), 32, 3, ", 4"),
        ],
        root=tmp_path,
    )
    apply_patch(tmp_path, patch.data)

    assert str(patch).count("@@") == 4
    assert file.read_text().splitlines()[0] == "ff(1, 20)"
    assert file.read_text().splitlines()[-1] == "g(3, 4)"


def test_edits_that_overlap_are_an_error(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("abc = 1\n")

    with pytest.raises(ValueError, match="overlaps another edit"):
        patch_of([renamed(file, (1, 0, 1, 2, "x")), renamed(file, (1, 1, 1, 3, "y"))])


def test_file_beside_the_root_moves_the_root_up(tmp_path):
    (tmp_path / "work").mkdir()
    file = tmp_path / "lib.py"
    file.write_text("b = 1\n")

    patch = patch_of([renamed(file, (1, 0, 1, 1, "c"))], root=tmp_path / "work")

    assert patch.root == str(tmp_path)
    assert str(patch).startswith("--- lib.py\n")


def test_what_would_be_no_python_is_refused(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("b = 1\n")

    with pytest.raises(NoLineError, match="cannot be written into"):
        patch_of([renamed(file, (1, 0, 1, 1, "b ="))])


def test_character_that_the_encoding_lacks_is_refused(tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(b"# coding: latin-1\nb = 1\n")

    with pytest.raises(NoLineError, match="cannot hold the change"):
        patch_of([renamed(file, (2, 0, 2, 1, "λ"))])


def test_patch_is_written_and_applied_by_ourselves_as_well(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("b = 1\n")
    patch = patch_of([renamed(file, (1, 0, 1, 1, "c"))], root=tmp_path)

    patch.write(tmp_path / "fix.patch")
    patch.apply()

    assert (tmp_path / "fix.patch").read_bytes() == patch.data
    assert file.read_text() == "c = 1\n"
    assert not patch_of([])


HEADS = {
    "docstring": '"""Doc.\n\nMore.\n"""\n\nfrom __future__ import annotations\n',
    "comment": "#!/usr/bin/env python\n# mine\n",
    "threads": 'import os\n\nos.environ["OMP_NUM_THREADS"] = "1"\n',
}


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("label", ["learning_rate(plateau=2)", "truncation(windows=2)"])
def test_imports_stand_after_what_must_stand_first(tmp_path, head, label):
    text = HEADS[head] + PLAIN.partition('"""A script."""\n\n')[2]

    trial, patched, after = treated_and_patched(tmp_path, text, label)

    assert_same_bits(trial, patched)
    assert after.count("import gradreach as gr") == 1
    assert after.index("import torch") > after.index("import gradreach")
    if label == "truncation(windows=2)":
        assert after.index("gr.treatments.treat(") > after.index("import torch")


@pytest.mark.parametrize(
    ("encode", "ends"),
    [
        (lambda text: text.replace("\n", "\r\n").encode(), b"\r\n"),
        (lambda text: b"\xef\xbb\xbf" + text.encode(), b"\n"),
        (lambda text: ("# coding: latin-1\n# é\n" + text).encode("latin-1"), b"\n"),
        (lambda text: text.replace("    ", "\t").encode(), b"\n"),
    ],
)
@pytest.mark.parametrize(
    "label",
    ["clipping(norm=0.05)", "gating(GRU) + learning_rate(cosine=3)", "learning_rate(finder=10)"],
)
def test_trial_is_reproduced_whatever_the_file_s_form(tmp_path, encode, ends, label):
    trial, patched, _ = treated_and_patched(tmp_path, encode(PLAIN), label)

    assert_same_bits(trial, patched)
    lines = (tmp_path / "train.py").read_bytes().splitlines(keepends=True)
    assert all(line.endswith(ends) for line in lines)
    assert ends == b"\r\n" or not any(line.endswith(b"\r\n") for line in lines)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("if x:\n  opt.step()\n", "if x:\n  clip()\n  opt.step()\n"),
        ("if x: opt.step()\n", "if x: clip(); opt.step()\n"),
        ("a(); opt.step(); b()\n", "a(); clip(); opt.step(); b()\n"),
        ("y = opt.step()\n", "clip()\ny = opt.step()\n"),
        ("f = lambda: opt.step()\n", "f = lambda: (clip(), opt.step())[-1]\n"),
        ("y = [opt.step() for _ in z]\n", "y = [(clip(), opt.step())[-1] for _ in z]\n"),
        ("print(opt.step(), 1)\n", "print((clip(), opt.step())[-1], 1)\n"),
        ("with a:\n\topt.step()  # é\n", "with a:\n\tclip()\n\topt.step()  # é\n"),
    ],
)
def test_line_before_a_step_fits_where_the_step_stands(tmp_path, text, after):
    file = tmp_path / "a.py"
    file.write_text(text)
    source = SourceFile.read(str(file))
    line = next(n for n, each in enumerate(text.splitlines(), 1) if "opt.step()" in each)
    column = text.splitlines()[line - 1].index("opt.step()") + len("opt.step()")

    patch_of(source.before(source.call_ending(line, column), ["clip()"]), root=tmp_path).apply()

    assert file.read_text() == after


def test_removed_statement_leaves_a_block_that_needs_one(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("if x:\n    clip(1)\ny = 0\nclip(2)\nclip(3); z = 1\n")
    source = SourceFile.read(str(file))
    calls = [source.call_ending(*place) for place in ((2, 11), (4, 7), (5, 7))]

    edits = [source.removing(source.statement_of(call)) for call in calls]
    patch_of(edits, root=tmp_path).apply()

    assert file.read_text() == "if x:\n    pass\ny = 0\npass; z = 1\n"


def test_file_that_changed_since_the_trial_is_refused(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")

    with pytest.raises(NoLineError, match="no call that ends at line 1"):
        SourceFile.read(str(file)).call_ending(1, 5)
    with pytest.raises(NoLineError, match="cannot be read as Python"):
        SourceFile.read(str(tmp_path / "gone.py"))
