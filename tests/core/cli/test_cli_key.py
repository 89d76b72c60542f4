"""`pcdm key`: a key for whoever calls, and the entry by which a server knows it."""

import json

from typer.testing import CliRunner

from pcdm_core.cli import app
from service.keys import Keys, read_hashes


def test_the_entry_knows_the_key() -> None:
    result = CliRunner().invoke(app, ["key", "camera", "--json"])
    made = json.loads(result.stdout)
    assert Keys(read_hashes(made["entry"])).name_of(made["key"]) == "camera"
    assert made["key"] not in made["entry"]


def test_both_are_printed_for_a_reader_and_never_twice_the_same() -> None:
    first, second = (CliRunner().invoke(app, ["key", "camera"]).stdout.split() for _ in range(2))
    keys = [next(word for word in words if word.startswith("pcdm_")) for words in (first, second)]
    assert keys[0] != keys[1]
    assert Keys(read_hashes(first[-1])).name_of(keys[0]) == "camera"


def test_a_name_that_does_not_fit_a_log_line_is_refused() -> None:
    result = CliRunner().invoke(app, ["key", "two words"])
    assert result.exit_code == 2
    assert "two words" in result.stderr
    assert "pcdm_" not in result.stdout
