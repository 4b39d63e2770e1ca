"""Tables that commands print."""

import pytest

from millstream.operate.cli.common import plain_table, print_table

TEXTS = ["no answer from [/v1/charges]", "1 error [type=missing, input={}]", ":warning: [bold]"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_others_wrote_is_shown_to_the_letter(text: str, capsys: pytest.CaptureFixture[str]):
    table = plain_table("key", "error")
    table.add_row("o-1", text)
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["o-1", text]
