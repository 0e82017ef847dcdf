"""The table of agreement on the page is that of its command (`agreement_table`)."""

from agreement_table import BEGIN, END, PAGE, SETTINGS, compared


def test_the_first_row_is_what_the_command_prints():
    depth, ratio, pairs = SETTINGS[0]
    (row,) = compared(depth, ratio, pairs[:1])
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert row in table.splitlines()
    # One line for each setting, below a head of two.
    assert len(table.strip().splitlines()) == 2 + sum(len(pairs) for *_, pairs in SETTINGS)
