"""Help fits a screen, and its examples are commands that the parser takes."""
import argparse, re, shlex

import pytest

from adq.cli import _parser

commands = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
helps = {"": _parser()} | commands


@pytest.mark.parametrize("name", helps)
def test_help_fits_a_screen(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200") # laid out for 80 all the same
    lines = helps[name].format_help().splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 48
    assert all(a.help or a.dest == "command" for a in helps[name]._actions), "an option without a word on it"


@pytest.mark.parametrize("name", helps)
def test_examples_of_the_help_parse(name):
    told = helps[name].format_help().partition("examples:")[2]
    examples = re.findall(r"^  .*?(?:--no-python )?(adq .*)$", told, re.M)
    assert {e.split()[1] for e in examples} == ({name} if name else set(commands))
    for example in examples: _parser().parse_args(shlex.split(example)[1:])
